"""Store RUN_DIR/events.jsonl in the database: every event exactly once, whichever process ends in between."""

import contextlib
import time
from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from trainingapp.contract.events import (
    EVENTS_FILE,
    AnyEvent,
    CheckpointSaved,
    Ended,
    Event,
    Failed,
    Listening,
    Log,
    Metrics,
    Progress,
    RequestDone,
    ResumeCheck,
    Started,
    StatusEvent,
    System,
    end_of_lines,
    message_fields,
    parse_event,
    read_events,
)
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.runs import EVENTS_TRUNCATED, LATE_EVENTS
from trainingapp.contract.series import Point
from trainingapp.contract.system_series import SYSTEM
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.run import DEVICE_TEXT_LENGTH, NO_ERROR, Status
from trainingapp.models.text import is_storable, storable
from trainingapp.supervision.log_rate_limit import LogRateLimit, punch_hole, shortened
from trainingapp.supervision.requests import confirm_request
from trainingapp.supervision.series_store import append_points, supersede

#: A transaction stores so much of the file at most: some 6,000 events, for which others wait a tenth of a second.
BATCH_BYTES = 1 << 20
#: Fields of an event that have their own columns, and one that is used and not stored with the event.
NOT_IN_DATA = frozenset({"type", "time", "attempt", "epoch", "step", "level", "stored_bytes"})
#: Fields of a metrics event that have their own columns in the chunks of metrics.
PLAIN_FIELDS = frozenset({"type", "time", "attempt", "epoch", "step", "split", "values"})
#: Fields of a checkpoint event that are columns of the checkpoint.
CHECKPOINT_FIELDS = {"attempt", "epoch", "step", "reason", "size_bytes", "sha256", "metrics", "is_best"}
#: The columns that storing events may change, besides those with the values that lists sort by.
STORED_FIELDS = [
    *("event_seq", "event_offset", "heartbeat_at", "updated_at", "device", "phase", "saving"),
    *("epoch", "total_epochs", "step", "total_steps", "elapsed_s", "eta_s"),
    *("best_metric_name", "best_metric", "best_epoch", "requests", "resume_check", "environment"),
    *("spent_s", "last_event_at", *NO_ERROR),
]


#: Columns with values that lists sort by, which each event changes: their rows are compared at each save.
LISTED_FIELDS: dict[type[Event], tuple[str, ...]] = {Metrics: ("metrics",), RequestDone: ("config",)}


class LostRunError(Exception):
    """This worker no longer holds the run: it has another attempt or worker, or is not running."""


