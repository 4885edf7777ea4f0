"""Converting the metrics of older versions, which are rows of events, into chunks.

A worker does so in the background, a batch after another in short transactions, while runs train and pages are read:
`runs.series` reads both forms. The state is in the database alone, in the rows that are left and in the mark of each
run, so that an interruption costs nothing.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from django.db import transaction
from django.db.models import Count, QuerySet, Sum

from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.series import ROW_COLUMNS, point_of_row
from trainingapp.supervision import shutting_down
from trainingapp.supervision.series_store import CHUNK_POINTS, append_points

logger = logging.getLogger(__name__)

#: Rows that one transaction converts: two full chunks. Other writers wait for about a tenth of a second.
BATCH_ROWS = 2 * CHUNK_POINTS
#: Share of the time for which the database is left to others.
PAUSE_SHARE = 0.5


@dataclass(frozen=True)
class Conversion:
    """How far the conversion is. `events_left` is the number of events of the runs that are left."""

    runs_left: int
    runs: int
    events_left: int

    @property
    def runs_done(self) -> int:
        return self.runs - self.runs_left


def conversion() -> Conversion:
    """Counted by an index that is empty once everything is converted."""
    left = _left().aggregate(runs=Count("pk"), events=Sum("event_seq"))
    return Conversion(left["runs"], TrainingRun.objects.count(), left["events"] or 0)


def _left() -> QuerySet[TrainingRun]:
    """The runs that are not converted. Without an order: another index would be taken for that."""
    return TrainingRun.objects.filter(metrics_in_rows=True).order_by()


def convert_some(most_s: float = float("inf"), report: Callable[[int], object] = lambda events: None) -> bool:
    """Convert runs for about `most_s` seconds, or until the worker is stopped; returns whether each left was tried.

    `report` gets the number of events of each run that is done. With a limit, others get PAUSE_SHARE of the time. A run
    that cannot be converted is logged and left out: it stays readable as it is.
    """
    deadline = time.monotonic() + most_s
    for run_id, events in sorted(_left().values_list("pk", "event_seq")):
        try:
            is_more = True
            while is_more:
                began = time.monotonic()
                is_more = _convert_batch(run_id)
                if time.monotonic() > deadline or shutting_down.is_set():
                    return False
                if most_s != float("inf"):
                    time.sleep((time.monotonic() - began) * PAUSE_SHARE / (1 - PAUSE_SHARE))
        except (ValueError, TypeError, AttributeError, OverflowError):
            logger.exception("The metrics of run %s could not be converted; they stay in the old form.", run_id)
        report(events)
    return True


def _convert_batch(run_id: int) -> bool:
    """Convert the oldest rows of a run; returns whether there may be more. The mark is removed with the last ones."""
    with transaction.atomic():
        run = TrainingRun.objects.select_for_update().filter(pk=run_id, metrics_in_rows=True).only("pk").first()
        if run is None:  # deleted, or converted by another process
            return False
        stored = run.events.filter(type=RunEvent.Type.METRICS)
        rows = list(stored.order_by("seq").values_list("superseded", *ROW_COLUMNS)[:BATCH_ROWS])
        for superseded, group in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[0]):
            append_points(run_id, [point_of_row(*columns) for _superseded, *columns in group], superseded=superseded)
        if rows:
            stored.filter(seq__lte=rows[-1][1]).delete()
        is_more = len(rows) == BATCH_ROWS
        if not is_more:
            TrainingRun.objects.filter(pk=run_id).update(metrics_in_rows=False)
        return is_more
