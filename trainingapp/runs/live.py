"""The topic of a run: its events, each once and in order, and the parts of its page whenever they change.

Events are sent as soon as they are stored. Parts are rendered once for each audience (a language and the permitted
buttons; for a waiting run each user, because the reason names other runs): at once when the status changes, otherwise
about once a second, and only those that an event or the progress can have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.utils import translation

from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.live_recent import RecentEvents
from trainingapp.runs.run_page import (
    LOG_TYPES,
    PARTS,
    PROGRESS_PARTS,
    QUICK_PARTS,
    metric_point,
    parts_changed_by,
    render_log_lines,
    render_parts,
)
from trainingapp.runs.series import event_rows
from trainingapp.runs.stream_clients import Audience, Batch, Message, Seat, in_thread, in_thread_of
from trainingapp.runs.stream_readers import CLOCK, Key, Reader

log = structlog.get_logger(__name__)

#: Seconds between two renderings of parts that follow the progress.
PARTS_S = 1.0
#: Seconds between two evaluations of why a queued run waits.
WAITING_POLL_S = 2.0
#: Rows read in one query.
BATCH_ROWS = 500
#: Events that a page fetches from the stream when it comes back. With more it loads its log and its charts again.
MOST_BEHIND = 2000

#: What clients have missed is read for one of them at a time, so that a run of a million events holds up no other.
_BACKLOG = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backlog")
#: Parts are rendered one after the other, so that events never wait for them.
_PARTS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts")
#: The columns that decide which parts are rendered.
_WATCHED = (
    *("status", "requested_action", "requested_at", "heartbeat_at", "last_event_at", "not_before", "attempt"),
    *("version", "request_seq", "requests", "error_class", "event_seq", "updated_at"),
)
News = tuple[TrainingRun | None, list[RunEvent]]


class RunReader(Reader[News]):
    """Reads one run: `position` is the number of the newest event that was sent to the clients."""

    key: int
    #: Whether clients that are far behind start again instead of getting all that they missed.
    skips = True

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self._status: tuple[object, ...] = ()
        self._updated_at: object = None
        self._is_waiting = False
        self._waiting_at = 0.0
        self._parts: dict[Audience, dict[str, str]] = {}
        #: All parts of an audience as one batch, for clients that come.
        self._whole: dict[Audience, Batch] = {}
        self._recent = RecentEvents(self.topic, self.render_rows)
        self._due: set[str] = set()
        self._some_due, self._now_due = asyncio.Event(), asyncio.Event()
        self._renderer = asyncio.create_task(self._keep_parts())

    @property
    def topic(self) -> str:
        return f"run.{self.key}"

    @property
    def run_id(self) -> int:
        return self.key

    def tasks(self) -> list[asyncio.Task[None]]:
        return [*super().tasks(), self._renderer]

    @classmethod
    def read(cls, wanted: Mapping[Key, int]) -> Mapping[Key, News]:
        runs = TrainingRun.objects.only(*_WATCHED).in_bulk(list(wanted))
        found: dict[Key, News] = {}
        for pk, position in wanted.items():
            run = runs.get(pk)
            rows: list[RunEvent] = []
            if run is not None and 0 <= position < run.event_seq:
                rows = event_rows(run.pk, position, BATCH_ROWS, run.event_seq)
            found[pk] = (run, rows)
        return found

    async def take(self, found: News) -> None:
        run, rows = found
        if run is None:
            for seat in list(self.seats):
                seat.client.gone(seat)
            return
        if self.position < 0:
            self.position = run.event_seq
        self._note(run, rows)
        if any(_kind(row) == "rewind" for row in rows):
            self._recent.clear()  # events of the attempt before were superseded
        news = await self._rendered_rows(rows)
        newest = rows[-1].seq if rows else self.position
        # Rows may have been removed: what is not there up to the number of the run will not come.
        position = newest if len(rows) == BATCH_ROWS else max(newest, run.event_seq)
        if position > self.position:
            self._recent.append(self.position, position, rows, news)
        # Without a pause: a client that joins either receives them here or starts at the new position.
        for seat in list(self.seats) if rows else []:
            if seat.is_listening:
                seat.client.offer(news[seat.audience.language])
        self.position = position
        if len(rows) == BATCH_ROWS:
            CLOCK.ring()  # there may be more

    def _note(self, run: TrainingRun, rows: list[RunEvent]) -> None:
        """Find out which parts have changed."""
        is_waiting, now = run.status == TrainingRun.Status.QUEUED, time.monotonic()
        if is_waiting != self._is_waiting:
            self._is_waiting = is_waiting
            self._parts.clear()  # rendered for other audiences
            self._whole.clear()
        status = (
            *(run.shown_status, run.requested_action, run.is_quiet, run.is_unanswered, run.attempt, run.not_before),
            *(run.version, run.request_seq, len(run.requests), run.error_class),
        )
        changed = parts_changed_by(rows)
        if status != self._status:
            self._status = status
            self._want({*QUICK_PARTS, *changed}, at_once=True)
            return
        if run.updated_at != self._updated_at:
            self._updated_at = run.updated_at
            changed |= PROGRESS_PARTS
        if run.is_quiet or (is_waiting and now >= self._waiting_at + WAITING_POLL_S):  # time and other runs change it
            self._waiting_at = now
            changed.add("header")
        self._want(changed)

    async def _rendered_rows(self, rows: list[RunEvent]) -> dict[str, Batch]:
        """The rows as a batch for each language of the clients, also of those that came meanwhile."""
        news: dict[str, Batch] = {}
        while rows and (missing := {seat.audience.language for seat in self.seats} - news.keys()):
            for language in missing:
                messages = await in_thread(self.render_rows, rows, language)
                news[language] = Batch(tuple(messages), self.topic)
        return news

    # Parts

    def _want(self, names: Collection[str], *, at_once: bool = False) -> None:
        if names:
            self._due |= set(names)
            self._some_due.set()
        if at_once:
            self._now_due.set()

    async def _keep_parts(self) -> None:
        rendered_at = -PARTS_S
        while True:
            await self._some_due.wait()
            with contextlib.suppress(TimeoutError):
                wait_s = rendered_at + PARTS_S - time.monotonic()
                await asyncio.wait_for(self._now_due.wait(), max(0.0, wait_s))
            names, self._due = self._due, set()
            self._some_due.clear()
            self._now_due.clear()
            try:
                await self._send_parts(names)
            except DatabaseError as error:
                log.warning("the parts of a run could not be read", run=self.key, error=str(error))
                self._want(names)
            except Exception:
                self.end()
                raise
            rendered_at = time.monotonic()

    async def _send_parts(self, names: set[str]) -> None:
        done: set[Audience] = set()
        while missing := {self._audience(seat.audience) for seat in self.seats} - done:
            wanted = {audience: names if audience in self._parts else set(PARTS) for audience in missing}
            is_waiting = self._is_waiting
            for audience, new in (await in_thread_of(_PARTS, self._rendered, wanted)).items():
                if is_waiting == self._is_waiting:
                    self._send_changed(audience, new)
            done |= missing

    def _send_changed(self, audience: Audience, new: dict[str, str]) -> None:
        old = self._parts.setdefault(audience, {})
        changed = tuple(Message(name, html) for name, html in new.items() if old.get(name) != html)
        old.update(new)
        self._whole.pop(audience, None)
        batch = Batch(changed, self.topic)
        for seat in list(self.seats):
            if seat.is_listening and self._audience(seat.audience) == audience:
                seat.client.offer(batch)

    def _rendered(self, wanted: Mapping[Audience, set[str]]) -> dict[Audience, dict[str, str]]:
        run = TrainingRun.objects.select_related("dataset", "owner").filter(pk=self.key).first()
        if run is None:
            return {}
        ordered = {audience: [name for name in PARTS if name in names] for audience, names in wanted.items()}
        return {audience: self.render_state(run, names, audience) for audience, names in ordered.items()}

    def _audience(self, audience: Audience) -> Audience:
        """The audience that sees the same: only the reason why a run waits is rendered for each reader."""
        return audience if self._is_waiting else replace(audience, reader=None)

    # Clients that come

    async def backlog(self, seat: Seat, after: int) -> AsyncIterator[list[Batch]]:
        if self.skips and self.position - after > MOST_BEHIND:
            after = self.position
            yield [Batch((Message("behind", "", after),), self.topic)]
        sent: dict[str, str] = {}
        if self._audience(seat.audience) not in self._parts:
            self._want({"header"}, at_once=True)  # a new audience gets all parts, whichever are due
        while not seat.is_listening and not seat.client.is_closed:
            # From here on to the first `yield` or `await` nothing is sent, so that nothing is lost or sent twice.
            upto = self.position
            seat.is_listening = upto - after <= BATCH_ROWS
            state = self._state(seat.audience, sent)
            sent |= self._parts.get(self._audience(seat.audience), {})
            if state:
                yield state
            while after < upto and not seat.client.is_closed:
                started_at = time.monotonic()
                if ready := self._recent.ready(after, upto, seat.audience.language):
                    after = upto
                    yield ready
                    continue
                after, missed = await in_thread_of(_BACKLOG, self._missed, after, upto, seat.audience.language)
                yield missed
                if not seat.is_listening:
                    await asyncio.sleep(time.monotonic() - started_at)  # half of the time is for the others
                    break

    def _state(self, audience: Audience, sent: Mapping[str, str]) -> list[Batch]:
        """The parts of the page that differ from those that the client was sent."""
        audience = self._audience(audience)
        parts = self._parts.get(audience, {})
        if sent or not parts:
            changed = tuple(Message(name, html) for name, html in parts.items() if sent.get(name) != html)
            return [Batch(changed, self.topic)] if changed else []
        if audience not in self._whole:
            messages = tuple(Message(name, html) for name, html in parts.items())
            self._whole[audience] = Batch(messages, self.topic)
        return [self._whole[audience]]

    def _missed(self, after: int, upto: int, language: str) -> tuple[int, list[Batch]]:
        """The next events above event `after`, and the number of the last one that they cover."""
        if batches := self._recent.rendered(after, upto, language):
            return upto, batches
        # Up to what is kept already, so that it grows to what clients ask for.
        start = self._recent.start
        if start is not None and after < start < upto:
            upto = start
        rows = event_rows(self.key, after, BATCH_ROWS, upto)
        upto = rows[-1].seq if len(rows) == BATCH_ROWS else upto
        self._recent.prepend(after, upto, rows)
        batches = self._recent.rendered(after, upto, language)
        return upto, batches or [Batch(tuple(self.render_rows(rows, language)), self.topic)]

    # Rendering

    @staticmethod
    def render_rows(rows: list[RunEvent], language: str) -> list[Message]:
        """The rows as messages: each row in exactly one message with a number, in their order."""
        return render_rows(rows, language)

    @staticmethod
    def render_state(run: TrainingRun, names: Iterable[str], audience: Audience) -> dict[str, str]:
        """The named parts of the run's state; a part is sent when it differs from what was sent last."""
        reader = get_user_model().objects.filter(pk=audience.reader).first() if audience.reader else None
        with translation.override(audience.language):
            return render_parts(run, names, controls=audience.controls, may=audience.may, reader=reader)


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
