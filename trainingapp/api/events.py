"""The event stream of a run for programs: Server-Sent Events with JSON, numbered as the run's events are.

Each event is sent once and in order, under its own number: a client that reconnects with Last-Event-ID continues with
the next one. What has no number is the state of the run, sent whenever it changes.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated

from django.http import HttpResponseBase
from django.utils import translation
from django.utils.translation import gettext as _
from ninja import Header, Query, Router, Schema
from pydantic import Field

from cvstudio.event_streams import RETRY_AFTER_S, STREAMS, EventStream
from trainingapp.accounts.credentials import Credential
from trainingapp.api.access import run_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, Id
from trainingapp.api.problems import Problem, wrong_parameter
from trainingapp.api.schemas import TrainingStatusResponse
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.presentation.event_text import event_text
from trainingapp.runs.live import RunReader
from trainingapp.runs.stream_clients import CONNECTED, Audience, Client, Message, in_thread
from trainingapp.runs.stream_readers import Wanted, follow

router = Router(tags=["training"])

ABOUT_LAST = "Number of the last event that you have."
#: Audiences differ by language; the one of the API is English, as logs are.
PROGRAMS = Audience("en")
#: States in which a run records no further events by itself.
RESTING = ("pending", "paused", "completed", "failed", "stopped")


class EventFilters(Schema):
    """Query parameters of the stream."""

    after: int | None = Field(None, ge=0, le=MOST_ID, description="As Last-Event-ID, where no header can be sent.")
    until_end: bool = Field(False, description="End the stream when the run is neither queued nor training (any more).")
    max_s: float | None = Field(
        None, gt=0, le=86_400, description="End the stream after so many seconds at the latest."
    )


class EventReader(RunReader):
    """Renders the events of a run as JSON. A client gets all of them, however many it has missed."""

    skips = False
    topic = ""

    @staticmethod
    def render_rows(rows: list[RunEvent], language: str) -> list[Message]:
        messages = []
        names = ("seq", "type", "level", "attempt", "epoch", "step", "superseded")
        with translation.override(language):
            for row in rows:
                text = {} if row.type == RunEvent.Type.METRICS else {"message": event_text(row)}
                about = {name: getattr(row, name) for name in names}
                record = {**about, "time": row.time.isoformat(), **text, "data": row.data}
                messages.append(Message(str(row.type), json.dumps(record, ensure_ascii=False), row.seq))
        return messages

    @staticmethod
    def render_state(run: TrainingRun, names: Iterable[str], audience: Audience) -> dict[str, str]:
        return {"state": TrainingStatusResponse.model_validate(run).model_dump_json()}


@router.get("/{pk}/events", response={200: None}, summary="Event stream of a run")
async def stream_events(
    request: ApiRequest,
    pk: Id,
    filters: Query[EventFilters],
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description=ABOUT_LAST)] = None,
) -> HttpResponseBase:
    """The events above Last-Event-ID, then new ones, until you disconnect or your token is revoked.

    `event:` is log, metrics, checkpoint, sample or status, each with an `id:`; and state, without one, which is a
    TrainingStatusResponse. Metrics of the split system are what the trainer measures of its machine. A comment every
    ten seconds shows that the stream lives. A deleted run sends `gone`.
    """
    if STREAMS.is_full:
        raise Problem(503, _("Too many streams are open."), headers={"Retry-After": str(RETRY_AFTER_S)})
    run = await in_thread(run_for, request, pk)
    after = filters.after or 0
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
            raise wrong_parameter("Last-Event-ID", _("This is no number of an event."))
        after = int(last_event_id)
    token = request.caller.token
    credential = Credential(token=token.pk) if token else Credential(session=request.session.session_key or "")
    client = Client(credential, farewell=Message("signed-out", "{}"), is_single=True)
    topic = Wanted(EventReader, run.pk, PROGRAMS, min(after, run.event_seq))
    return EventStream(_encoded(client, topic, until_end=filters.until_end, max_s=filters.max_s))


async def _encoded(
    client: Client, topic: Wanted, *, until_end: bool, max_s: float | None
) -> AsyncGenerator[bytes, None]:
    """The messages as bytes, up to the last event of a run that rests or for `max_s` seconds if these are wanted."""
    timer = asyncio.get_running_loop().call_later(max_s, client.finish) if max_s is not None else None
    sent = topic.after
    end: int | None = None  # the number of the last event of a run that rests
    try:
        yield CONNECTED.data
        async with aclosing(follow(client, [topic])) as news:
            async for batches in news:
                for message in (message for batch in batches for message in batch.messages):
                    sent = message.id or sent
                    if until_end and message.event == "state":
                        state = json.loads(message.data)
                        end = int(state["event_seq"]) if state["status"] in RESTING else None
                yield b"".join(batch.data for batch in batches)
                if end is not None and sent >= end:
                    return
    finally:
        if timer is not None:
            timer.cancel()
