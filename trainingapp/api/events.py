"""The event stream of a run for programs: Server-Sent Events with JSON, numbered as the run's events are.

Each event is sent once and in order, under its own number: who comes back with Last-Event-ID goes on with the next one.
What has no number is the state of the run, sent whenever it changes.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Annotated

from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import translation
from django.utils.translation import gettext as _
from ninja import Header, Query, Router, Schema
from pydantic import Field

from trainingapp.api.access import run_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, Id
from trainingapp.api.problems import Problem, wrong_parameter
from trainingapp.api.schemas import TrainingStatusResponse
from trainingapp.models import ApiToken, RunEvent, TrainingRun
from trainingapp.presentation.event_text import event_text
from trainingapp.runs.live import Audience, Message, RunReader, in_thread, run_messages

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
    """Renders the events of a run as JSON."""

    @staticmethod
    def render_rows(rows: list[RunEvent], audience: Audience) -> list[Message]:
        messages = []
        names = ("seq", "type", "level", "attempt", "epoch", "step", "superseded")
        with translation.override(audience.language):
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
) -> StreamingHttpResponse:
    """The events above Last-Event-ID, then new ones, until you disconnect or your token is revoked.

    `event:` is log, metrics, checkpoint, sample or status, each with an `id:`; and state, without one, which is a
    TrainingStatusResponse. A comment every ten seconds shows that the stream lives. A deleted run sends `gone`.
    """
    run = await in_thread(run_for, request, pk)
    after = filters.after or 0
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
            raise wrong_parameter("Last-Event-ID", _("This is no number of an event."))
        after = int(last_event_id)
    after = min(after, run.event_seq)
    messages = run_messages(run.pk, PROGRAMS, after, EventReader)
    if filters.max_s is not None:
        messages = within(messages, filters.max_s)
    response = StreamingHttpResponse(
        _encoded(request, run.pk, messages, after, filters.until_end),
        content_type="text/event-stream",
    )
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _encoded(
    request: ApiRequest, pk: int, messages: AsyncGenerator[Message | None, None], after: int, until_end: bool
) -> AsyncIterator[bytes]:
    """The messages as bytes. A reader who loses the permission gets a last message, and the stream ends."""
    yield b": connected\n\n"
    sent = after
    end: int | None = None  # the number of the last event of a run that rests
    async with aclosing(messages):
        async for message in messages:
            if message is None:
                if not await in_thread(_may_still, request, pk):
                    yield Message("signed-out", "{}").encode()
                    return
                yield b": alive\n\n"
                continue
            yield message.encode()
            sent = message.id or sent
            if until_end and message.event == "state":
                state = json.loads(message.data)
                end = int(state["event_seq"]) if state["status"] in RESTING else None
            if end is not None and sent >= end:
                return


async def within(messages: AsyncGenerator[Message | None, None], most_s: float) -> AsyncGenerator[Message | None, None]:
    """The messages of the next `most_s` seconds."""
    deadline = time.monotonic() + most_s
    async with aclosing(messages):
        while True:
            try:
                yield await asyncio.wait_for(anext(messages), deadline - time.monotonic())
            except (StopAsyncIteration, TimeoutError):
                return


def _may_still(request: ApiRequest, pk: int) -> bool:
    """Whether the caller's token or session is still valid, and they may still see the run."""
    token = request.caller.token
    if token is not None:
        fresh = ApiToken.objects.select_related("user").filter(pk=token.pk).first()
        if fresh is None or not fresh.is_usable or not fresh.user.is_active:
            return False
    else:
        probe = HttpRequest()
        probe.session = SessionStore(request.session.session_key)
        if not get_user(probe).is_authenticated:
            return False
    try:
        run_for(request, pk)
    except Problem:
        return False
    return True
