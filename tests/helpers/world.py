"""Events and streams for the tests of the pages."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from django.db import transaction
from django.utils import timezone

from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import append_events
from trainingapp.runs.live import RunReader
from trainingapp.runs.stream_clients import BEAT, Audience, Client, Message
from trainingapp.runs.stream_readers import Reader, Wanted, follow


def store_events(run: TrainingRun, *events: dict[str, Any]) -> None:
    """Store events of a run as its supervisor does."""
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update().get(pk=run.pk)
        append_events(
            locked, [RunEvent(**{"time": timezone.now(), "epoch": 1, "step": 1, **event}) for event in events]
        )
        locked.save(update_fields=["event_seq", "updated_at"])


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
    """The messages of a topic one by one; None stands for a heartbeat."""
    async with aclosing(follow(Client(), [Wanted(kind, key, audience, after)])) as news:
        async for batches in news:
            for batch in batches:
                for message in [None] if batch is BEAT else batch.messages:
                    yield message


def run_messages(run_id: int, audience: Audience, after: int) -> AsyncGenerator[Message | None, None]:
    """The messages of a run for its page."""
    return messages(RunReader, run_id, audience, after)


async def numbered(stream: AsyncIterator[Message | None], upto: int, timeout_s: float = 10) -> list[Message]:
    """The messages that have a number, and those between them that rewind, until number `upto` is covered."""
    found = []
    async with asyncio.timeout(timeout_s):
        async for message in stream:
            if message is not None and (message.id is not None or message.event == "rewind"):
                found.append(message)
                if message.id == upto:
                    break
    return found


async def until(condition: Any, timeout_s: float = 10) -> None:
    """Wait until `condition()` holds, without holding up the loop."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
