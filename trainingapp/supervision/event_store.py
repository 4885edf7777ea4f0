"""From RUN_DIR/events.jsonl to the database: every event exactly once, whatever dies in between."""

import time
from collections.abc import Iterable
from copy import copy
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.events import EVENTS_FILE, end_of_lines, read_events
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.run import Status, append_events
from trainingapp.models.text import storable
from trainingapp.supervision.log_rate_limit import Sieve, give_back, shortened
from trainingapp.supervision.words import WORD_FIELDS, note_start, note_word

Event = dict[str, Any]

BATCH_BYTES = 1 << 18
FINAL_STATES = frozenset({"completed", "paused", "stopped", "interrupted", "failed"})
#: Keys that every event has, and `level`: they have columns of their own.
ENVELOPE = frozenset({"type", "time", "attempt", "epoch", "step", "level"})
#: Read from an event and not kept with it.
PASSING = frozenset({"stored_bytes"})
#: The columns that storing events may change.
STORED_FIELDS = [
    *("event_seq", "event_offset", "heartbeat_at", "updated_at", "device", "phase"),
    *("epoch", "total_epochs", "step", "total_steps", "elapsed_s", "eta_s"),
    *("metrics", "best_metric_name", "best_metric", "best_epoch"),
    *WORD_FIELDS,
    *("spent_s", "last_event_at", "error_class", "error_message", "error_lines"),
]


_CUT_SHORT = _("events.jsonl was cut short by %(count)d bytes. What was stored of them stays.")
_LATE = _("An earlier attempt still writes, on a host that was given up. Only attempt %(attempt)d is heard.")


class LostRunError(Exception):
    """The run is in other hands: another attempt, another worker, or no longer running."""


class EventStore:
    """Carries the events of one attempt into the database, under the lock of the run's row.

    The row holds the byte up to which the file is stored, and moves on in the same transaction as the events: a crash
    loses both or neither. `run` is the row as last seen, `final` the last word of the trainer once it has said it.

    Two fences: who stores must be the run's worker in its present attempt, and once the file says that this attempt has
    started, events of earlier ones are left out. A trainer says so when it holds the lock of the run's folder, so what
    comes later of another is of a host that was given up, shares the disk without locks, and does not know it yet.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.fence = (run.attempt, run.worker)
        self.path = run.folder / EVENTS_FILE
        self.final: Event | None = None
        #: That the trainer said it started with.
        self.batch_size: int | None = None
        self._has_begun = False
        self._sieve = Sieve()
        self._counted_at = time.monotonic()
        for row in run.events.filter(type=RunEvent.Type.STATUS, attempt=run.attempt).order_by("seq"):
            self._note_status(row.data)

    def locked(self) -> TrainingRun:
        """The row under its lock, within the caller's transaction. Raises LostRunError when it is another's now."""
        row = TrainingRun.objects.select_for_update().filter(pk=self.run.pk).first()
        if row is None or (row.attempt, row.worker) != self.fence or row.status != Status.RUNNING:
            raise LostRunError(f"Run {self.run.pk} (attempt {self.fence[0]}) is in other hands.")
        return row

    def has_news(self) -> bool:
        """Whether the file has grown beyond what is stored, or was cut short before it."""
        return self.path.exists() and self.path.stat().st_size != self.run.event_offset

    def look(self) -> None:
        """Read the row without writing it. Raises LostRunError."""
        row = TrainingRun.objects.filter(pk=self.run.pk).first()
        if row is None or (row.attempt, row.worker) != self.fence or row.status != Status.RUNNING:
            raise LostRunError(f"Run {self.run.pk} (attempt {self.fence[0]}) is in other hands.")
        self.run = row

    def pull(self) -> list[Event]:
        """Store the next batch of events, and a heartbeat in any case; returns the events. Raises LostRunError."""
        start = self._start()
        batch = list(read_events(self.path, start, BATCH_BYTES))
        sieve, now = copy(self._sieve), time.monotonic()  # a transaction that fails is made again from the same
        with transaction.atomic():
            row = self.locked()
            if row.event_offset != self.run.event_offset:
                batch, start = [], row.event_offset  # somebody else stored them: go on from there next time
            events = [storable(event.as_data()) for event, _offset in batch]
            kept = self._kept(events, sieve)
            if start < row.event_offset:
                kept.insert(0, _notice(_CUT_SHORT % {"count": row.event_offset - start}))
            row.event_offset = batch[-1][1] if batch else start
            if batch:
                row.last_event_at = timezone.now()
            self._store(row, kept)
            row.heartbeat_at = timezone.now()
            row.spent_s += now - self._counted_at
            row.save(update_fields=STORED_FIELDS)
        self.run, self._sieve, self._counted_at = row, sieve, now
        self._note(events, kept)
        if _is_flood(events, kept):
            give_back(self.path, start, row.event_offset)
        if kept:
            ring(row.pk)
        return events

    def _start(self) -> int:
        """The byte to go on from: where a crash has cut the file short, the end of its last whole line."""
        offset = self.run.event_offset
        try:
            return offset if self.path.stat().st_size >= offset else end_of_lines(self.path)
        except FileNotFoundError:
            return offset

    def _kept(self, events: list[Event], sieve: Sieve) -> list[Event]:
        """What is stored: of a flood its beginning, and nothing of earlier attempts once this one has begun."""
        has_begun, kept = self._has_begun, []
        for event in events:
            has_begun = has_begun or self._is_start(event)
            if has_begun and event.get("attempt", self.fence[0]) != self.fence[0]:
                sieve.late += 1
            elif sieve.passes(event):
                if sieve.dropped and event["type"] in ("log", "status"):
                    kept.append(sieve.notice(event))
                kept.append(shortened(event))
        if sieve.late and not self._sieve.late:
            kept.append(_notice(_LATE % {"attempt": self.fence[0]}))
        if not events and sieve.dropped:
            kept.append(sieve.notice(_notice("")))
        return kept

    def _is_start(self, event: Event) -> bool:
        return event["type"] == "status" and event.get("state") == "started" and event.get("attempt") == self.fence[0]

    def _note(self, events: Iterable[Event], kept: Iterable[Event]) -> None:
        """Remember what was stored of the attempt's state."""
        self._has_begun = self._has_begun or any(map(self._is_start, events))
        for event in kept:
            if event["type"] == "status" and event.get("attempt") == self.fence[0]:
                self._note_status(event)

    def pull_all(self) -> None:
        """Store everything that the file still has."""
        while self.pull():
            pass

    def _note_status(self, data: Event) -> None:
        if data.get("state") in FINAL_STATES:
            self.final = data
        elif data.get("state") == "started":
            self._has_begun, self.batch_size = True, data.get("batch_size")

    def _store(self, row: TrainingRun, events: Iterable[Event]) -> None:
        rows: list[RunEvent] = []
        for event in events:
            _apply(row, event, rows)
            if event["type"] in RunEvent.Type.values:
                rows.append(_event_row(event, row))
        append_events(row, rows)


