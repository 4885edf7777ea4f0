"""Figures of a dataset for its page: images, objects and pixels of each class and split, and how sizes spread."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from trainingapp.contract.dataset_index import Sample, Split
from trainingapp.datasets.importing.ingest import Taken

MOST_BINS = 20
SPLITS: tuple[Split, ...] = get_args(Split)


def statistics(classes: list[str], taken: Sequence[Taken], samples: Sequence[Sample]) -> dict[str, Any]:
    """What `Dataset.statistics` holds.

    "images" and "objects" are counts by split; "classes" has, in the order of the labels, "name", "images",
    "objects" and the share of known "pixels" (None without masks); "histograms" have "edges" and "counts".
    Crowds are no objects.
    """
    images = Counter((sample.split, label) for item, sample in _pairs(taken, samples) for label in item.shown())
    objects = Counter((sample.split, box.label) for sample in samples for box in sample.boxes if not box.crowd)
    shares = _pixel_shares(len(classes), taken, samples)
    return {
        "images": {split: sum(sample.split == split for sample in samples) for split in SPLITS},
        "objects": {
            split: sum(count for (part, _label), count in objects.items() if part == split) for split in SPLITS
        },
        "classes": [
            {
                "name": name,
                "images": {split: images[split, label] for split in SPLITS},
                "objects": {split: objects[split, label] for split in SPLITS},
                "pixels": {split: shares[split][label] for split in SPLITS} if shares else None,
            }
            for label, name in enumerate(classes)
        ],
        "histograms": {name: histogram(values) for name, values in _values(samples).items() if values},
    }


def _pairs(taken: Sequence[Taken], samples: Sequence[Sample]) -> "zip[tuple[Taken, Sample]]":
    return zip(taken, samples, strict=True)


def _pixel_shares(
    class_count: int, taken: Sequence[Taken], samples: Sequence[Sample]
) -> dict[Split, list[float]] | None:
    if not any(sample.mask for sample in samples):
        return None
    sums = {split: np.zeros(class_count, np.int64) for split in SPLITS}
    known: Counter[Split] = Counter()
    for item, sample in _pairs(taken, samples):
        sums[sample.split][: len(item.pixels)] += np.array(item.pixels, np.int64)
        known[sample.split] += item.known_pixels
    return {split: [round(share, 6) for share in (sums[split] / max(1, known[split])).tolist()] for split in SPLITS}


def _values(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """The values that are shown, by name; areas as shares of the image's."""
    found: dict[str, list[float]] = {
        "width": [sample.width for sample in samples],
        "height": [sample.height for sample in samples],
        "aspect": [sample.width / sample.height for sample in samples],
    }
    boxes = [(sample, box) for sample in samples for box in sample.boxes if not box.crowd]
    if boxes:
        sizes = [(sample, box.right - box.left, box.bottom - box.top) for sample, box in boxes]
        found["objects_per_image"] = [len(sample.boxes) for sample in samples]
        found["box_area"] = [width * height / (sample.width * sample.height) for sample, width, height in sizes]
        found["box_aspect"] = [width / height for _sample, width, height in sizes]
    return found


def histogram(values: list[float]) -> dict[str, list[float] | list[int]]:
    """{"edges", "counts"} of at most 20 bins of equal width; whole numbers get bins that begin at whole numbers.

    The two hundredths at the far end of the values share the last bin with what is beyond it, so that one odd value
    does not make all others one bar.
    """
    array = np.array(values, np.float64)
    low, high = float(array.min()), float(np.quantile(array, 0.98))
    if (array == np.round(array)).all():
        step = max(1.0, np.ceil((high - low + 1) / MOST_BINS))
        edges = np.arange(low, high + step + 0.5, step) if high > low else np.array([low, low + 1])
    else:
        edges = np.linspace(low, high if high > low else low + 1e-3, MOST_BINS + 1)
    counts, _edges = np.histogram(array.clip(max=edges[-1]), bins=edges)
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts.tolist()}
