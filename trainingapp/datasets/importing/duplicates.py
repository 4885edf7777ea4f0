"""Detection of identical and similar images: wrong labels if across classes, leakage if across splits."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from trainingapp.contract.dataset_index import Split
from trainingapp.contract.messages import dataset_images as messages
from trainingapp.datasets.importing.ingest import IngestedImage
from trainingapp.datasets.report import Report

MOST_BITS = 4
"""Images look alike when their perceptual hashes differ in at most this many of 64 bits."""
_BANDS = MOST_BITS + 1
_EDGES = [round(64 * band / _BANDS) for band in range(_BANDS + 1)]


def check_duplicates(images: Sequence[IngestedImage], splits: Sequence[Split], report: Report) -> None:
    """Warn about images whose files are identical."""
    first: dict[str, tuple[IngestedImage, Split]] = {}
    for item, split in zip(images, splits, strict=True):
        other, other_split = first.setdefault(item.digest, (item, split))
        if other is item:
            continue
        assert item.sample
        assert other.sample
        is_same = (item.sample.label, item.sample.labels) == (other.sample.label, other.sample.labels)
        if not is_same:
            message = messages.DUPLICATE_LABEL(path=item.file, other=other.file)
            report.warn("duplicate_label", message, item.file)
        if split != other_split:
            report.warn("leak", messages.LEAK(path=item.file, other=other.file), item.file)
        elif is_same:
            report.warn("duplicate", messages.DUPLICATE(path=item.file, other=other.file), item.file)


def check_similar(images: Sequence[IngestedImage], splits: Sequence[Split], report: Report) -> None:
    """Warn about validation images that are similar to a training image without being the same file."""
    hashed: dict[Split, list[tuple[IngestedImage, int]]] = {"train": [], "val": []}
    for item, split in zip(images, splits, strict=True):
        if item.perceptual_hash is not None:
            hashed[split].append((item, item.perceptual_hash))
    train, digests = hashed["train"], {item.digest for item, _hash in hashed["train"]}
    val = [(item, hash_) for item, hash_ in hashed["val"] if item.digest not in digests]
    found = nearest([hash_ for _item, hash_ in val], [hash_ for _item, hash_ in train])
    for (item, _hash), index in zip(val, found, strict=True):
        if index >= 0:
            message = messages.NEAR_LEAK(path=item.file, other=train[index][0].file)
            report.warn("near_leak", message, item.file)


def nearest(hashes: Sequence[int], others: Sequence[int]) -> list[int]:
    """For each hash, the index of the nearest of `others` within MOST_BITS bits, or -1.

    Hashes that differ in at most four bits agree in at least one of five bands of bits (pigeonhole principle). Only
    hashes that share a band are therefore compared.
    """
    queries = np.array(hashes, np.uint64)
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
            candidates = order[starts[index] : ends[index]]
            differing = np.bitwise_count(stored[candidates] ^ queries[index])
            place = int(differing.argmin())
            if differing[place] < bits[index]:
                best[index], bits[index] = candidates[place], differing[place]
    return [int(places[index]) if index >= 0 else -1 for index in best]
