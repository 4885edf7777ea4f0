"""Series of metrics as columns: the form in which the points of a run are stored.

A frame holds points of one split as columns: number, attempt, time, epoch and step as integers, and one column of
float64 for each metric. `encode` makes bytes of it, each column compressed by itself, so that a reader decompresses
only what it shows; `decode` gives back exactly the same numbers. What is not a finite number (the name of an evaluation
file, a value that overflowed) is kept beside the columns, by the number of its point.

The bytes are

    4 bytes     length of the header, little endian
    header      JSON: {"n": points, "ints": [...], "floats": [...], "details": bytes}; each column with its name, its
                form and its length
    columns     in the order of the header, then the details as compressed JSON

An integer column is stored as the differences of neighbours in the narrowest type that holds them; if all are the same
("constant"), the header has them and there are no bytes. A float column is stored as float32 where that is exact.
Both are compressed by Zstandard after the bytes of equal significance were placed together.
"""

import json
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TypedDict

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import JsonValue

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: The integer columns, in the order in which they are stored.
INT_COLUMNS = ("seq", "attempt", "time_us", "epoch", "step")
#: In the columns epoch and step: the point has none.
NO_NUMBER = -1
#: Points of an interval of which a preview keeps the lowest and the highest value of each metric.
PREVIEW_INTERVAL = 256
_LEVEL = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(time_us: int) -> datetime:
    """The time of a point, from microseconds since 1970 in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def time_us_of(time: datetime) -> int:
    """The reverse of `time_of`."""
    return (time - _EPOCH) // timedelta(microseconds=1)


class DamagedSeries(ValueError):
    """Stored bytes that are not those of a frame."""


@dataclass(slots=True)  # not frozen: that makes each of millions three times as expensive
class Point:
    """One metrics event. `time_us` counts microseconds since 1970.

    `values` may hold what is not a number in rows of version 0.1; `details` are all other fields of the event.
    """

    seq: int
    attempt: int
    time_us: int
    epoch: int | None
    step: int | None
    split: str
    values: Mapping[str, JsonValue]
    details: Mapping[str, JsonValue] = field(default_factory=dict)


class Summary(TypedDict):
    """What a chunk stores of one metric, so that its values need not be read for it."""

    count: int
    min: float
    max: float
    mean: float


@dataclass(frozen=True)
class Frame:
    """Points of one split as columns of the same length. A metric that a point lacks is NaN."""

    seq: Ints
    attempt: Ints
    time_us: Ints
    epoch: Ints
    step: Ints
    columns: dict[str, Floats]
    #: By `seq`: fields of the event besides its numbers. Under "values" are those that are not finite numbers.
    details: dict[int, dict[str, JsonValue]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seq)

    @classmethod
    def of(cls, ints: Sequence[Ints], columns: dict[str, Floats], details: dict[int, dict[str, JsonValue]]) -> "Frame":
        """A frame of the integer columns in the order of INT_COLUMNS. Raises ValueError for another number of them."""
        seq, attempt, time_us, epoch, step = ints
        return cls(seq, attempt, time_us, epoch, step, columns, details)

    def ints(self) -> list[Ints]:
        return [self.seq, self.attempt, self.time_us, self.epoch, self.step]

    def take(self, chosen: NDArray[np.bool_] | Ints | slice) -> "Frame":
        """The chosen points: a mask, indices or a slice."""
        seq = self.seq[chosen]
        kept = set(seq.tolist()) if self.details else set()
        columns = {name: column[chosen] for name, column in self.columns.items()}
        details = {number: details for number, details in self.details.items() if number in kept}
        return Frame.of([column[chosen] for column in self.ints()], columns, details)

    def values_at(self, index: int) -> dict[str, JsonValue]:
        """The values of one point by metric, without those that it lacks."""
        found: dict[str, JsonValue] = {
            name: value for name, column in self.columns.items() if not math.isnan(value := float(column[index]))
        }
        others = self.details.get(int(self.seq[index]), {}).get("values")
        return {**found, **others} if isinstance(others, dict) else found

    def details_at(self, index: int) -> dict[str, JsonValue]:
        """The fields of one event besides its values."""
        details = self.details.get(int(self.seq[index]), {})
        return {name: value for name, value in details.items() if name != "values"}

    def summaries(self) -> dict[str, Summary]:
        """Count, minimum, maximum and mean of each metric."""
        found: dict[str, Summary] = {}
        for name, column in self.columns.items():
            known = column[~np.isnan(column)]
            if len(known):
                with np.errstate(over="ignore"):
                    mean = float(known.mean())
                # The sum of very large numbers overflows; their mean does not.
                mean = mean if math.isfinite(mean) else float((known / len(known)).sum())
                found[name] = {
                    "count": len(known),
                    "min": float(known.min()),
                    "max": float(known.max()),
                    "mean": mean,
                }
        return found

    def preview(self) -> "Frame":
        """Of each interval of PREVIEW_INTERVAL points those where some metric is lowest or highest, and both ends."""
        starts = np.arange(0, len(self), PREVIEW_INTERVAL)
        ends = np.minimum(starts + PREVIEW_INTERVAL, len(self))
        return self.take(with_extremes(len(self), list(self.columns.values()), starts, ends))


def with_extremes(count: int, columns: Sequence[Floats], starts: Ints, ends: Ints) -> Ints:
    """In order, both ends of `count` points and, of each interval, where each column is lowest and highest.

    `starts` and `ends` are the intervals, `ends` exclusive. Missing values count in none of them.
    """
    starts, ends = starts[starts < ends], ends[starts < ends]
    kept = [np.array([0, count - 1])]
    if len(starts):
        # One row for each interval; shorter ones end with their last point again.
        places = np.minimum(starts[:, None] + np.arange(int((ends - starts).max())), ends[:, None] - 1)
        for column in columns:
            parts = column[places]
            is_missing = np.isnan(parts)
            known = ~is_missing.all(axis=1)
            for search, worst in ((np.argmin, np.inf), (np.argmax, -np.inf)):
                found = search(np.where(is_missing, worst, parts) if is_missing.any() else parts, axis=1)
                kept.append((starts + found)[known])
    return np.unique(np.concatenate(kept))


def frame_of(points: Sequence[Point]) -> Frame:
    """The points, which are of one split, as columns."""
    columns: dict[str, Floats] = {}
    details: dict[int, dict[str, JsonValue]] = {}
    names = dict.fromkeys(chain.from_iterable(point.values for point in points))
    for name in names:
        values = [point.values.get(name) for point in points]
        is_plain = set(map(type, values)) == {float}
        column = np.array(values, dtype=np.float64) if is_plain else np.full(len(points), np.nan)
        columns[name] = column
        if is_plain and np.isfinite(column).all():
            continue
        for index, (point, value) in enumerate(zip(points, values, strict=True)):
            if isinstance(value, float) and math.isfinite(value):
                column[index] = value
            elif name in point.values:
                column[index] = np.nan
                number = _exact_float(value)
                if number is None:
                    others = details.setdefault(point.seq, {}).setdefault("values", {})
                    assert isinstance(others, dict)
                    others[name] = value
                else:
                    column[index] = number
    for point in points:
        if point.details:
            details.setdefault(point.seq, {}).update({name: point.details[name] for name in point.details})
    return Frame(
        np.array([point.seq for point in points], dtype=np.int64),
        np.array([point.attempt for point in points], dtype=np.int64),
        np.array([point.time_us for point in points], dtype=np.int64),
        np.array([NO_NUMBER if point.epoch is None else point.epoch for point in points], dtype=np.int64),
        np.array([NO_NUMBER if point.step is None else point.step for point in points], dtype=np.int64),
        {name: column for name, column in columns.items() if not np.isnan(column).all()},
        details,
    )


def _exact_float(value: JsonValue) -> float | None:
    """The value as a float; None where that would be another value."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if int(number) == value else None


