"""Events and streams for page tests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from django.db import transaction
from django.utils import timezone

from tests.helpers.studio import PATIENCE
from trainingapp.contract.series import Point
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.live import RunReader
from trainingapp.runs.series import event_rows
from trainingapp.runs.stream_clients import BEAT, Audience, Client, Message
from trainingapp.runs.stream_readers import Reader, Wanted, follow
from trainingapp.supervision.series_store import append_points


def store_events(run: TrainingRun, *events: dict[str, Any]) -> None:
    """Store events of a run like its supervisor: metrics as points of series, others as rows."""
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update().get(pk=run.pk)
        rows = []
        points: dict[bool, list[Point]] = {False: [], True: []}
        for event in ({"time": timezone.now(), "epoch": 1, "step": 1, **event} for event in events):
            locked.event_seq += 1
            attempt = event.get("attempt") or locked.attempt
            if event["type"] == "metrics":
                data = dict(event["data"])
                time_us = round(event["time"].timestamp() * 1e6)
                split, values = data.pop("split", "train"), data.pop("values", {})
                place = (attempt, time_us, event["epoch"], event["step"])
                points[event.get("superseded", False)].append(Point(locked.event_seq, *place, split, values, data))
            else:
                rows.append(RunEvent(run=locked, seq=locked.event_seq, **{**event, "attempt": attempt}))
        RunEvent.objects.bulk_create(rows)
        for superseded, some in points.items():
            append_points(run.pk, some, superseded=superseded)
        locked.save(update_fields=["event_seq", "updated_at"])


def stored_events(run_id: int, type_: str = "") -> list[RunEvent]:
    """The stored events of a run in order, including metrics; only those of one type if it is given."""
    upto = TrainingRun.objects.get(pk=run_id).event_seq
    return [event for event in event_rows(run_id, 0, upto + 1, upto) if type_ in ("", event.type)]


def line(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "log", "data": {"message": text}, **fields}


def point(step: int, loss: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"type": "metrics", "step": step, "data": {"split": "train", "values": {"loss": loss}}, **fields}


def started(step: int, attempt: int = 2) -> dict[str, Any]:
    data = {"state": "started", "device": "cpu", "resumed_from": "epoch_1.pt"}
    return {"type": "status", "step": step, "attempt": attempt, "data": data}


async def messages(
    kind: type[Reader[Any]], key: int | str, audience: Audience, after: int
) -> AsyncGenerator[Any, None]:
    """Yield the messages of a topic; None represents a heartbeat."""
    async with aclosing(follow(Client(), [Wanted(kind, key, audience, after)])) as news:
        async for batches in news:
            for batch in batches:
                for message in [None] if batch is BEAT else batch.messages:
                    yield message


def run_messages(run_id: int, audience: Audience, after: int) -> AsyncGenerator[Message | None, None]:
    """Yield the messages of a run for its page."""
    return messages(RunReader, run_id, audience, after)


async def numbered(stream: AsyncIterator[Message | None], upto: int, timeout_s: float = 10) -> list[Message]:
    """The numbered messages and the rewinding messages between them, until number `upto` is covered."""
    found = []
    async with asyncio.timeout(PATIENCE * timeout_s):
        async for message in stream:
            if message is not None and (message.id is not None or message.event == "rewind"):
                found.append(message)
                if message.id == upto:
                    break
    return found


async def until(condition: Any, timeout_s: float = 10) -> None:
    """Wait until `condition()` is true, without blocking the loop."""
    async with asyncio.timeout(PATIENCE * timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
