"""The metrics of a run as files of other programs: Parquet and TensorBoard. Both are written while they are sent.

Neither holds more than some thousand points in memory, however long the run is. A step that was repeated after a crash
is there once.
"""

import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs.series import BATCH_ROWS, all_points
from trainingapp.runs.series_export import PLACE, metric_names

if TYPE_CHECKING:
    import pyarrow

#: Points of one row group of Parquet, and of one piece of event records.
GROUP_ROWS = 2 * BATCH_ROWS
PIECE_POINTS = 1000


class _Pieces(io.RawIOBase):
    """A file that is only written to, and handed on piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(memoryview(data))  # type: ignore[arg-type]  # any buffer
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def has_parquet() -> bool:
    """Whether the package that writes Parquet is installed; it is optional, as it takes 170 MB."""
    return find_spec("pyarrow") is not None


def metrics_parquet(run: TrainingRun) -> Iterator[bytes]:
    """A table as that of `metrics_csv`: integers, the time in UTC, the split as text, and float64 for each metric.

    A metric that a point lacks, or that is not a number, is null. Raises VerbError without the package pyarrow.
    """
    if not has_parquet():
        raise VerbError(_("Parquet requires the package pyarrow: pip install cvstudio[parquet]."))
    return _parquet_pieces(run)


def _parquet_pieces(run: TrainingRun) -> Iterator[bytes]:
    import pyarrow as arrow
    from pyarrow import parquet

    names = metric_names(run)
    types = (arrow.int64(), arrow.timestamp("us", "UTC"), *(arrow.int64(),) * 3, arrow.string())
    schema = arrow.schema([*zip(PLACE, types, strict=True), *((name, arrow.float64()) for name in names)])
    pieces, events = _Pieces(), all_points(run)
    with parquet.ParquetWriter(pieces, schema, compression="zstd") as writer:
        while group := list(islice(events, GROUP_ROWS)):
            writer.write_table(_table(group, schema, names))
            yield pieces.taken()
    yield pieces.taken()


def _table(events: list[RunEvent], schema: "pyarrow.Schema", names: list[str]) -> "pyarrow.Table":
    import pyarrow as arrow

    values = [event.data.get("values", {}) for event in events]
    columns: list[Sequence[object]] = [
        [event.seq for event in events],
        [event.time for event in events],
        [event.attempt for event in events],
        [event.epoch for event in events],
        [event.step for event in events],
        [event.data.get("split", "train") for event in events],
        *([_number(each.get(name)) for each in values] for name in names),
    ]
    return arrow.Table.from_arrays(
        [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _number(value: object) -> float | None:
    """The value as float64; None for what is not a number, or too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def metrics_tensorboard(run: TrainingRun) -> Iterator[bytes]:
    """An event file of TensorBoard: a scalar NAME/SPLIT for each metric, with the times of the run.

    TensorBoard stores scalars as float32. A point without a step is at step 0.
    """
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]  # made when it is imported
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]  # the same
    from tensorboard.summary.writer.record_writer import RecordWriter

    pieces = _Pieces()
    records = RecordWriter(pieces)
    began = run.started_at or run.created_at
    records.write(Event(wall_time=began.timestamp(), file_version="brain.Event:2").SerializeToString())
    points = all_points(run)
    while group := list(islice(points, PIECE_POINTS)):
        for point in group:
            split = point.data.get("split", "train")
            numbers = ((name, _number(value)) for name, value in point.data.get("values", {}).items())
            scalars = [
                Summary.Value(tag=f"{name}/{split}", simple_value=number)
                for name, number in numbers
                if number is not None
            ]
            event = Event(wall_time=point.time.timestamp(), step=point.step or 0, summary=Summary(value=scalars))
            records.write(event.SerializeToString())
        yield pieces.taken()
    yield pieces.taken()