def _notice(message: object) -> Event:
    """A line of the log that the studio itself adds."""
    return {"type": "log", "level": "warning", "message": str(message), "time": time.time()}


def _is_flood(events: list[Event], kept: list[Event]) -> bool:
    """Whether most of a batch was left out, and nothing in it is needed to find checkpoints again."""
    return len(kept) < len(events) / 2 and all(event["type"] != "checkpoint" for event in events)


def _apply(row: TrainingRun, event: Event, unsaved: Iterable[RunEvent]) -> None:
    match event["type"]:
        case "progress":
            _apply_progress(row, event)
        case "metrics":
            _apply_metrics(row, event)
        case "checkpoint":
            _apply_checkpoint(row, event)
        case "status" if event.get("state") == "started":
            row.device, row.phase = event.get("device", ""), "train"
            note_start(row, event)
            row.error_class, row.error_message, row.error_lines = "", "", []  # of the attempt before
            _move_to(row, event)
            _supersede(row, event, unsaved)
        case "status":
            note_word(row, event)


def _apply_progress(row: TrainingRun, event: Event) -> None:
    _move_to(row, event)
    for name in ("phase", "total_epochs", "total_steps", "elapsed_s", "eta_s"):
        setattr(row, name, event[name])


def _event_row(event: Event, run: TrainingRun) -> RunEvent:
    return RunEvent(
        type=event["type"],
        level=event.get("level", "error" if event.get("state") == "failed" else "info"),
        time=_time(event),
        attempt=event.get("attempt", run.attempt),
        epoch=event.get("epoch"),
        step=event.get("step"),
        data={name: value for name, value in event.items() if name not in ENVELOPE | PASSING},
    )


def _time(event: Event) -> datetime:
    return datetime.fromtimestamp(event["time"], UTC)


def _move_to(row: TrainingRun, event: Event) -> None:
    row.epoch, row.step = event["epoch"], event["step"]


def _apply_metrics(row: TrainingRun, event: Event) -> None:
    _move_to(row, event)
    split, values = event["split"], event["values"]
    row.metrics = {**row.metrics, **{f"{split}/{name}": value for name, value in values.items()}}
    if event.get("is_best"):
        name = event["best_metric"]
        row.best_metric_name, row.best_metric, row.best_epoch = name, values[name], event["epoch"]


def _apply_checkpoint(row: TrainingRun, event: Event) -> None:
    saved = row.checkpoints
    fields = {
        **{name: event[name] for name in ("attempt", "epoch", "step", "reason", "size_bytes", "sha256", "metrics")},
        "is_best": event["is_best"],
        "is_last": True,
        "created_at": _time(event),
        "checked_at": None,
        "damage": "",
    }
    saved.update(is_last=False)
    if event["is_best"]:
        saved.update(is_best=False)
    Checkpoint.objects.update_or_create(run=row, file=event["file"], defaults=fields)
    saved.filter(file__in=event["removed"]).delete()
    for file, stored_bytes in event.get("stored_bytes", {event["file"]: event["size_bytes"]}).items():
        saved.filter(file=file).update(stored_bytes=stored_bytes)


def _supersede(row: TrainingRun, started: Event, unsaved: Iterable[RunEvent]) -> None:
    """What earlier attempts measured beyond the step that this one goes on from is measured again: show it once."""
    attempt, step = started["attempt"], started["step"]
    earlier = row.events.filter(type=RunEvent.Type.METRICS, attempt__lt=attempt)
    replayed = Q(step__gt=step)
    if started.get("validation_due"):
        replayed |= Q(step=step, data__split="val")
    earlier.filter(replayed).update(superseded=True)
    for event in unsaved:
        is_earlier = event.type == RunEvent.Type.METRICS and event.attempt < attempt
        event.superseded = event.superseded or (is_earlier and _is_replayed(event, started))


def _is_replayed(event: RunEvent, started: Event) -> bool:
    assert event.step is not None
    is_due = bool(started.get("validation_due")) and event.data["split"] == "val"
    return event.step > started["step"] or (is_due and event.step == started["step"])
