"""Thinning of long series that keeps every peak."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypedDict

from pydantic import JsonValue

from trainingapp.contract.series import thinned_indices, time_of
from trainingapp.runs.series import Series, number


class Entry(TypedDict):
    """The values of one step, by name. A value that is not finite is None."""

    seq: int
    time: datetime
    attempt: int
    epoch: int | None
    step: int | None
    split: str
    values: dict[str, JsonValue]


def thinned(found: Iterable[Series], most: int) -> list[Entry]:
    """At most `most` entries of each series, ordered by number.

    A series is cut into equal intervals, and of each those stay where some value is lowest or highest. There is room
    for one interval at least: with very many names and a very small `most`, there may be up to twice as many entries
    as names.
    """
    return sorted((entry for series in found for entry in _kept(series, most)), key=lambda entry: entry["seq"])


def _kept(series: Series, most: int) -> Iterator[Entry]:
    frame = series.frame
    if len(frame) > most:
        columns = list(frame.columns.values())
        frame = frame.take(thinned_indices(len(frame), columns, max(1, (most - 2) // (2 * max(1, len(columns))))))
    for index in range(len(frame)):
        yield {
            "seq": int(frame.seq[index]),
            "time": time_of(int(frame.time_us[index])),
            "attempt": int(frame.attempt[index]),
            "epoch": number(int(frame.epoch[index])),
            "step": number(int(frame.step[index])),
            "split": series.split,
            "values": frame.values_at(index),
        }