def joined(frames: Sequence[Frame]) -> Frame:
    """The points of all frames, ordered by number."""
    if len(frames) == 1:
        return frames[0]
    names = dict.fromkeys(name for frame in frames for name in frame.columns)
    columns = {
        name: np.concatenate([frame.columns.get(name, np.full(len(frame), np.nan)) for frame in frames])
        for name in names
    }
    ints = [np.concatenate(parts) for parts in zip(*(frame.ints() for frame in frames), strict=True)]
    details = {number: each for frame in frames for number, each in frame.details.items()}
    whole = Frame.of(ints, columns, details)
    in_order = bool((np.diff(whole.seq) > 0).all())
    # Chunks follow each other, but for those that were cut because a part of them is repeated.
    return whole if in_order else whole.take(np.unique(whole.seq, return_index=True)[1])


EMPTY = frame_of([])


def encode(frame: Frame) -> bytes:
    """The frame as bytes."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    parts: list[bytes] = []
    ints: list[list[JsonValue]] = []
    floats: list[list[JsonValue]] = []
    for column in frame.ints():
        steps = np.diff(column)
        base = int(column[0]) if len(column) else 0
        if not len(steps) or (steps == steps[0]).all():
            ints.append(["constant", base, int(steps[0]) if len(steps) else 0])
            continue
        kind = _narrowest(steps)
        parts.append(compressor.compress(_by_significance(steps.astype(kind))))
        ints.append([kind, base, len(parts[-1])])
    for name, values in frame.columns.items():
        with np.errstate(over="ignore"):
            narrow = values.astype("<f4")
        is_exact = np.array_equal(narrow.astype("<f8"), values, equal_nan=True)
        parts.append(compressor.compress(_by_significance(narrow if is_exact else values.astype("<f8"))))
        floats.append([name, "<f4" if is_exact else "<f8", len(parts[-1])])
    details = b""
    if frame.details:
        details = compressor.compress(json.dumps(list(frame.details.items())).encode())
        parts.append(details)
    header = json.dumps(
        {"n": len(frame), "ints": ints, "floats": floats, "details": len(details)}, separators=(",", ":")
    ).encode()
    return b"".join([struct.pack("<I", len(header)), header, *parts])


def decode(data: bytes | memoryview, names: Collection[str] | None = None, *, with_details: bool = True) -> Frame:
    """The frame of these bytes, with all metrics or those of `names`. Raises DamagedSeries."""
    view = memoryview(data)
    try:
        (length,) = struct.unpack_from("<I", view)
        header = json.loads(bytes(view[4 : 4 + length]))
        return _Decoder(view, 4 + length, int(header["n"])).frame(header, names, with_details=with_details)
    except DamagedSeries:
        raise
    except (ValueError, KeyError, TypeError, struct.error, zstandard.ZstdError, OverflowError) as error:
        raise DamagedSeries(str(error)) from error


@dataclass
class _Decoder:
    view: memoryview
    offset: int
    count: int
    decompressor: zstandard.ZstdDecompressor = field(default_factory=zstandard.ZstdDecompressor)

    def frame(
        self, header: Mapping[str, Sequence[Sequence[str | int]]], names: Collection[str] | None, *, with_details: bool
    ) -> Frame:
        ints = [self._ints(str(kind), int(base), int(extra)) for kind, base, extra in header["ints"]]
        columns: dict[str, Floats] = {}
        for name, kind, length in header["floats"]:
            if names is None or name in names:
                columns[str(name)] = self._column(str(kind), int(length), self.count).astype(np.float64)
            else:
                self.offset += int(length)
        details: dict[int, dict[str, JsonValue]] = {}
        if header["details"] and with_details:
            details = dict(json.loads(self.decompressor.decompress(self.view[self.offset :])))
        return Frame.of(ints, columns, details)

    def _ints(self, kind: str, base: int, extra: int) -> Ints:
        if kind == "constant":
            return base + extra * np.arange(self.count, dtype=np.int64)
        column = np.empty(self.count, dtype=np.int64)
        column[0] = base
        np.cumsum(self._column(kind, extra, self.count - 1), dtype=np.int64, out=column[1:])
        column[1:] += base
        return column

    def _column(self, kind: str, length: int, count: int) -> NDArray[np.generic]:
        """The next column, of `count` values in `length` bytes."""
        type_ = np.dtype(kind)
        data = self.view[self.offset : self.offset + length]
        self.offset += length
        plain = self.decompressor.decompress(data, max_output_size=count * type_.itemsize)
        if type_.kind not in "if" or len(plain) != count * type_.itemsize:
            raise DamagedSeries("a column has another length")
        planes = np.frombuffer(plain, dtype=np.uint8).reshape(type_.itemsize, count)
        return np.ascontiguousarray(planes.T).view(type_).reshape(count)


def _narrowest(values: Ints) -> str:
    lowest, highest = int(values.min()), int(values.max())
    for kind in ("<i1", "<i2", "<i4"):
        limits = np.iinfo(kind)
        if limits.min <= lowest and highest <= limits.max:
            return kind
    return "<i8"


def _by_significance(values: NDArray[np.generic]) -> bytes:
    """The first bytes of all values, then the second ones, and so on: equal exponents come to stand together."""
    return np.ascontiguousarray(values.view(np.uint8).reshape(len(values), values.itemsize).T).tobytes()


def thinned_indices(count: int, columns: Sequence[Floats], intervals: int) -> Ints:
    """The ends of `count` points, and of each of so many intervals those where one of the columns is lowest or highest.

    No spike is lost, however long the series is.
    """
    places = np.arange(intervals + 1, dtype=np.int64) * count // intervals
    return with_extremes(count, columns, places[:-1], places[1:])
