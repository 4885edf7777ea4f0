"""The stream of a run: every event exactly once and in order, while clients connect and disconnect."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.urls import reverse
from django.utils import timezone

from tests.helpers.world import line, numbered, point, started, store_events, until
from trainingapp.models import TrainingRun
from trainingapp.runs import live
from trainingapp.runs.live import Audience, Message, Reader, list_messages, run_messages

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
ENGLISH = Audience("en")
atell = sync_to_async(store_events)


@pytest.fixture(autouse=True)
async def no_reader_is_left() -> AsyncIterator[None]:
    """Whatever a test leaves behind is noticed here."""
    yield
    await until(lambda: not Reader.readers, timeout_s=2)


def shown_lines(messages: list[Message]) -> list[int]:
    return [int(seq) for message in messages for seq in re.findall(r'data-seq="(\d+)"', message.data)]


async def test_a_new_client_gets_everything_in_order(run: TrainingRun) -> None:
    await atell(run, line("one"), line("two"), point(1), point(2), line("three"))
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        found = await numbered(stream, 5)
    assert [(message.event, message.id) for message in found] == [("log", 2), ("metrics", 4), ("log", 5)]
    assert [item["seq"] for item in json.loads(found[1].data)] == [3, 4]
    assert shown_lines(found) == [1, 2, 5]


async def test_a_reconnecting_client_gets_every_event_exactly_once(run: TrainingRun) -> None:
    await atell(run, *[line(f"line {number}") for number in range(1, 6)])
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        before = await numbered(stream, 5)
    await atell(run, line("while away"), point(7))
    async with aclosing(run_messages(run.pk, ENGLISH, before[-1].id or 0)) as stream:
        first = await numbered(stream, 7)
        await atell(run, line("live"))
        after = first + await numbered(stream, 8)
    assert shown_lines(before + after) == [1, 2, 3, 4, 5, 6, 8]


async def test_a_client_ahead_of_the_reader_gets_no_event_twice(run: TrainingRun) -> None:
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as first:
        await anext(first)
        reader = Reader.readers[live.RunReader, run.pk]
        await atell(run, line("one"), line("two"), line("three"))
        assert reader.position == 0
        async with aclosing(run_messages(run.pk, ENGLISH, 2)) as second:
            found = await numbered(second, 3)
    assert shown_lines(found) == [3]


async def test_two_clients_share_one_reader_and_one_rendering(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[int] = []
    original = live.render_rows

    def counted(rows: list[Any], language: str) -> list[Message]:
        rendered.append(len(rows))
        return original(rows, language)

    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as one, aclosing(run_messages(run.pk, ENGLISH, 0)) as two:
        await anext(one)
        await anext(two)
        assert len(Reader.readers) == 1
        monkeypatch.setattr(live, "render_rows", counted)
        await atell(run, line("for both"))
        assert shown_lines(await numbered(one, 1)) == shown_lines(await numbered(two, 1)) == [1]
    assert [count for count in rendered if count] == [1]


async def test_each_language_is_rendered_for_itself(run: TrainingRun) -> None:
    english, chinese = (run_messages(run.pk, Audience(language), 0) for language in ("en", "zh-hans"))
    async with aclosing(english), aclosing(chinese):
        states = {(await anext(stream)).event for stream in (english, chinese)}  # type: ignore[union-attr]
        assert states == {"header"}
        assert len(Reader.readers) == 1


async def test_a_new_attempt_rewinds_the_charts(run: TrainingRun) -> None:
    await atell(run, point(1), point(2), point(3, superseded=True), started(2), point(3, attempt=2))
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        found = await numbered(stream, 5)
    assert [message.event for message in found] == ["metrics", "rewind", "log", "metrics"]
    assert [item["step"] for item in json.loads(found[0].data)] == [1, 2]
    rewind = json.loads(found[1].data)
    assert rewind.pop("time") == pytest.approx(time.time(), abs=60)
    assert rewind == {"seq": 4, "step": 2, "attempt": 2, "validationDue": False}


async def test_a_long_absence_is_sent_in_batches(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BATCH_ROWS", 7)
    await atell(run, *[line(f"line {number}") for number in range(1, 31)])
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        found = await numbered(stream, 30)
        await atell(run, *[line(f"line {number}") for number in range(31, 61)])
        found += await numbered(stream, 60)
    assert shown_lines(found) == list(range(1, 61))


async def test_the_reader_ends_with_its_last_client(run: TrainingRun) -> None:
    tasks = len(asyncio.all_tasks())
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        await anext(stream)
        assert Reader.readers
    assert not Reader.readers
    await until(lambda: len(asyncio.all_tasks()) == tasks)


async def test_a_cancelled_client_is_removed(run: TrainingRun) -> None:
    async def read() -> None:
        async for _message in run_messages(run.pk, ENGLISH, 0):
            pass

    task = asyncio.create_task(read())
    await until(lambda: Reader.readers)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not Reader.readers


async def test_a_slow_client_is_disconnected_and_the_others_continue(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUEUE_SIZE", 4)
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as slow, aclosing(run_messages(run.pk, ENGLISH, 0)) as quick:
        await anext(slow)
        await anext(quick)
        seen: list[int] = []
        for number in range(1, 9):
            await atell(run, line(f"line {number}"))
            seen += shown_lines(await numbered(quick, number))
        late = [message async for message in slow if message is not None and message.id]
        assert seen == list(range(1, 9))
        last = late[-1].id if late else 0
        assert shown_lines(late) == list(range(1, (last or 0) + 1))
        assert (last or 0) < 8


async def test_the_state_is_sent_again_when_it_changes(make: Callable[..., TrainingRun]) -> None:
    run = await sync_to_async(make)(status="running", heartbeat_at=timezone.now(), step=1, total_steps=10)
    async with aclosing(run_messages(run.pk, Audience("en", controls=True), 0)) as stream:
        parts = {}
        async with asyncio.timeout(10):
            async for message in stream:
                assert message is not None
                parts[message.event] = message.data
                if len(parts) == 5:
                    break
            assert "status-running" in parts["header"]
            assert "verb-pause" in parts["header"]
            fields = {"step": 5, "updated_at": timezone.now()}
            await TrainingRun.objects.filter(pk=run.pk).aupdate(**fields)
            async for message in stream:
                if message is not None and message.event == "progress":
                    assert "Step 5 of 10" in message.data
                    break


async def test_users_who_may_not_control_the_run_get_no_buttons(make: Callable[..., TrainingRun]) -> None:
    run = await sync_to_async(make)(status="running", heartbeat_at=timezone.now())
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        message = await anext(stream)
    assert message is not None
    assert message.event == "header"
    assert "verb-pause" not in message.data


async def test_a_silent_run_is_shown_as_silent_without_any_write(make: Callable[..., TrainingRun]) -> None:
    nearly = timezone.now() - timedelta(seconds=9.3)
    run = await sync_to_async(make)(status="running", heartbeat_at=nearly)
    async with asyncio.timeout(10), aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        async for message in stream:
            if message is not None and message.event == "header" and "status-silent" in message.data:
                break


async def test_a_deleted_run_ends_its_streams(run: TrainingRun) -> None:
    async with asyncio.timeout(10):
        found = []
        async for message in run_messages(run.pk, ENGLISH, 0):
            found.append(message.event if message else None)
            if len(found) == 1:
                await run.adelete()
    assert found[-1] == "gone"


async def test_the_server_can_end_all_streams(run: TrainingRun) -> None:
    async with asyncio.timeout(10):
        async for _message in run_messages(run.pk, ENGLISH, 0):
            live.end_streams()


async def test_the_list_stream_only_signals_changes(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.ListReader, "poll_s", 0.05)
    async with asyncio.timeout(10), aclosing(list_messages()) as stream:
        news = asyncio.ensure_future(anext(stream))
        await until(lambda: any(reader.position == 0 for reader in Reader.readers.values()))
        await atell(run, line("news"))
        assert await news == Message("changed", "")


# The view


async def client_of(user: User) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(user)
    return client


async def first_chunks(response: Any, count: int) -> str:
    chunks = []
    async with asyncio.timeout(10):
        async for chunk in response.streaming_content:
            chunks.append(chunk)
            if len(chunks) == count:
                break
    await response._iterator.aclose()  # what the server does by letting the response go
    return b"".join(chunks).decode()


async def test_the_answer_is_an_uncached_event_stream(run: TrainingRun, user: User) -> None:
    response = await (await client_of(user)).get(reverse("run_stream", args=[run.pk]))
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "no-cache" in response.headers["Cache-Control"]
    assert response.headers["X-Accel-Buffering"] == "no"
    assert await first_chunks(response, 1) == ": connected\n\n"


@pytest.mark.parametrize("way", ["header", "address"])
async def test_the_stream_continues_after_the_last_event_id(run: TrainingRun, user: User, way: str) -> None:
    await atell(run, line("one"), line("two"), line("three"))
    client, address = await client_of(user), reverse("run_stream", args=[run.pk])
    if way == "header":
        response = await client.get(address, headers={"Last-Event-ID": "2"})
    else:
        response = await client.get(address + "?after=2")
    text = await first_chunks(response, 9)  # a greeting, seven parts, one message
    assert re.findall(r'data-seq="(\d+)"', text) == ["3"]
    assert "id: 3\n" in text


async def test_an_invalid_event_id_is_refused(run: TrainingRun, user: User) -> None:
    response = await (await client_of(user)).get(reverse("run_stream", args=[run.pk]) + "?after=x")
    assert response.status_code == 400


async def test_a_missing_run_has_no_stream(user: User) -> None:
    assert (await (await client_of(user)).get(reverse("run_stream", args=[4711]))).status_code == 404


async def test_a_stream_ends_with_its_session(run: TrainingRun, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)
    client = await client_of(user)
    response = await client.get(reverse("run_stream", args=[run.pk]))
    content = response.streaming_content  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        text = ""
        async for chunk in content:
            text += chunk.decode()
            if "alive" in text and client.cookies:
                await client.alogout()
                client.cookies.clear()
    assert text.endswith("event: logged-out\ndata: \n\n")
