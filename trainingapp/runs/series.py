"""Reading the metrics of runs: for charts, the API, comparisons, exports and streams.

Metrics are in chunks (`models.series`). Those of a run that was not converted yet are rows of events; every function
here reads both (`runs.series_migration` converts them). What is read from chunks by one query is of one moment: a chunk
may be merged into the one before it between two queries. Rows are read before chunks: a point that is converted
meanwhile is then found twice, and taken once.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice

import numpy as np
from django.db.models import Case, F, Q, QuerySet, Sum, When

from trainingapp.contract.series import (
    EMPTY,
    NO_NUMBER,
    DamagedSeries,
    Frame,
    Point,
    decode,
    frame_of,
    joined,
    thinned_indices,
    time_of,
    time_us_of,
)
from trainingapp.contract.system_series import SYSTEM
from trainingapp.models import RunEvent, SeriesChunk, TrainingRun

logger = logging.getLogger(__name__)

#: Points of a series that are all read for a chart. Of a longer one, the stored previews are read instead: they contain
#: the lowest and the highest value of each 256 points.
FULL_POINTS = 100_000
#: Rows of events that become a frame at a time.
BATCH_ROWS = 4096


@dataclass(frozen=True)
class Series:
    """The points of one split of a run. `total` counts those that a preview leaves out as well."""

    split: str
    frame: Frame
    total: int


@dataclass(frozen=True)
class Line:
    """A metric of a run, thinned to what a chart can show: lists of the same length, and the number of all points.

    `step` and `epoch` are None where a point has none; `time_s` is in Unix seconds.
    """

    step: list[int | None]
    epoch: list[int | None]
    time_s: list[float]
    value: list[float]
    total: int


def read_series(
    run: TrainingRun,
    *,
    after: int = 0,
    split: str = "",
    names: Collection[str] | None = None,
    is_for_chart: bool = False,
) -> list[Series]:
    """The series above number `after` without superseded points: those of metrics by split, or only that of `split`.

    `names` chooses metrics; by default all are read. `is_for_chart` allows previews of series longer than FULL_POINTS.
    """
    parts: dict[str, list[Frame]] = {}
    if run.metrics_in_rows:
        for frame_split, frame in _row_frames(run, after, split):
            parts.setdefault(frame_split, []).append(frame)
    chunks = SeriesChunk.objects.filter(run_id=run.pk, superseded=False, last_seq__gt=after)
    chunks = chunks.filter(split=split) if split else chunks.exclude(split=SYSTEM)
    totals: dict[str, int] = {}
    if is_for_chart and run.event_seq - after > FULL_POINTS:
        totals = dict(chunks.order_by().values_list("split").annotate(total=Sum("count")))
    long = [name for name, total in totals.items() if total > FULL_POINTS]
    for frame_split, frame in _frames(chunks, Q(split__in=long), names):
        parts.setdefault(frame_split, []).append(frame)
    found = []
    for name, frames in sorted(parts.items()):
        frame = joined(frames)
        frame = frame.take(frame.seq > after)
        if len(frame):
            found.append(Series(name, frame, max(len(frame), totals.get(name, 0))))
    return found


def _frames(chunks: QuerySet[SeriesChunk], previewed: Q, names: Collection[str] | None) -> Iterator[tuple[str, Frame]]:
    """The split and the frame of each chunk; of those that match `previewed` the preview, where there is one."""
    content = Case(When(previewed & ~Q(preview=b""), then=F("preview")), default=F("data"))
    rows = chunks.order_by("first_seq").annotate(content=content).values_list("pk", "split", "content")
    for pk, split, data in rows:
        if (frame := readable(pk, data, names)) is not None:
            yield split, frame


def readable(chunk: int, data: bytes | memoryview, names: Collection[str] | None = None) -> Frame | None:
    """The frame of a chunk; None, with an entry in the log, where its bytes are damaged (`manage.py doctor --full`)."""
    try:
        return decode(data, names)
    except DamagedSeries as error:
        logger.error("The chunk %s of metrics is damaged: %s", chunk, error)
        return None


def _row_frames(run: TrainingRun, after: int, split: str) -> Iterator[tuple[str, Frame]]:
    rows = run.events.filter(type=RunEvent.Type.METRICS, superseded=False, seq__gt=after).order_by("seq")
    if split:
        rows = rows.filter(data__split=split)
    values = iter(rows.values_list(*ROW_COLUMNS).iterator(chunk_size=BATCH_ROWS))
    while batch := [point_of_row(*row) for row in islice(values, BATCH_ROWS)]:
        for name in {point.split for point in batch}:
            yield name, frame_of([point for point in batch if point.split == name])


#: What `point_of_row` takes.
ROW_COLUMNS = ("seq", "attempt", "time", "epoch", "step", "data")


def point_of_row(
    seq: int, attempt: int, time: datetime, epoch: int | None, step: int | None, data: dict[str, object]
) -> Point:
    """The point that a row of an older version holds."""
    details = {name: value for name, value in data.items() if name not in ("split", "values")}
    split, values = data.get("split", "train"), data.get("values", {})
    return Point(seq, attempt, time_us_of(time), epoch, step, str(split), values, details)  # type: ignore[arg-type]  # JSON


def number(value: int) -> int | None:
    """An epoch or a step of a frame; None where the point has none."""
    return None if value == NO_NUMBER else value


def series_of(run_ids: Sequence[int], metrics: Collection[str], max_points: int) -> dict[int, dict[str, Line]]:
    """Metrics of several runs, such as "train/loss" and "val/top1": by run and metric, without those that it lacks.

    Each line has at most `max_points` points, among them the lowest and the highest of each interval. Three queries at
    most, however many runs there are. Who may see the runs is for the caller to check.
    """
    wanted: dict[str, set[str]] = {}
    for metric in metrics:
        split, _slash, name = metric.partition("/")
        wanted.setdefault(split, set()).add(name)
    parts: dict[tuple[int, str], list[Frame]] = {}
    totals: Counter[tuple[int, str, str]] = Counter()
    for run in TrainingRun.objects.filter(pk__in=run_ids, metrics_in_rows=True).only("pk"):
        for split, frame in _row_frames(run, 0, ""):
            parts.setdefault((run.pk, split), []).append(frame)
            totals.update({(run.pk, split, name): int((~np.isnan(each)).sum()) for name, each in frame.columns.items()})
    chunks = SeriesChunk.objects.filter(run_id__in=run_ids, superseded=False, split__in=wanted)
    for run_id, split, summary in chunks.order_by().values_list("run_id", "split", "summary"):
        totals.update({(run_id, split, name): each["count"] for name, each in summary.items()})
    most = FULL_POINTS // max(1, len(run_ids))
    long = {run_id for (run_id, _split, _name), total in totals.items() if total > most}
    content = Case(When(Q(run_id__in=long) & ~Q(preview=b""), then=F("preview")), default=F("data"))
    rows = chunks.order_by("run_id", "first_seq").annotate(content=content)
    for pk, run_id, split, data in rows.values_list("pk", "run_id", "split", "content"):
        if (part := readable(pk, data, wanted[split])) is not None:
            parts.setdefault((run_id, split), []).append(part)
    found: dict[int, dict[str, Line]] = {run_id: {} for run_id in run_ids}
    for (run_id, split), frames in parts.items():
        frame = joined(frames)
        for name in wanted.get(split, ()):
            if name in frame.columns:
                found[run_id][f"{split}/{name}"] = _line(frame, name, max_points, totals[run_id, split, name])
    return found


def _line(frame: Frame, name: str, most: int, total: int) -> Line:
    frame = frame.take(~np.isnan(frame.columns[name]))
    shown = frame
    if len(frame) > most:
        shown = frame.take(thinned_indices(len(frame), [frame.columns[name]], max(1, (most - 2) // 2)))
    return Line(
        step=[number(step) for step in shown.step.tolist()],
        epoch=[number(epoch) for epoch in shown.epoch.tolist()],
        time_s=(shown.time_us / 1e6).tolist(),
        value=shown.columns[name].tolist(),
        total=total,
    )


def event_rows(run_id: int, after: int, most: int, upto: int) -> list[RunEvent]:
    """The first `most` events of every type above number `after` and up to `upto`, oldest first; metrics too.

    `upto` is a number that the run had before the call: events above it may be stored in part.
    """
    rows = RunEvent.objects.filter(run_id=run_id, seq__gt=after, seq__lte=upto).order_by("seq")
    return _merged(run_id, list(rows[:most]), after, most, upto)


def all_points(run: TrainingRun) -> Iterator[RunEvent]:
    """The metrics of a run as events, oldest first, without superseded ones. Reads a part at a time."""
    after = 0
    while True:
        rows: list[RunEvent] = []
        if run.metrics_in_rows:
            stored = run.events.filter(type=RunEvent.Type.METRICS, seq__gt=after, seq__lte=run.event_seq)
            rows = list(stored.order_by("seq")[:BATCH_ROWS])
        found = _merged(run.pk, rows, after, BATCH_ROWS, run.event_seq)
        yield from (event for event in found if not event.superseded and event.data.get("split") != SYSTEM)
        if len(found) < BATCH_ROWS:
            return
        after = found[-1].seq


def _merged(run_id: int, rows: list[RunEvent], after: int, most: int, upto: int) -> list[RunEvent]:
    """The first `most` of the rows and the points from `after` to `upto`. The rows are the first `most` there are."""
    end = rows[-1].seq if len(rows) == most else upto
    by_seq = {row.seq: row for row in rows}
    while after < end:
        points, after = _points(run_id, after, end, most)
        by_seq |= {point.seq: point for point in points}
        if sum(seq <= after for seq in by_seq) >= most:
            break
    return [by_seq[seq] for seq in sorted(by_seq) if seq <= after][:most]


def _points(run_id: int, after: int, upto: int, most: int) -> tuple[list[RunEvent], int]:
    """Points above number `after`, about `most` of them, and the number up to which none is missing."""
    stored = SeriesChunk.objects.filter(run_id=run_id, last_seq__gt=after, first_seq__lte=upto)
    limit, end = 2, after
    chunks: list[SeriesChunk] = []
    while end <= after:  # chunks may overlap; those that were not read begin after the last one that was
        limit *= 2
        chunks = list(stored.order_by("first_seq").defer("preview", "summary")[:limit])
        end = upto if len(chunks) < limit else min(upto, chunks[-1].first_seq - 1)
    frames = [(chunk, frame) for chunk in chunks if (frame := readable(chunk.pk, chunk.data)) is not None]
    numbers = sorted(seq for _chunk, frame in frames for seq in frame.seq[frame.seq > after][:most].tolist())
    if len(numbers) > most:
        end = min(end, numbers[most - 1])
    found = []
    for chunk, frame in frames:
        part = frame.take((frame.seq > after) & (frame.seq <= end))
        found += [_as_event(chunk, part, index) for index in range(len(part))]
    return found, end


def _as_event(chunk: SeriesChunk, frame: Frame, index: int) -> RunEvent:
    """A point as the event that it was, not stored."""
    return RunEvent(
        run_id=chunk.run_id,
        seq=int(frame.seq[index]),
        attempt=int(frame.attempt[index]),
        type=RunEvent.Type.METRICS,
        time=time_of(int(frame.time_us[index])),
        epoch=number(int(frame.epoch[index])),
        step=number(int(frame.step[index])),
        data={"split": chunk.split, "values": frame.values_at(index), **frame.details_at(index)},
        superseded=chunk.superseded,
    )


def validations(run: TrainingRun, *, only_newest: bool = False) -> Iterator[tuple[Frame, int]]:
    """The validations that have an evaluation file, newest first: frame and index. Superseded ones are left out.

    With `only_newest`, of rows of an older version only the newest one is read. Chunks of validations are few.
    """
    old = EMPTY
    if run.metrics_in_rows:
        rows = run.events.filter(is_evaluation=True, superseded=False, epoch__isnull=False).order_by("-seq")
        old = frame_of([point_of_row(*row) for row in rows.values_list(*ROW_COLUMNS)[: 1 if only_newest else None]])
    # Either may be newer: chunks hold what was converted first, and what was measured since.
    yield from merge(_in_chunks(run), _with_file(old), key=_seq, reverse=True)


def validations_by_run(runs: Sequence[TrainingRun]) -> dict[int, list[tuple[Frame, int]]]:
    """As `validations`, of several runs by their number: one query, and another one if some are not converted."""
    found: dict[int, list[tuple[Frame, int]]] = {run.pk: [] for run in runs}
    if old := [run.pk for run in runs if run.metrics_in_rows]:
        rows = RunEvent.objects.filter(run__in=old, is_evaluation=True, superseded=False, epoch__isnull=False)
        for run_id, *columns in rows.values_list("run", *ROW_COLUMNS):
            found[run_id].append((frame_of([point_of_row(*columns)]), 0))
    chunks = SeriesChunk.objects.filter(run__in=found, split="val", superseded=False)
    for run_id, pk, data in chunks.values_list("run", "pk", "data"):
        if (frame := readable(pk, data)) is not None:
            found[run_id] += _with_file(frame)
    for each in found.values():
        each.sort(key=_seq, reverse=True)
    return found


def _seq(found: tuple[Frame, int]) -> int:
    frame, index = found
    return int(frame.seq[index])


def _in_chunks(run: TrainingRun) -> Iterator[tuple[Frame, int]]:
    chunks = run.series.filter(split="val", superseded=False).order_by("-first_seq").values_list("pk", "data")
    for pk, data in chunks:
        if (frame := readable(pk, data)) is not None:
            yield from _with_file(frame)


def _with_file(frame: Frame) -> Iterator[tuple[Frame, int]]:
    """The points of a frame that have an evaluation file and an epoch, newest first."""
    for index in reversed(range(len(frame))) if frame.details else ():
        if "evaluation" in frame.details_at(index) and frame.epoch[index] != NO_NUMBER:
            yield frame, index
