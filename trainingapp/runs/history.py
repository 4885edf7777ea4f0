"""Retention of the history of runs: points of training, lines of logs and other events that are old are removed.

The studio's settings say for how many days after its end a run keeps each; `keep_history_days` of its configuration
overrides them. Values of validations stay, as evaluations are found by them, and so do changes of the status, the
latest and the best metrics, and everything of runs that have not ended or that a user has starred.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Length
from django.utils import timezone

from trainingapp.accounts import audit
from trainingapp.models import RunEvent, RunValue, SeriesChunk, TrainingRun
from trainingapp.models.run import FINISHED
from trainingapp.supervision import shutting_down

logger = logging.getLogger(__name__)

#: Rows that one transaction removes: chunks have up to some 100 kB each, events some 200 bytes.
BATCH_CHUNKS = 100
BATCH_EVENTS = 5000
#: Share of the time for which the database is left to others.
PAUSE_SHARE = 0.5
#: Rows of events that a preview counts at most, and the bytes that one takes with its indexes, as measured on SQLite.
MOST_COUNTED = 1_000_000
EVENT_BYTES = 234
#: Runs whose rows are counted by one query: SQLite limits the number of parameters.
BATCH_RUNS = 500


class Kind(StrEnum):
    """What is removed by itself. Each has a column of the run for the time at which that was done."""

    SERIES = "series"
    LOGS = "logs"
    EVENTS = "events"

    @property
    def column(self) -> str:
        return f"{self.value}_removed_at"

    @property
    def days(self) -> int:
        """For how many days after the end of a run the studio keeps it; 0 is forever."""
        days: int = {
            Kind.SERIES: settings.KEEP_SERIES_DAYS,
            Kind.LOGS: settings.KEEP_LOG_DAYS,
            Kind.EVENTS: settings.KEEP_EVENT_DAYS,
        }[self]
        return days


#: The events of each kind. Those of the status stay: attempts and the script of a run are read from them.
EVENT_TYPES = {
    Kind.LOGS: (RunEvent.Type.LOG,),
    Kind.EVENTS: (RunEvent.Type.CHECKPOINT, RunEvent.Type.SAMPLE),
}


@dataclass(frozen=True)
class Preview:
    """What would be removed now: `count` points or rows, about `bytes`. `is_more`: counting stopped before the end."""

    kind: Kind
    days: int
    runs: int
    count: int
    bytes: int
    is_more: bool = False


def previews() -> list[Preview]:
    """What the next pruning would remove, by kind."""
    ended = ended_runs()
    return [_preview(kind, due_runs(kind, ended)) for kind in Kind]


def _preview(kind: Kind, due: list[int]) -> Preview:
    if kind is Kind.SERIES:
        found = [_series_of(due[start : start + BATCH_RUNS]) for start in range(0, len(due), BATCH_RUNS)]
        return Preview(kind, kind.days, len(due), sum(each[0] for each in found), sum(each[1] for each in found))
    count = 0
    for start in range(0, len(due), BATCH_RUNS):
        rows = RunEvent.objects.filter(run__in=due[start : start + BATCH_RUNS], type__in=EVENT_TYPES[kind]).order_by()
        count += rows[: MOST_COUNTED - count + 1].count()
        if count > MOST_COUNTED:
            break
    counted = min(count, MOST_COUNTED)
    return Preview(kind, kind.days, len(due), counted, counted * EVENT_BYTES, is_more=count > MOST_COUNTED)


def _series_of(run_ids: list[int]) -> tuple[int, int]:
    """Points and bytes of the series of these runs that would be removed."""
    sums = _chunks(SeriesChunk.objects.filter(run__in=run_ids)).aggregate(
        points=Sum("count"), bytes=Sum(Length("data")), previews=Sum(Length("preview"))
    )
    return sums["points"] or 0, (sums["bytes"] or 0) + (sums["previews"] or 0)


def _chunks(rows: QuerySet[SeriesChunk]) -> QuerySet[SeriesChunk]:
    """Those that age. Validations are few, and evaluations are found by them."""
    return rows.exclude(split="val").order_by()


@dataclass(frozen=True)
class Ended:
    """A run that has ended. `own_days` is its `keep_history_days`; `removed` holds the last removal of each kind."""

    pk: int
    finished_at: datetime
    own_days: float
    removed: dict[Kind, datetime | None]

    def is_due(self, kind: Kind, days: int, now: datetime) -> bool:
        """Whether this kind is to be removed at `now`, where the studio keeps it for `days` days."""
        kept_days = days if self.own_days < 0 else self.own_days
        removed_at = self.removed[kind]
        # A run that was resumed after its history was removed has a new one.
        is_left = removed_at is None or removed_at < self.finished_at
        return bool(kept_days) and is_left and self.finished_at < now - timedelta(days=kept_days)


def ended_runs(now: datetime | None = None) -> list[Ended]:
    """The runs of which some history may be due for removal, those that ended first at the beginning."""
    rows = TrainingRun.objects.filter(status__in=FINISHED, finished_at__isnull=False, starred_by=None)
    # The others are left alone until their metrics are chunks.
    rows = rows.filter(metrics_in_rows=False).order_by()
    # Read by an index: the configurations of all runs would have to be parsed for it.
    own = RunValue.objects.filter(name="keep_history_days", number__gte=0)
    own_days = {run: days for run, days in own.values_list("run", "number") if days is not None}
    # Few runs have days of their own, and mostly none is due by the studio's: both together would read all runs.
    numbers = list(own_days)
    conditions = [Q(pk__in=numbers[start : start + BATCH_RUNS]) for start in range(0, len(numbers), BATCH_RUNS)]
    if days := [kind.days for kind in Kind if kind.days]:
        conditions.append(Q(finished_at__lt=(now or timezone.now()) - timedelta(days=min(days))))
    columns = ("pk", "finished_at", *(kind.column for kind in Kind))
    found = {
        pk: Ended(pk, finished_at, own_days.get(pk, -1), dict(zip(Kind, removed, strict=True)))
        for condition in conditions
        for pk, finished_at, *removed in rows.filter(condition).values_list(*columns)
        if finished_at is not None
    }
    return sorted(found.values(), key=lambda run: (run.finished_at, run.pk))


def due_runs(kind: Kind, ended: list[Ended], now: datetime | None = None) -> list[int]:
    """Those of the runs that have kept this kind long enough."""
    days, now = kind.days, now or timezone.now()
    return [run.pk for run in ended if run.is_due(kind, days, now)]


def prune_some(most_s: float) -> dict[Kind, int]:
    """Remove what is due for about `most_s` seconds, in short transactions; returns the rows by kind.

    What is left is removed the next time. Others get PAUSE_SHARE of the time.
    """
    deadline = time.monotonic() + most_s
    removed = dict.fromkeys(Kind, 0)
    ended = ended_runs()
    for kind in Kind:
        for run_id in due_runs(kind, ended):
            for rows in _prune_run(kind, run_id):
                removed[kind] += rows
                if time.monotonic() > deadline or shutting_down.is_set():
                    return removed
    return removed


def _prune_run(kind: Kind, run_id: int) -> Iterator[int]:
    """Remove one kind of a run's history batch by batch; gives the rows of each transaction."""
    total = 0
    while True:
        began = time.monotonic()
        with transaction.atomic():
            columns = ("pk", "status", "name", "config", "finished_at", kind.column)
            run = TrainingRun.objects.select_for_update().filter(pk=run_id).only(*columns).first()
            # It may have been resumed or starred since, and the configuration decides, not the copy of its value.
            if run is None or run.status not in FINISHED or run.starred_by.exists() or not _is_due(run, kind):
                return
            rows = _remove_batch(kind, run)
            total += rows
            if not rows:
                TrainingRun.objects.filter(pk=run_id).update(**{kind.column: timezone.now()})
                if total:
                    audit.record("prune", run, details={"kind": kind.value, "rows": total})
        yield rows
        if not rows:
            return
        time.sleep(min(1.0, (time.monotonic() - began) * PAUSE_SHARE / (1 - PAUSE_SHARE)))


def _is_due(run: TrainingRun, kind: Kind) -> bool:
    if run.finished_at is None:
        return False
    own = run.config.get("keep_history_days")
    ended = Ended(run.pk, run.finished_at, -1 if own is None else own, {kind: getattr(run, kind.column)})
    return ended.is_due(kind, kind.days, timezone.now())


def _remove_batch(kind: Kind, run: TrainingRun) -> int:
    rows: QuerySet[Any]
    if kind is Kind.SERIES:
        rows, most = _chunks(run.series.all()), BATCH_CHUNKS
    else:
        rows, most = run.events.filter(type__in=EVENT_TYPES[kind]).order_by(), BATCH_EVENTS
    numbers = list(rows.values_list("pk", flat=True)[:most])
    for start in range(0, len(numbers), BATCH_RUNS):
        rows.model._default_manager.filter(pk__in=numbers[start : start + BATCH_RUNS]).delete()
    return len(numbers)
