"""Storing points of metrics in chunks (`models.series`), within the transaction that numbers their events.

New points extend the short last chunk of their series, so that the rows that a live run writes again and again stay
small. Once that has TAIL_POINTS points, it is merged into the chunk before it, until that one is full. A full chunk is
never written again: what was written before costs space until the database has vacuumed, with PostgreSQL.
"""

from collections.abc import Sequence

from django.db.models import Q

from trainingapp.contract.series import NO_NUMBER, Frame, Point, decode, encode, frame_of, joined, time_of
from trainingapp.contract.system_series import SYSTEM
from trainingapp.models import SeriesChunk

TAIL_POINTS = 256
#: A full chunk has this many points at most, and half of it at least: then as many as a batch of events brought.
CHUNK_POINTS = 4096
#: Points from which on a chunk has a preview, which saves readers of long series most of the bytes.
PREVIEW_FROM = 1024


def append_points(run_id: int, points: Sequence[Point], *, superseded: bool = False) -> None:
    """Store the points, which are numbered already. The caller holds the lock of the run's row."""
    groups: dict[tuple[int, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.attempt, point.split), []).append(point)
    for (attempt, split), group in groups.items():
        _append(run_id, attempt, split, frame_of(group), superseded=superseded)


def _append(run_id: int, attempt: int, split: str, frame: Frame, *, superseded: bool) -> None:
    series = SeriesChunk.objects.filter(run_id=run_id, split=split, attempt=attempt, superseded=superseded)
    last = list(series.defer("preview", "data", "summary").order_by("-first_seq")[:2])
    extended = last[:1] if last and last[0].count < TAIL_POINTS else []
    count = len(frame) + sum(chunk.count for chunk in extended)
    if count >= TAIL_POINTS:
        before = last[len(extended) : len(extended) + 1]
        extended += [chunk for chunk in before if chunk.count < CHUNK_POINTS // 2]
    stored = SeriesChunk.objects.filter(pk__in=[chunk.pk for chunk in extended]).values_list("data", flat=True)
    whole = joined([*(decode(data) for data in stored.order_by("first_seq")), frame] if extended else [frame])
    rows = sorted(extended, key=lambda chunk: chunk.first_seq)
    chunks = -(-len(whole) // CHUNK_POINTS)
    for number in range(chunks):
        row = rows.pop(0) if rows else SeriesChunk(run_id=run_id, attempt=attempt, split=split, superseded=superseded)
        start, end = number * len(whole) // chunks, (number + 1) * len(whole) // chunks
        _write(row, whole.take(slice(start, end)))
    for row in rows:
        row.delete()


def _write(row: SeriesChunk, frame: Frame) -> None:
    """Store the frame in the row, with everything that is known of it without reading the points."""
    preview = frame.preview() if len(frame) >= PREVIEW_FROM else None
    has_all_steps = bool((frame.step != NO_NUMBER).all())
    row.first_seq, row.last_seq = int(frame.seq[0]), int(frame.seq[-1])
    row.first_step = int(frame.step.min()) if has_all_steps else None
    row.last_step = int(frame.step.max()) if has_all_steps else None
    row.last_time = time_of(int(frame.time_us.max()))
    row.count = len(frame)
    row.summary = {name: dict(summary) for name, summary in frame.summaries().items()}
    row.preview = encode(preview) if preview is not None and len(preview) < len(frame) / 4 else b""
    row.data = encode(frame)
    row.save()


def supersede(run_id: int, before_attempt: int, step: int, *, validation_due: bool) -> None:
    """Mark what earlier attempts measured after `step`, and the validation at it where that is due.

    A chunk in which only some points are superseded becomes two. What the machine was doing is not repeated: it stays.
    """
    stored = SeriesChunk.objects.filter(run_id=run_id, attempt__lt=before_attempt, superseded=False)
    stored = stored.exclude(split=SYSTEM)
    stored.filter(first_step__gt=step).update(superseded=True)
    touched = Q(last_step__gt=step) | Q(last_step=None)
    if validation_due:
        touched |= Q(last_step=step, split="val")
    for row in stored.filter(touched):
        frame = decode(row.data)
        repeated = frame.step > step
        if validation_due and row.split == "val":
            repeated |= frame.step == step
        if repeated.all():
            row.superseded = True
            row.save(update_fields=["superseded"])
        elif repeated.any():
            _write(row, frame.take(~repeated))
            again = SeriesChunk(run_id=run_id, attempt=row.attempt, split=row.split, superseded=True)
            _write(again, frame.take(repeated))
