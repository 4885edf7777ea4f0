"""The streams of pages: one reader of the database per topic and process, which serves all browsers of the topic.

A topic is a run, or the list of runs. Its reader polls the database four times a second (or when the bell rings),
renders what is new once for each audience (a language and the permitted buttons; for a waiting run each user, because
the reason names other runs) and puts it into the queue of each client. The bell carries no data and nothing is stored
here: a client that is too slow is disconnected and reconnects with the number of the last event that it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.db import DatabaseError, close_old_connections
from django.db.models import Count, Max, Sum
from django.utils import translation
from redis.exceptions import RedisError

from trainingapp.models import Host, RunEvent, TrainingRun
from trainingapp.models.bell import RUNS_GROUP, run_group
from trainingapp.models.run import heartbeat_deadline
from trainingapp.runs.run_page import LOG_TYPES, PARTS, QUICK_PARTS, metric_point, render_log_lines, render_parts

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two polls of the database; with a bell, polling only covers lost rings.
POLL_S = 0.25
POLL_WITH_BELL_S = 2.0
LIST_POLL_S = 1.0
#: Seconds between two evaluations of why a queued run waits.
WAITING_POLL_S = 2.0
#: Seconds of silence after which a stream sends a heartbeat.
HEARTBEAT_S = 10.0
#: Messages that may be queued for a client, and rows read in one query.
QUEUE_SIZE = 256
BATCH_ROWS = 500

#: A few connections to the database serve every stream of the process.
_THREADS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live")


@dataclass(frozen=True, slots=True)
class Message:
    """One Server-Sent Event. `id` is the number of the last event of the run that it covers; None without one."""

    event: str
    data: str
    id: int | None = None

    def encode(self) -> bytes:
        lines = [f"id: {self.id}"] if self.id is not None else []
        lines.append(f"event: {self.event}")
        lines += [f"data: {line}" for line in self.data.splitlines() or [""]]
        return ("\n".join(lines) + "\n\n").encode()


@dataclass(frozen=True, slots=True)
class Audience:
    """Clients that get the same rendering."""

    language: str
    controls: bool = False
    may: frozenset[str] = frozenset()
    #: Id of the user who reads why a run waits: which other runs may be named differs between users.
    reader: int | None = None


@dataclass(eq=False)
class Client:
    """One open stream. `listening` once it has reached the reader's position; `closed` when nothing more is sent."""

    audience: Audience
    listening: bool = False
    closed: bool = False
    queue: asyncio.Queue[Message] = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, messages: Iterable[Message]) -> None:
        """Queue the messages; a client that is QUEUE_SIZE behind is closed and reconnects."""
        for message in messages:
            if self.closed:
                return
            try:
                self.queue.put_nowait(message)
            except asyncio.QueueFull:
                self.close()

    def close(self) -> None:
        self.closed = True
        self.ended.set()

    async def next(self, timeout_s: float) -> Message | None:
        """The next message; None after `timeout_s` without one or when the client is closed."""
        if not self.queue.empty():
            return self.queue.get_nowait()
        get, end = asyncio.ensure_future(self.queue.get()), asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({get, end}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return get.result() if get.done() else None
        finally:
            get.cancel()
            end.cancel()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the database in a thread, which keeps no connection open afterwards."""

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(call, thread_sensitive=False, executor=_THREADS)()


class Reader:
    """Feeds all clients of one topic. Lives as long as it has a client; the next one starts a new reader."""

    poll_s = POLL_S
    readers: dict[tuple[type[Reader], int | str], Reader] = {}

    def __init__(self, key: int | str) -> None:
        self.key = key
        self.clients: set[Client] = set()
        self.position = -1
        self._rung = asyncio.Event()
        self._moved = asyncio.Event()
        self._has_bell = get_channel_layer() is not None
        context = contextvars.Context()  # not the context of the request that happens to be first
        self._tasks = [asyncio.create_task(self._feed(), context=context)]
        if self._has_bell:
            self._tasks.append(asyncio.create_task(self._listen(), context=context))

    @classmethod
    def join(cls, key: int | str, audience: Audience) -> tuple[Reader, Client]:
        """Add a client to the topic's reader, starting it for the first. Pair with `leave`."""
        reader = Reader.readers.get((cls, key))
        if reader is None:
            reader = Reader.readers[cls, key] = cls(key)
        client = Client(audience)
        reader.clients.add(client)
        return reader, client

    def leave(self, client: Client) -> None:
        self.clients.discard(client)
        if not self.clients:
            self.end()

    def end(self) -> None:
        """Stop reading and close every client."""
        if Reader.readers.get((type(self), self.key)) is self:
            del Reader.readers[type(self), self.key]
        for client in self.clients:
            client.close()
        self._moved.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def reached(self, client: Client, position: int) -> None:
        """Return when the reader has reached `position`, or the client is closed."""
        while self.position < max(position, 0) and not client.closed:
            self._moved.clear()
            await self._moved.wait()

    async def _feed(self) -> None:
        try:
            while await self._looked():
                self._moved.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._rung.wait(), POLL_WITH_BELL_S if self._has_bell else self.poll_s)
                self._rung.clear()
        finally:  # after any error: the clients reconnect and start a new reader
            self.end()

    async def _looked(self) -> bool:
        try:
            return await self.look()
        except DatabaseError as error:
            log.warning("a stream could not read the database", topic=self.key, error=str(error))
            await asyncio.sleep(1)
            return True

    async def look(self) -> bool:
        """Read the database and send what is new. False when the topic no longer exists."""
        raise NotImplementedError

    def bell_group(self) -> str:
        raise NotImplementedError

    async def _listen(self) -> None:
        """Poll when the bell rings. Where the bell is broken, polling by the clock continues."""
        layer = get_channel_layer()
        assert layer is not None
        channel = await layer.new_channel()
        try:
            await layer.group_add(self.bell_group(), channel)
            while True:
                await layer.receive(channel)
                self._rung.set()
        except (OSError, RedisError) as error:
            log.warning("the bell is not available", error=str(error))
            self._has_bell = False


