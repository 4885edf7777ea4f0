"""The event stream of the API: JSON, numbered, resumable, ended with its token."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient

from tests.api.conftest import problem, token_of
from tests.helpers.studio import PATIENCE
from tests.helpers.world import line, point, store_events
from trainingapp.accounts import tokens as token_verbs
from trainingapp.models import ApiToken, SeriesChunk, TrainingRun
from trainingapp.runs import stream_clients, stream_readers
from trainingapp.runs.stream_readers import Reader

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
MAKE = Callable[..., TrainingRun]
atell = sync_to_async(store_events)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stream_readers, "POLL_S", 0.02)
    monkeypatch.setattr(stream_readers, "LEAST_S", 0.01)
    yield
    assert not Reader.readers


async def opened(user: User, path: str, *scopes: str, **headers: str) -> Any:
    secret = await sync_to_async(token_of)(user, *scopes)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return await AsyncClient().get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {secret}", **headers})


async def messages(response: Any) -> AsyncIterator[dict[str, str]]:
    """The events of a stream, as a browser takes them."""
    rest = ""
    async with asyncio.timeout(PATIENCE * 30):
        async for chunk in response.streaming_content:
            rest += chunk.decode()
            *whole, rest = rest.split("\n\n")
            for block in whole:
                fields = dict(row.split(": ", 1) for row in block.splitlines() if not row.startswith(":"))
                if fields:
                    yield fields


async def close(response: Any) -> None:
    await response.chunks.aclose()  # as the server does when the client leaves


async def numbered(response: Any, upto: int) -> list[int]:
    """The numbers that come until `upto`; then the stream is left."""
    found = []
    async for message in messages(response):
        if "id" in message:
            found.append(int(message["id"]))
            assert json.loads(message["data"])["seq"] == found[-1]
            if found[-1] == upto:
                break
    await close(response)
    return found


async def test_events_are_json_with_their_numbers(user: User, run: TrainingRun) -> None:
    await atell(run, line("hello"), point(1, 0.5))
    response = await opened(user, f"training/{run.pk}/events?until_end=true")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "no-cache" in response.headers["Cache-Control"]
    found = [message async for message in messages(response)]
    by_event = {message["event"]: json.loads(message["data"]) for message in found}
    assert by_event["log"]["message"] == "hello"
    assert by_event["metrics"]["data"]["values"] == {"loss": 0.5}
    assert (by_event["state"]["status"], by_event["state"]["event_seq"]) == ("pending", 2)


async def test_concurrent_events_are_sent_once_and_in_order(user: User, run: TrainingRun) -> None:
    await atell(run, *[line(f"line {number}") for number in range(1, 11)])
    response = await opened(user, f"training/{run.pk}/events")
    task = asyncio.ensure_future(numbered(response, 30))
    for number in range(11, 31):
        await atell(run, line(f"line {number}"))
    assert await task == list(range(1, 31))


@pytest.mark.parametrize("way", ["header", "parameter"])
async def test_a_reconnecting_client_continues_with_the_next_event(user: User, run: TrainingRun, way: str) -> None:
    await atell(run, *[line(f"line {number}") for number in range(1, 6)])
    seen: list[int] = []
    for upto in (2, 4, 5):
        last = str(seen[-1] if seen else 0)
        if way == "header":
            response = await opened(user, f"training/{run.pk}/events", Last_Event_ID=last)
        else:
            response = await opened(user, f"training/{run.pk}/events?after={last}")
        seen += await numbered(response, upto)
    assert seen == [1, 2, 3, 4, 5]


async def test_an_event_id_of_the_future_skips_no_later_event(user: User, run: TrainingRun) -> None:
    await atell(run, line("one"))
    response = await opened(user, f"training/{run.pk}/events", Last_Event_ID="999")
    task = asyncio.ensure_future(numbered(response, 2))
    await atell(run, line("two"))
    assert await task == [2]


async def test_until_end_ends_with_the_last_event_of_an_idle_run(user: User, make: MAKE) -> None:
    run = await sync_to_async(make)("running")
    response = await opened(user, f"training/{run.pk}/events?until_end=true")

    async def last() -> dict[str, str]:
        found = [message async for message in messages(response)]
        return next(message for message in reversed(found) if "id" in message)

    task = asyncio.ensure_future(last())
    await atell(run, line("nearly"))
    fresh = await TrainingRun.objects.aget(pk=run.pk)
    await sync_to_async(fresh.transition)("completed")
    assert json.loads((await task)["data"])["data"]["to"] == "completed"


async def test_max_s_ends_the_stream_of_a_running_run(user: User, make: MAKE) -> None:
    run = await sync_to_async(make)("queued")
    response = await opened(user, f"training/{run.pk}/events?max_s=0.3")
    assert [message["event"] async for message in messages(response)] == ["state"]


async def test_a_deleted_run_ends_its_stream(user: User, run: TrainingRun) -> None:
    response = await opened(user, f"training/{run.pk}/events")
    events = []
    async for message in messages(response):
        events.append(message["event"])
        if len(events) == 1:
            await run.adelete()
    assert events[-1] == "gone"


@pytest.mark.parametrize("why", ["revoked", "expired", "inactive", "private"])
async def test_a_stream_ends_with_its_token(
    user: User, other_user: User, run: TrainingRun, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(stream_clients, "HEARTBEAT_S", 0.05)
    response = await opened(other_user, f"training/{run.pk}/events")
    events = []
    async for message in messages(response):
        events.append(message["event"])
        if len(events) == 1:
            token = await ApiToken.objects.aget()
            if why == "revoked":
                await sync_to_async(token_verbs.revoke_token)(token)
            elif why == "expired":
                await ApiToken.objects.aupdate(expires_at=token.created_at)
            elif why == "inactive":
                await User.objects.filter(pk=other_user.pk).aupdate(is_active=False)
            else:
                await TrainingRun.objects.aupdate(visibility="private")
    assert events[-1] == "signed-out"


async def test_a_session_can_stream_until_it_ends(
    user: User, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_clients, "HEARTBEAT_S", 0.05)
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(f"/api/v1/training/{run.pk}/events")
    events = []
    async for message in messages(response):
        events.append(message["event"])
        if len(events) == 1:
            await client.alogout()
    assert events[-1] == "signed-out"


async def test_users_without_permission_get_a_problem(user: User, other_user: User, run: TrainingRun) -> None:
    problem(await AsyncClient().get(f"/api/v1/training/{run.pk}/events"), 401)
    problem(await opened(user, f"training/{run.pk}/events", "control"), 403, "scope")
    problem(await opened(user, "training/4711/events"), 404)
    problem(await opened(user, "training/x/events"), 422)
    await TrainingRun.objects.aupdate(visibility="private")
    problem(await opened(other_user, f"training/{run.pk}/events"), 404)


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "²", "9" * 30])
async def test_an_invalid_event_id_is_refused(user: User, run: TrainingRun, last: str) -> None:
    response = await opened(user, f"training/{run.pk}/events", Last_Event_ID=last)
    assert problem(response, 422)["errors"][0]["parameter"] == "Last-Event-ID"


async def test_a_stream_refuses_other_methods(user: User, run: TrainingRun) -> None:
    secret = await sync_to_async(token_of)(user)
    for method in ("post", "put", "delete", "head"):
        call = getattr(AsyncClient(), method)
        response = await call(f"/api/v1/training/{run.pk}/events", headers={"Authorization": f"Bearer {secret}"})
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET"


async def test_a_superseded_point_is_marked(user: User, run: TrainingRun) -> None:
    await atell(run, point(1))
    await SeriesChunk.objects.aupdate(superseded=True)
    response = await opened(user, f"training/{run.pk}/events?until_end=true")
    found = [json.loads(message["data"]) async for message in messages(response) if message["event"] == "metrics"]
    assert [record["superseded"] for record in found] == [True]
