"""Equal and nearly equal images: across classes one label is wrong, across splits the validation is too good."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainingapp.contract.dataset_index import Split
from trainingapp.datasets.importing.ingest import Taken
from trainingapp.datasets.report import Report

MOST_BITS = 4
"""Images whose perceptual hashes differ in no more of their 64 bits look alike."""
_BANDS = MOST_BITS + 1
_EDGES = [round(64 * band / _BANDS) for band in range(_BANDS + 1)]


def check_duplicates(taken: Sequence[Taken], splits: Sequence[Split], report: Report) -> None:
    """Warn of images whose files are equal."""
    first: dict[str, tuple[Taken, Split]] = {}
    for item, split in zip(taken, splits, strict=True):
        other, other_split = first.setdefault(item.digest, (item, split))
        if other is item:
            continue
        assert item.sample
        assert other.sample
        if item.sample.label != other.sample.label:
            report.warn("duplicate_label", f"{item.file} equals {other.file}, which has another class.", item.file)
        if split != other_split:
            message = f"{item.file} equals {other.file}: training sees an image of the validation."
            report.warn("leak", message, item.file)
        elif item.sample.label == other.sample.label:
            report.warn("duplicate", f"{item.file} equals {other.file}.", item.file)


def check_looks(taken: Sequence[Taken], splits: Sequence[Split], report: Report) -> None:
    """Warn of validation images that look like one of training without being the same file."""
    train = [item for item, split in zip(taken, splits, strict=True) if split == "train" and item.look is not None]
    val = [item for item, split in zip(taken, splits, strict=True) if split == "val" and item.look is not None]
    digests = {item.digest for item in train}
    val = [item for item in val if item.digest not in digests]
    found = nearest([item.look or 0 for item in val], [item.look or 0 for item in train])
    for item, index in zip(val, found, strict=True):
        if index >= 0:
            message = f"{item.file} looks nearly like {train[index].file}, which is trained on."
            report.warn("near_leak", message, item.file)


def nearest(looks: Sequence[int], others: Sequence[int]) -> list[int]:
    """For each hash the index of the nearest of `others` within MOST_BITS, or -1.

    Two hashes that differ in at most four bits agree in at least one of five bands of bits, so that only those that
    share a band are compared.
    """
    queries = np.array(looks, np.uint64)
    stored, places = np.unique(np.array(others, np.uint64), return_index=True)
    best = np.full(len(queries), -1, np.int64)
    bits = np.full(len(queries), MOST_BITS + 1, np.int64)
    for low, high in pairwise(_EDGES):
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        order = np.argsort(stored & mask, kind="stable")
        keys = (stored & mask)[order]
        starts = np.searchsorted(keys, queries & mask, side="left")
        ends = np.searchsorted(keys, queries & mask, side="right")
        for index in np.flatnonzero((ends > starts) & (bits > 0)):
            _improve(int(index), queries, stored, order[starts[index] : ends[index]], best, bits)
    return [int(places[index]) if index >= 0 else -1 for index in best]


def _improve(
    index: int,
    queries: NDArray[np.uint64],
    stored: NDArray[np.uint64],
    candidates: NDArray[np.int64],
    best: NDArray[np.int64],
    bits: NDArray[np.int64],
) -> None:
    """Take the nearest candidate when it is nearer than what was found."""
    differing = np.bitwise_count(stored[candidates] ^ queries[index])
    place = int(differing.argmin())
    if differing[place] < bits[index]:
        best[index], bits[index] = candidates[place], differing[place]