class EventStore:
    """Stores the events of one attempt in the database, under the lock of the run's row.

    The row holds the byte up to which the file is stored and is updated in the same transaction as the events: a crash
    loses both or neither. `run` is the row as it was last read, `final` the trainer's last event once it is stored.

    Two fences keep other writers out. Only the run's worker in its present attempt may store. And once the file says
    that this attempt has started, events of earlier attempts are left out: a trainer reports its start after it has
    locked the run's folder, so a later event of another attempt was written by a trainer on a host that was given up
    and that shares the disk without locks.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.fence = (run.attempt, run.worker)
        self.path = run.folder / EVENTS_FILE
        self.final: Ended | Failed | None = None
        #: The batch size that the trainer reported when it started.
        self.batch_size: int | None = None
        self._has_started = False
        self._limit = LogRateLimit()
        self._counted_at = time.monotonic()
        for row in run.events.filter(type=RunEvent.Type.STATUS, attempt=run.attempt).order_by("seq"):
            if "state" in row.data:
                self._note_status(parse_event({"type": row.type, **row.data}))

    def locked(self) -> TrainingRun:
        """The row under its lock, within the caller's transaction. Raises LostRunError."""
        return self._checked(TrainingRun.objects.select_for_update().filter(pk=self.run.pk).first())

    def has_news(self) -> bool:
        """Whether the file is longer than what is stored of it, or shorter because it was truncated."""
        return self.path.exists() and self.path.stat().st_size != self.run.event_offset

    def look(self) -> None:
        """Read the row without writing it. Raises LostRunError."""
        self.run = self._checked(TrainingRun.objects.filter(pk=self.run.pk).first())

    def beat(self, phase: str, fetching: Mapping[str, float]) -> None:
        """Store a heartbeat while there is no trainer yet; its time does not count. Raises LostRunError."""
        with transaction.atomic():
            row = self.locked()
            row.phase, row.fetching, row.heartbeat_at = phase, dict(fetching), timezone.now()
            row.save(update_fields=["phase", "fetching", "heartbeat_at", "updated_at"])
        self.run, self._counted_at = row, time.monotonic()
        ring(row.pk)

    def _checked(self, row: TrainingRun | None) -> TrainingRun:
        if row is None or (row.attempt, row.worker) != self.fence or row.status != Status.RUNNING:
            raise LostRunError(f"Run {self.run.pk} (attempt {self.fence[0]}) is held by another worker or has ended.")
        return row

    def pull(self) -> list[AnyEvent]:
        """Store the next batch of events, and in any case a heartbeat; returns the events. Raises LostRunError."""
        start = self.run.event_offset
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size < start:  # truncated by a crash: continue from the end of its last whole line
                start = end_of_lines(self.path)
        batch = list(read_events(self.path, start, BATCH_BYTES))
        # A copy: a transaction that fails is repeated from the same state.
        limit, now = copy(self._limit), time.monotonic()
        with transaction.atomic():
            row = self.locked()
            if row.event_offset != self.run.event_offset:
                batch, start = [], row.event_offset  # another process stored them: continue from there next time
            events = [_storable(event) for event, _offset in batch]
            kept = self._kept(events, limit)
            if start < row.event_offset:
                kept.insert(0, _notice(EVENTS_TRUNCATED(bytes=row.event_offset - start)))
            row.event_offset = batch[-1][1] if batch else start
            if any(map(is_sign_of_life, events)):
                row.last_event_at = timezone.now()
            self._store(row, kept)
            row.heartbeat_at = timezone.now()
            row.spent_s += now - self._counted_at
            listed = {column for kind in set(map(type, kept)) for column in LISTED_FIELDS.get(kind, ())}
            row.save(update_fields=[*STORED_FIELDS, *listed])
        self.run, self._limit, self._counted_at = row, limit, now
        self._has_started = self._has_started or any(map(self._is_start, events))
        for event in kept:
            if isinstance(event, StatusEvent) and event.attempt == self.fence[0]:
                self._note_status(event)
        # The bytes of a flood of log lines are returned to the file system, unless there is a checkpoint among them: a
        # corrupted index of checkpoints is rebuilt from the file.
        if len(kept) < len(events) / 2 and not any(isinstance(event, CheckpointSaved) for event in events):
            punch_hole(self.path, start, row.event_offset)
        if kept:
            ring(row.pk)
        return events

    def _kept(self, events: list[AnyEvent], limit: LogRateLimit) -> list[AnyEvent]:
        """The events to store: log lines up to the rate limit, and no late events of earlier attempts."""
        has_started = self._has_started
        kept: list[AnyEvent] = []
        for event in events:
            has_started = has_started or self._is_start(event)
            if has_started and event.attempt not in (None, self.fence[0]):
                limit.late_events += 1
            elif isinstance(event, Metrics):  # nearly all
                kept.append(event)
            elif limit.allows(event):
                if limit.dropped and isinstance(event, Log | StatusEvent):
                    kept.append(limit.notice(event))
                kept.append(shortened(event))
        if limit.late_events and not self._limit.late_events:
            kept.append(_notice(LATE_EVENTS(attempt=self.fence[0])))
        if not events and limit.dropped:
            kept.append(limit.notice(Log(time=time.time())))
        return kept

    def _is_start(self, event: AnyEvent) -> bool:
        return isinstance(event, Started) and event.attempt == self.fence[0]

    def pull_all(self) -> None:
        """Store everything that the file still has."""
        while self.pull():
            pass

    def _note_status(self, event: AnyEvent) -> None:
        if isinstance(event, Ended | Failed):
            self.final = event
        elif isinstance(event, Started):
            self._has_started, self.batch_size = True, event.batch_size

    def _store(self, row: TrainingRun, events: list[AnyEvent]) -> None:
        """Apply the events to the columns of the row; store metrics in their chunks, and others that are kept in rows.

        All of them are numbered in one order.
        """
        rows: list[RunEvent] = []
        points: list[Point] = []
        for event in events:
            if isinstance(event, Started):  # it supersedes points, which have to be stored for that
                append_points(row.pk, points)
                points.clear()
            _apply(row, event)
            if isinstance(event, (Metrics, System)):  # a tuple: it is asked for each of millions
                row.event_seq += 1
                points.append(_point(row, event))
            elif event.type in RunEvent.Type.values:
                row.event_seq += 1
                rows.append(_event_row(row, event))
        append_points(row.pk, points)
        RunEvent.objects.bulk_create(rows)


def is_sign_of_life(event: AnyEvent) -> bool:
    """Whether the loop itself has reported something: a thread beside it measures the machine even while it hangs."""
    return not isinstance(event, System)


def _point(row: TrainingRun, event: Metrics | System) -> Point:
    """The event as a point with the newest number of the run."""
    is_plain = event.model_fields_set <= PLAIN_FIELDS  # which has unknown fields too
    details = {} if is_plain else {name: value for name, value in event.as_data().items() if name not in PLAIN_FIELDS}
    time_us = round(event.time * 1e6)
    attempt = event.attempt or row.attempt
    split = SYSTEM if isinstance(event, System) else event.split
    return Point(row.event_seq, attempt, time_us, event.epoch, event.step, split, event.values, details)


