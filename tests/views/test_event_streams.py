"""Sending streams: readers that do not read are dropped, errors are raised, and no descriptor is left for too many."""

import asyncio
import resource
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from django.urls import reverse

from cvstudio import event_streams
from cvstudio.event_streams import STREAM_PATH, Streams, raise_descriptor_limit, stream_limit
from tests.helpers.studio import PATIENCE
from trainingapp.runs.stream_clients import Batch, Client, Message


class Connection:
    """What a server gives a stream: `send` blocks once `room` chunks have been sent."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent: list[bytes] = []
        self.gone, self.more = asyncio.Event(), asyncio.Event()
        self.transport = self

    async def send(self, message: Mapping[str, Any]) -> None:
        while len(self.sent) >= self.room:
            self.more.clear()
            await self.more.wait()
        self.sent.append(message.get("body", b""))

    async def receive(self) -> Mapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def abort(self) -> None:
        self.gone.set()


class Source:
    """Chunks without an end, or with an error after some; knows whether it has been closed."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.fails_after = fails_after
        self.is_closed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        number = 0
        try:
            while number != self.fails_after:
                number += 1
                yield str(number).encode()
                await asyncio.sleep(0)
            raise ValueError("broken")
        finally:
            self.is_closed = True


async def test_a_reader_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "SLOW_S", 0.05)
    streams, connection, source = Streams(), Connection(room=2), Source()
    async with asyncio.timeout(PATIENCE * 10):
        await streams.pump(source.chunks(), connection.receive, connection.send)
    assert connection.sent == [b"1", b"2"]
    assert connection.gone.is_set()
    assert source.is_closed
    assert not streams.open


async def test_a_client_that_leaves_ends_its_stream() -> None:
    streams, connection, source = Streams(), Connection(room=10_000_000), Source()
    pump = asyncio.create_task(streams.pump(source.chunks(), connection.receive, connection.send))
    while not connection.sent:
        await asyncio.sleep(0)
    assert len(streams.open) == 1
    connection.gone.set()
    async with asyncio.timeout(PATIENCE * 10):
        await pump
    assert source.is_closed
    assert not streams.open


async def test_an_error_of_the_source_is_raised() -> None:
    streams, connection = Streams(), Connection(room=100)
    with pytest.raises(ValueError, match="broken"):
        await streams.pump(Source(fails_after=3).chunks(), connection.receive, connection.send)
    assert not streams.open


class Sender:
    """Sends through the sink of a stream whose chunks wait until they are let go."""

    def __init__(self) -> None:
        self.sink: Callable[[bytes], bool] | None = None
        self.last = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield b"first"
        await self.last.wait()
        yield b"last"


async def test_what_is_sent_directly_keeps_its_place_when_the_connection_is_full() -> None:
    streams, connection, sender = Streams(), Connection(room=2), Sender()
    pump = asyncio.create_task(streams.pump(sender.chunks(), connection.receive, connection.send, sender))
    async with asyncio.timeout(PATIENCE * 10):
        while connection.sent != [b"first"]:
            await asyncio.sleep(0)
        assert sender.sink is not None
        assert sender.sink(b"second")
        assert connection.sent == [b"first", b"second"]  # without a turn of the event loop
        assert sender.sink(b"third")  # taken, although it waits for the connection
        assert not sender.sink(b"too early")
        sender.last.set()
        for _turn in range(5):
            await asyncio.sleep(0)
        assert connection.sent == [b"first", b"second"]
        connection.room = 10
        connection.more.set()
        await pump
    assert connection.sent == [b"first", b"second", b"third", b"last", b""]
    assert not streams.open


async def test_a_reader_that_takes_nothing_is_dropped_whoever_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "SLOW_S", 0.05)
    streams, connection, sender = Streams(), Connection(room=1), Sender()
    pump = asyncio.create_task(streams.pump(sender.chunks(), connection.receive, connection.send, sender))
    async with asyncio.timeout(PATIENCE * 10):
        while not connection.sent:
            await asyncio.sleep(0)
        assert sender.sink is not None
        assert sender.sink(b"second")
        await pump
    assert connection.sent == [b"first"]
    assert connection.gone.is_set()


async def test_an_error_of_the_connection_is_raised_by_the_stream_whoever_sends() -> None:
    streams, sender = Streams(), Sender()
    sent: list[bytes] = []

    async def send(message: Mapping[str, Any]) -> None:
        if sent:
            raise RuntimeError("broken")
        sent.append(message["body"])

    pump = asyncio.create_task(streams.pump(sender.chunks(), Connection(room=1).receive, send, sender))
    async with asyncio.timeout(PATIENCE * 10):
        while not sent:
            await asyncio.sleep(0)
        assert sender.sink is not None
        assert not sender.sink(b"second")
        sender.last.set()
        with pytest.raises(RuntimeError, match="broken"):
            await pump


async def test_a_client_that_cannot_be_sent_to_keeps_nothing_from_others() -> None:
    found: list[bytes] = []

    def broken(_data: bytes) -> bool:
        raise RuntimeError("broken")

    def works(data: bytes) -> bool:
        found.append(data)
        return True

    clients = [Client(sink=broken), Client(sink=works)]
    waiting = [asyncio.create_task(client.take()) for client in clients]
    loop, raised = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    await asyncio.sleep(0)
    for client in clients:
        client.offer(Batch((Message("log", "first"),)))
    await asyncio.sleep(0)
    clients[1].offer(Batch((Message("log", "second"),)))
    async with asyncio.timeout(PATIENCE * 10):
        while b"second" not in b"".join(found):
            await asyncio.sleep(0)
    assert b"first" in b"".join(found)
    assert [str(error) for error in raised] == ["broken"]
    for task in waiting:
        task.cancel()


async def test_a_server_that_stops_waits_for_no_reader() -> None:
    streams, connection, source = Streams(), Connection(room=1), Source()
    pump = asyncio.create_task(streams.pump(source.chunks(), connection.receive, connection.send))
    async with asyncio.timeout(PATIENCE * 10):
        while connection.more.is_set() or not any(stream.since for stream in streams.open):
            await asyncio.sleep(0)
        streams.drop_waiting()
        await pump
    assert connection.gone.is_set()
    assert source.is_closed


def test_streams_leave_descriptors_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, wanted: limits.update(now=wanted))
    assert stream_limit() == 1024 - 256
    raise_descriptor_limit()
    assert limits["now"] == (4096, 4096)
    assert stream_limit() == 4096 - 256
    limits["now"] = (100, 100)
    assert stream_limit() == 50
    limits["now"] = (1024, resource.RLIM_INFINITY)
    raise_descriptor_limit()
    assert limits["now"] == (event_streams.MOST_DESCRIPTORS, resource.RLIM_INFINITY)


def test_the_stream_of_a_browser_is_where_it_is_opened_without_asyncio() -> None:
    assert reverse("event_stream") == STREAM_PATH
