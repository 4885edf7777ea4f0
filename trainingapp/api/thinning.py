"""Thinning of long series that keeps every peak."""

import math
from collections import defaultdict
from datetime import datetime
from typing import TypedDict


class Entry(TypedDict):
    """The values of one step, by name. A value that is not finite is None."""

    seq: int
    time: datetime
    attempt: int
    epoch: int | None
    step: int | None
    split: str
    values: dict[str, float | None]


def thinned(entries: list[Entry], most: int) -> list[Entry]:
    """At most `most` entries of each split, in their order; an entry has "split" and "values".

    The entries of a split are cut into equal stretches, and of each stretch those stay where some value is least or
    greatest. There are at least two stretches' worth of room: with very many names and a very small `most`, there may
    be up to twice as many entries as names.
    """
    by_split: defaultdict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        by_split[entry["split"]].append(index)
    kept = {index for indices in by_split.values() for index in _kept(entries, indices, most)}
    return [entries[index] for index in sorted(kept)]


def _kept(entries: list[Entry], indices: list[int], most: int) -> set[int]:
    if len(indices) <= most:
        return set(indices)
    names = {name for index in indices for name in entries[index]["values"]}
    stretches = max(1, (most - 2) // (2 * len(names)))
    kept = {indices[0], indices[-1]}
    for number in range(stretches):
        start, end = number * len(indices) // stretches, (number + 1) * len(indices) // stretches
        for name in names:
            values = ((entries[index]["values"].get(name), index) for index in indices[start:end])
            known = [(value, index) for value, index in values if value is not None and not math.isnan(value)]
            if known:
                kept |= {min(known)[1], max(known)[1]}
    return kept
