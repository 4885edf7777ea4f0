"""The metrics of a run as a table, written piece by piece."""

import csv
import io
from collections.abc import Iterator
from itertools import islice

from trainingapp.contract.system_series import SYSTEM
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.series import all_points

#: Columns before those of the metrics.
PLACE = ("seq", "time", "attempt", "epoch", "step", "split")
#: Rows of one piece.
PIECE_ROWS = 1000


def metric_names(run: TrainingRun) -> list[str]:
    """The names of all metrics of the run, sorted."""
    names: set[str] = set()
    if run.metrics_in_rows:
        rows = run.events.filter(type=RunEvent.Type.METRICS, superseded=False).order_by("seq")
        for data in rows.values_list("data", flat=True).iterator():
            names.update(data.get("values", {}))
    chunks = run.series.filter(superseded=False).exclude(split=SYSTEM).order_by("first_seq")
    for summary in chunks.values_list("summary", flat=True):
        names.update(summary)
    return sorted(names)  # PostgreSQL stores the keys of a document in an order of its own


def metrics_csv(run: TrainingRun) -> Iterator[str]:
    """The table in pieces, of bounded size: one row for each point, one column for each metric.

    A step that was repeated after a crash is there once. Numbers have as many digits as are needed to read the same
    number again; a metric that a point lacks, or that is not a number, is empty.
    """
    names = metric_names(run)
    yield _text([[*PLACE, *names]])
    events = all_points(run)
    while rows := [_row(event, names) for event in islice(events, PIECE_ROWS)]:
        yield _text(rows)


def _row(event: RunEvent, names: list[str]) -> list[object]:
    values = event.data.get("values", {})
    place = (
        event.seq,
        event.time.isoformat(),
        event.attempt,
        event.epoch,
        event.step,
        event.data.get("split", "train"),
    )
    return [*place, *(values.get(name) for name in names)]


def _text(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
