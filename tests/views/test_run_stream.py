"""The stream of a run: every event exactly once and in order, while clients connect and disconnect."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.test import AsyncClient
from django.urls import reverse
from django.utils import timezone

from tests.helpers.studio import PATIENCE
from tests.helpers.world import line, messages, numbered, point, run_messages, started, store_events, until
from trainingapp.models import TrainingRun
from trainingapp.runs import live, stream_clients, stream_readers
from trainingapp.runs.live_lists import ListReader
from trainingapp.runs.run_page import PARTS
from trainingapp.runs.stream_clients import CLIENTS, Audience, Message
from trainingapp.runs.stream_readers import Reader
from trainingapp.supervision.series_store import supersede

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
ENGLISH = Audience("en")
atell = sync_to_async(store_events)


@pytest.fixture(autouse=True)
async def no_reader_is_left() -> AsyncIterator[None]:
    """Whatever a test leaves behind is noticed here."""
    yield
    await until(lambda: not Reader.readers and not CLIENTS.open, timeout_s=2)


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


async def test_a_client_ahead_of_the_reader_gets_no_event_twice(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_readers, "POLL_S", 3600)
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


async def test_clients_that_come_back_together_share_one_reading_and_one_rendering(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    await atell(run, *[line(f"line {number}") for number in range(1, 11)])
    read: list[tuple[int, int]] = []
    rendered: list[list[int]] = []
    original_rows, original_render = live.event_rows, live.render_rows

    def counted_rows(run_id: int, after: int, limit: int, upto: int) -> list[Any]:
        read.append((after, upto))
        return original_rows(run_id, after, limit, upto)

    def counted_render(rows: list[Any], language: str) -> list[Message]:
        rendered.append([row.seq for row in rows])
        return original_render(rows, language)

    monkeypatch.setattr(live, "event_rows", counted_rows)
    monkeypatch.setattr(live, "render_rows", counted_render)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(aclosing(run_messages(run.pk, ENGLISH, 4))) for _number in range(5)]
        for stream in streams:
            assert shown_lines(await numbered(stream, 10)) == [5, 6, 7, 8, 9, 10]
        assert read == [(4, 10)]
        assert rendered == [[5, 6, 7, 8, 9, 10]]
        await atell(run, line("live"))
        assert shown_lines(await numbered(streams[0], 11)) == [11]
        # One that has a part of what is kept, and one that has less.
        for after, lines in ((7, range(8, 12)), (2, range(3, 12))):
            async with aclosing(run_messages(run.pk, ENGLISH, after)) as late:
                assert shown_lines(await numbered(late, 11)) == list(lines)
    assert read[-1] == (2, 4)


async def test_what_was_kept_before_a_new_attempt_is_read_again(run: TrainingRun) -> None:
    await atell(run, point(1, attempt=1), point(2, attempt=1))
    async with aclosing(run_messages(run.pk, ENGLISH, 0)) as first:
        await numbered(first, 2)
        await sync_to_async(transaction.atomic(partial(supersede, run.pk, 2, 1, validation_due=False)))()
        await atell(run, started(2))
        await numbered(first, 3)
        async with aclosing(run_messages(run.pk, ENGLISH, 0)) as second:
            found = await numbered(second, 3)
    assert [item["step"] for item in json.loads(found[0].data)] == [1]


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
    monkeypatch.setattr(stream_clients, "QUEUE_SIZE", 4)
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


async def test_a_client_that_catches_up_is_not_taken_for_a_slow_one(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BATCH_ROWS", 7)
    monkeypatch.setattr(stream_clients, "QUEUE_SIZE", 3)
    await atell(run, *[line(f"line {number}") for number in range(1, 31)])
    async with (
        aclosing(run_messages(run.pk, ENGLISH, 0)) as late,
        aclosing(run_messages(run.pk, ENGLISH, 30)) as live_one,
    ):
        found = await numbered(late, 7)
        for number in range(31, 41):  # more than may wait for a client
            await atell(run, line(f"line {number}"))
            await numbered(live_one, number)
        found += await numbered(late, 40)
    assert shown_lines(found) == list(range(1, 41))


async def test_the_state_is_sent_again_when_it_changes(make: Callable[..., TrainingRun]) -> None:
    run = await sync_to_async(make)(status="running", heartbeat_at=timezone.now(), step=1, total_steps=10)
    async with aclosing(run_messages(run.pk, Audience("en", controls=True), 0)) as stream:
        parts = {}
        async with asyncio.timeout(PATIENCE * 10):
            async for message in stream:
                assert message is not None
                parts[message.event] = message.data
                if len(parts) == len(PARTS):
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
    async with asyncio.timeout(PATIENCE * 10), aclosing(run_messages(run.pk, ENGLISH, 0)) as stream:
        async for message in stream:
            if message is not None and message.event == "header" and "status-silent" in message.data:
                break


async def test_a_deleted_run_ends_its_streams(run: TrainingRun) -> None:
    async with asyncio.timeout(PATIENCE * 10):
        found = []
        async for message in run_messages(run.pk, ENGLISH, 0):
            found.append(message.event if message else None)
            if len(found) == 1:
                await run.adelete()
    assert found[-1] == "gone"


async def test_the_server_can_end_all_streams(run: TrainingRun) -> None:
    async with asyncio.timeout(PATIENCE * 10):
        async for _message in run_messages(run.pk, ENGLISH, 0):
            stream_clients.end_streams()


async def test_a_list_hears_of_changes_and_gets_the_cells_of_runs_that_get_on(
    make: Callable[..., TrainingRun], user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ListReader, "poll_s", 0.0)
    now = timezone.now()
    facts = {"status": "running", "heartbeat_at": now, "total_steps": 10, "total_epochs": 4}
    run, hidden = await sync_to_async(make)(**facts), await sync_to_async(make)(**facts, visibility="private")
    readers = [Audience("en", reader=user.pk), Audience("zh-hans", reader=other_user.pk)]
    async with asyncio.timeout(PATIENCE * 10), AsyncExitStack() as stack:
        streams = [messages(ListReader, "runs", reader, 0) for reader in readers]
        for stream in streams:
            await stack.enter_async_context(aclosing(stream))
        news = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await until(lambda: any(len(one.seats) == 2 and one.position > 0 for one in Reader.readers.values()))
        (reader,) = Reader.readers.values()
        await until(lambda: all(seat.is_listening for seat in reader.seats))
        for one in (hidden, run):
            changes = {"step": 5, "epoch": 2, "updated_at": timezone.now()}
            await TrainingRun.objects.filter(pk=one.pk).aupdate(**changes)
        found: dict[str, dict[str, str]] = {}
        while str(run.pk) not in found or str(hidden.pk) not in found:
            message = await news[0]
            assert message is not None
            assert message.event == "rows"
            found |= json.loads(message.data)
            news[0] = asyncio.ensure_future(anext(streams[0]))
        assert "Epoch 2 of 4" in found[str(run.pk)]["progress"]
        other = await news[1]
        assert other is not None
        assert list(json.loads(other.data)) == [str(run.pk)]
        assert "第 2 轮" in json.loads(other.data)[str(run.pk)]["progress"]
        await sync_to_async((await TrainingRun.objects.aget(pk=run.pk)).transition)("completed")
        changed = await news[0]
        assert changed is not None
        assert changed.id is not None
        assert changed == Message("changed", "", reader.position)
    # Who comes back hears only of what has happened since.
    async with (
        asyncio.timeout(PATIENCE * 10),
        aclosing(messages(ListReader, "runs", ENGLISH, changed.id + 60_000)) as stream,
    ):
        again = asyncio.ensure_future(anext(stream))
        await until(lambda: any(one.position > 0 for one in Reader.readers.values()))
        assert not again.done()
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
    async with (
        asyncio.timeout(PATIENCE * 10),
        aclosing(messages(ListReader, "runs", ENGLISH, changed.id - 60_000)) as stream,
    ):
        assert (await anext(stream)).event == "changed"


# The view


async def client_of(user: User) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(user)
    return client


async def first_chunks(response: Any, count: int) -> str:
    chunks = []
    async with asyncio.timeout(PATIENCE * 10):
        async for chunk in response.streaming_content:
            chunks.append(chunk)
            if len(chunks) == count:
                break
    await response.chunks.aclose()  # as the server does when the client leaves
    return b"".join(chunks).decode()


def address(*topics: str) -> str:
    return f"{reverse('event_stream')}?topics={','.join(topics)}"


async def blocks(response: Any) -> AsyncIterator[str]:
    """The events of a response one by one, as text."""
    rest = ""
    async with asyncio.timeout(PATIENCE * 20):
        async for chunk in response.streaming_content:
            *whole, rest = (rest + chunk.decode()).split("\n\n")
            for block in whole:
                yield block


async def close(response: Any) -> None:
    await response.chunks.aclose()  # as the server does when the client leaves


async def test_the_answer_is_an_uncached_event_stream(run: TrainingRun, user: User) -> None:
    response = await (await client_of(user)).get(address(f"run.{run.pk}"))
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "no-cache" in response.headers["Cache-Control"]
    assert response.headers["X-Accel-Buffering"] == "no"
    assert await anext(blocks(response)) == ": connected"
    await close(response)


async def test_one_stream_carries_several_topics(make: Callable[..., TrainingRun], user: User) -> None:
    one, two = await sync_to_async(make)(), await sync_to_async(make)()
    await atell(one, line("one"), line("two"), line("three"))
    response = await (await client_of(user)).get(address(f"run.{one.pk}:2", f"run.{two.pk}:0", "runs"))
    found: dict[str, list[str]] = {}
    async for block in blocks(response):
        if seq := re.findall(r'data-seq="(\d+)"', block):
            found.setdefault(block.splitlines()[0], []).extend(seq)
            if block.splitlines()[0] == f"topic: run.{one.pk}":
                assert "id: 3" in block
                await atell(two, line("other"))
            else:
                break
    assert found == {f"topic: run.{one.pk}": ["3"], f"topic: run.{two.pk}": ["1"]}
    await close(response)


async def test_a_poll_ends_with_what_there_is(run: TrainingRun, user: User) -> None:
    await atell(run, line("one"), line("two"))
    response = await (await client_of(user)).get(address(f"run.{run.pk}:1", "runs") + "&poll=1")
    found = [block async for block in blocks(response)]
    assert [re.findall(r'data-seq="(\d+)"', block) for block in found if "id: " in block] == [["2"]]


@pytest.mark.parametrize("topics", ["", "x", "run.x", "run.1:x", "run.²", "run.1:-1", "runs,,", "run." + "9" * 30])
async def test_malformed_topics_are_refused(user: User, topics: str) -> None:
    assert (await (await client_of(user)).get(address(topics))).status_code == 400


async def test_a_run_that_is_not_visible_is_gone_and_other_topics_go_ahead(
    run: TrainingRun, user: User, other_user: User
) -> None:
    await TrainingRun.objects.filter(pk=run.pk).aupdate(visibility="private")
    response = await (await client_of(other_user)).get(address(f"run.{run.pk}", "run.4711", "runs:1"))
    stream = blocks(response)
    found = [await anext(stream) for _number in range(4)]
    gone = [f"topic: run.{number}\nevent: gone\ndata: " for number in (run.pk, 4711)]
    assert found[:3] == [": connected", *gone]
    assert "topic: runs\n" in found[3]
    await close(response)


async def test_a_page_that_is_far_behind_is_told_to_load_again(
    run: TrainingRun, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_BEHIND", 2)
    await atell(run, line("one"), line("two"), line("three"))
    response = await (await client_of(user)).get(address(f"run.{run.pk}:0") + "&poll=1")
    text = "\n\n".join([block async for block in blocks(response)])
    assert f"topic: run.{run.pk}\nid: 3\nevent: behind" in text
    assert "data-seq" not in text


async def test_a_stream_ends_with_its_session(run: TrainingRun, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_clients, "HEARTBEAT_S", 0.05)
    client = await client_of(user)
    response = await client.get(address(f"run.{run.pk}", "runs"))
    found = []
    async for block in blocks(response):
        found.append(block)
        if "alive" in block and client.cookies:
            await client.alogout()
            client.cookies.clear()
    assert found[-1] == "event: logged-out\ndata: "


async def test_many_streams_of_one_person_cost_one_check(
    run: TrainingRun, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    original = stream_clients.users_of

    def counted(credentials: Any) -> Any:
        checked.append(len(credentials))
        return original(credentials)

    monkeypatch.setattr(stream_clients, "users_of", counted)
    monkeypatch.setattr(stream_clients, "HEARTBEAT_S", 0.05)
    client = await client_of(user)
    streams = [await client.get(address(f"run.{run.pk}")) for _number in range(3)]
    for response in streams:
        async for block in blocks(response):
            if block == ": alive":
                break
    assert set(checked) == {1}
    for response in streams:
        await close(response)