class RunReader(Reader):
    """Reads one run: `position` is the number of the newest event that was sent to the clients."""

    key: int

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self._seen: tuple[object, ...] = ()
        self._parts: dict[Audience, dict[str, str]] = {}
        self._is_waiting = False

    def bell_group(self) -> str:
        return run_group(self.key)

    async def look(self) -> bool:
        run = await in_thread(TrainingRun.objects.select_related("dataset", "owner").filter(pk=self.key).first)
        if run is None:
            for client in self.clients:
                client.offer([Message("gone", "")])
            return False
        if self.position < 0:
            self.position = run.event_seq
        seen: tuple[object, ...] = (run.updated_at, run.event_seq, run.shown_status)
        if run.status == TrainingRun.Status.QUEUED:  # why it waits changes with other runs
            seen += (time.monotonic() // WAITING_POLL_S,)
        if seen != self._seen or self.position < run.event_seq:
            await self._send_news(run)
            self._seen = seen
        return True

    async def _send_news(self, run: TrainingRun) -> None:
        """Render for each audience what is new and send it without a pause in between: a client that joins while
        this waits for a thread either receives it here or starts at the new position."""
        if (run.status == TrainingRun.Status.QUEUED) != self._is_waiting:
            self._is_waiting = not self._is_waiting
            self._parts.clear()  # rendered for other audiences
        rows = await in_thread(read_rows, run.pk, self.position, BATCH_ROWS)
        names = PARTS if rows or not self._seen else QUICK_PARTS
        news: dict[Audience, list[Message]] = {}
        while missing := {self._audience(client.audience) for client in self.clients} - news.keys():
            for audience in missing:
                news[audience] = await in_thread(self.render_rows, rows, audience)
                news[audience] += await self._changed_parts(run, names, audience)
        for client in self.clients:
            if client.listening:
                client.offer(news[self._audience(client.audience)])
        if rows:
            self.position = rows[-1].seq
        if len(rows) == BATCH_ROWS:
            self._rung.set()  # there may be more

    def _audience(self, audience: Audience) -> Audience:
        """The audience that sees the same: only the reason why a run waits is rendered for each reader."""
        return audience if self._is_waiting else replace(audience, reader=None)

    async def _changed_parts(self, run: TrainingRun, names: Iterable[str], audience: Audience) -> list[Message]:
        old = self._parts.setdefault(audience, {})
        new = await in_thread(self.render_state, run, PARTS if not old else names, audience)
        changed = {name: html for name, html in new.items() if old.get(name) != html}
        old.update(new)
        return [Message(name, html) for name, html in changed.items()]

    @staticmethod
    def render_rows(rows: list[RunEvent], audience: Audience) -> list[Message]:
        """The rows as messages: each row in exactly one message with a number, in their order."""
        return render_rows(rows, audience.language)

    @staticmethod
    def render_state(run: TrainingRun, names: Iterable[str], audience: Audience) -> dict[str, str]:
        """The named parts of the run's state; a part is sent when it differs from what was sent last."""
        reader = get_user_model().objects.filter(pk=audience.reader).first() if audience.reader else None
        with translation.override(audience.language):
            return render_parts(run, names, controls=audience.controls, may=audience.may, reader=reader)

    def state(self, audience: Audience) -> list[Message]:
        """The parts as they were last sent to this audience; a new audience gets them with the next poll, at once."""
        audience = self._audience(audience)
        if audience not in self._parts:
            self._seen = ()
            self._rung.set()
        return [Message(name, html) for name, html in self._parts.get(audience, {}).items()]


class ListReader(Reader):
    """Watches all runs; its clients are only notified of a change, and fetch what they show."""

    poll_s = LIST_POLL_S
    _seen: dict[str, object] | None = None

    def bell_group(self) -> str:
        return RUNS_GROUP

    async def look(self) -> bool:
        seen = await in_thread(_list_fingerprint)
        if self._seen is not None and seen != self._seen:
            for client in self.clients:
                client.offer([Message("changed", "")])
        self._seen, self.position = seen, 0
        return True


def _list_fingerprint() -> dict[str, object]:
    """Changes whenever a row of the list does, a running run falls silent, or a host appears or disappears."""
    silent = TrainingRun.objects.filter(status=TrainingRun.Status.RUNNING, heartbeat_at__lt=heartbeat_deadline())
    totals = TrainingRun.objects.aggregate(newest=Max("updated_at"), count=Count("pk"), events=Sum("event_seq"))
    alive = Host.objects.filter(seen_at__gte=heartbeat_deadline())
    return {**totals, "silent": silent.count(), "alive": alive.count()}


def read_rows(run_id: int, after: int, most: int, upto: int | None = None) -> list[RunEvent]:
    """The events above number `after`, oldest first."""
    rows = RunEvent.objects.filter(run_id=run_id, seq__gt=after)
    if upto is not None:
        rows = rows.filter(seq__lte=upto)
    return list(rows.order_by("seq")[:most])


def render_rows(rows: list[RunEvent], language: str) -> list[Message]:
    """Messages for the rows, in their order: neighbours of one kind go together, each row in exactly one message."""
    with translation.override(language):
        return [message for kind, group in itertools.groupby(rows, _kind) for message in _messages(kind, list(group))]


def _kind(event: RunEvent) -> str:
    if event.type == RunEvent.Type.STATUS and event.data.get("state") == "started":
        return "rewind"
    return "log" if event.type in LOG_TYPES else str(event.type)


def _messages(kind: str, rows: list[RunEvent]) -> Iterator[Message]:
    if kind == "metrics":
        points = [metric_point(row) for row in rows if not row.superseded]
        yield Message("metrics", json.dumps(points), rows[-1].seq)
    elif kind == "rewind":
        for row in rows:  # the line comes first, without a number: both are sent again if the number is not reached
            due = bool(row.data.get("validation_due"))
            begun = {"seq": row.seq, "step": row.step, "time": row.time.timestamp(), "attempt": row.attempt}
            yield Message("rewind", json.dumps(begun | {"validationDue": due}))
            yield Message("log", render_log_lines([row]), row.seq)
    elif kind == "log":
        yield Message("log", render_log_lines(rows), rows[-1].seq)


async def run_messages(
    run_id: int, audience: Audience, after: int, reader_class: type[RunReader] = RunReader
) -> AsyncGenerator[Message | None, None]:
    """Everything above event `after` of a run, each event once and in order, and its state whenever it changes.

    `reader_class` says what messages are made of it: partials for the pages, or others. None stands for a while without
    news. Ends when the run is deleted, when the reader ends or when the client is too slow; the client then comes back
    with the number of the last event it has seen.
    """
    reader, client = reader_class.join(run_id, audience)
    assert isinstance(reader, RunReader)
    try:
        await reader.reached(client, after)
        client.listening, upto = True, reader.position
        for message in reader.state(audience):
            yield message
        async for message in _backlog(reader, client.audience, after, upto):
            yield message
        async for news in _news(client):
            yield news
    finally:
        reader.leave(client)


async def _backlog(reader: RunReader, audience: Audience, after: int, upto: int) -> AsyncIterator[Message]:
    while after < upto:
        rows = await in_thread(read_rows, reader.key, after, BATCH_ROWS, upto)
        if not rows:
            return
        for message in await in_thread(reader.render_rows, rows, audience):
            yield message
        after = rows[-1].seq


async def list_messages() -> AsyncGenerator[Message | None, None]:
    """A "changed" whenever the list of runs does; None stands for a while without news."""
    reader, client = ListReader.join("runs", Audience(""))
    try:
        async for news in _news(client):
            yield news
    finally:
        reader.leave(client)


async def _news(client: Client) -> AsyncIterator[Message | None]:
    """What comes, and a None each HEARTBEAT_S at the latest since the last None."""
    last_beat = time.monotonic()
    while not (client.closed and client.queue.empty()):
        message = await client.next(max(0.0, last_beat + HEARTBEAT_S - time.monotonic()))
        if message is not None:
            yield message
        if time.monotonic() >= last_beat + HEARTBEAT_S:
            last_beat = time.monotonic()
            yield None


def end_streams() -> None:
    """Close every stream of this process, for a server that shuts down."""
    for reader in list(Reader.readers.values()):
        reader.end()