def _event_row(row: TrainingRun, event: AnyEvent) -> RunEvent:
    """The event as a row with the newest number of the run."""
    data = event.as_data()
    return RunEvent(
        run=row,
        seq=row.event_seq,
        type=event.type,
        level=str(data.get("level", "error" if isinstance(event, Failed) else "info")),
        time=_time(event),
        attempt=event.attempt or row.attempt,
        epoch=event.epoch,
        step=event.step,
        data={name: value for name, value in data.items() if name not in NOT_IN_DATA},
    )


def _storable(event: AnyEvent) -> AnyEvent:
    """The event without characters that PostgreSQL cannot store, such as NUL."""
    if isinstance(event, Metrics) and not event.model_extra:
        texts = (*event.values, event.best_metric, event.evaluation)
        if all(map(is_storable, texts)):
            return event
    values = event.as_data()
    cleaned = storable(values)
    return event if cleaned == values else parse_event(cleaned)


def _notice(message: Message) -> Log:
    """A line of the log that the studio itself adds."""
    return Log(level="warning", time=time.time(), **message_fields(message))


def _apply(row: TrainingRun, event: AnyEvent) -> None:
    """Update the columns of the run. The events before this one are numbered, and its metrics are stored."""
    match event:
        case Metrics():  # nearly all
            _move_to(row, event)
            for name, value in event.values.items():
                row.metrics[f"{event.split}/{name}"] = value
            if event.is_best:
                row.best_metric_name, row.best_epoch = event.best_metric, event.epoch
                row.best_metric = event.values[event.best_metric]
        case Progress():
            _move_to(row, event)
            row.phase, row.elapsed_s, row.eta_s = event.phase, event.elapsed_s, event.eta_s
            row.saving = event.saving
            row.total_epochs, row.total_steps = event.total_epochs, event.total_steps
        case CheckpointSaved():
            _apply_checkpoint(row, event)
        case Started():
            _move_to(row, event)
            row.device, row.phase, row.environment = _devices_text(row, event.device), "train", event.environment
            row.saving = ""
            # Results of the attempt before: its resume check and its failure.
            row.resume_check = {}
            for name, empty in NO_ERROR.items():
                setattr(row, name, empty)
            _supersede(row, event)
        case RequestDone():
            confirm_request(row, event)
        case Listening():
            row.shares.filter(attempt=row.attempt, node_rank=0).update(address=event.address)
        case ResumeCheck():
            row.resume_check = event.model_dump(
                mode="json", include={"verdict", "difference", "reason", "changes", "attempt", "step"}
            )


def _devices_text(row: TrainingRun, first: str) -> str:
    """The devices of the attempt, such as "cuda:0, cuda:1 (NVIDIA H100)"; the trainer names the first of them."""
    number, name = first.split(" ", 1) if " " in first else (first, "")
    if not row.device.startswith((f"{number},", f"{number} …")):
        return first
    return f"{row.device.partition(' (')[0]} {name}".strip()[:DEVICE_TEXT_LENGTH]


def _time(event: Event) -> datetime:
    return datetime.fromtimestamp(event.time, UTC)


def _move_to(row: TrainingRun, event: Event) -> None:
    row.epoch, row.step = event.epoch or 0, event.step or 0


def _apply_checkpoint(row: TrainingRun, event: CheckpointSaved) -> None:
    if row.saving == event.file:
        row.saving = ""
    saved = row.checkpoints
    fields = {
        **event.model_dump(
            include={"attempt", "epoch", "step", "reason", "size_bytes", "sha256", "metrics", "is_best"}
        ),
        "is_last": True,
        "created_at": _time(event),
        "checked_at": None,
        "damage": "",
        "damage_data": {},
    }
    saved.update(is_last=False)
    if event.is_best:
        saved.update(is_best=False)
    Checkpoint.objects.update_or_create(run=row, file=event.file, defaults=fields)
    saved.filter(file__in=event.removed).delete()
    changed = {event.file: event.size_bytes} if event.stored_bytes is None else event.stored_bytes
    for file, stored_bytes in changed.items():
        saved.filter(file=file).update(stored_bytes=stored_bytes)


def _supersede(row: TrainingRun, started: Started) -> None:
    """Mark what earlier attempts measured after the step at which this one starts: it is measured again.

    This includes the validation at exactly that step where it is still due.
    """
    attempt, step = started.attempt or row.attempt, started.step or 0
    supersede(row.pk, attempt, step, validation_due=started.validation_due)
    if row.metrics_in_rows:
        repeated = Q(step__gt=step)
        if started.validation_due:
            repeated |= Q(step=step, data__split="val")
        row.events.filter(repeated, type=RunEvent.Type.METRICS, attempt__lt=attempt).update(superseded=True)
