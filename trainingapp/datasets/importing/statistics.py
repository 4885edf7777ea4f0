"""Statistics of a dataset: images, objects and pixels by class and split, and size distributions."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict, get_args

import numpy as np

from trainingapp.contract.dataset_index import Sample, Split
from trainingapp.datasets.importing.ingest import IngestedImage

MOST_BINS = 20
SPLITS: tuple[Split, ...] = get_args(Split)


class ClassStatistics(TypedDict):
    """Counts of a class by split; `pixels` is the share of the known pixels (0 to 1), None without masks."""

    name: str
    images: dict[Split, int]
    objects: dict[Split, int]
    pixels: dict[Split, float] | None


class Histogram(TypedDict):
    """`counts[i]` values lie in [`edges[i]`, `edges[i + 1]`); the last bin also counts all higher values."""

    edges: list[float]
    counts: list[int]


class Statistics(TypedDict):
    """The content of `Dataset.statistics`. Classes are in label order. Crowds do not count as objects."""

    images: dict[Split, int]
    objects: dict[Split, int]
    classes: list[ClassStatistics]
    histograms: dict[str, Histogram]


def statistics(classes: list[str], ingested: Sequence[IngestedImage], samples: Sequence[Sample]) -> Statistics:
    """The statistics of the ingested images and their samples, which are in the same order."""
    pairs = zip(ingested, samples, strict=True)
    images = Counter((sample.split, label) for item, sample in pairs for label in item.shown())
    objects = Counter((sample.split, box.label) for sample in samples for box in sample.boxes if not box.crowd)
    shares = _pixel_shares(len(classes), ingested, samples)
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


def _pixel_shares(
    class_count: int, ingested: Sequence[IngestedImage], samples: Sequence[Sample]
) -> dict[Split, list[float]] | None:
    if not any(sample.mask for sample in samples):
        return None
    sums = {split: np.zeros(class_count, np.int64) for split in SPLITS}
    known: Counter[Split] = Counter()
    for item, sample in zip(ingested, samples, strict=True):
        sums[sample.split][: len(item.pixels)] += np.array(item.pixels, np.int64)
        known[sample.split] += item.known_pixels
    return {split: [round(share, 6) for share in (sums[split] / max(1, known[split])).tolist()] for split in SPLITS}


def _values(samples: Sequence[Sample]) -> dict[str, Sequence[float]]:
    """The values of each histogram by name; areas are shares of the image area."""
    found: dict[str, Sequence[float]] = {
        "width": [sample.width for sample in samples],
        "height": [sample.height for sample in samples],
        "aspect": [sample.width / sample.height for sample in samples],
    }
    if any(sample.labels is not None for sample in samples):
        found["labels_per_image"] = [len(sample.labels or ()) for sample in samples]
    areas, aspects = array("d"), array("d")
    for sample in samples:
        for box in sample.boxes:
            if not box.crowd:
                width, height = box.right - box.left, box.bottom - box.top
                areas.append(width * height / (sample.width * sample.height))
                aspects.append(width / height)
    if areas:
        found["objects_per_image"] = [len(sample.boxes) for sample in samples]
        found["box_area"], found["box_aspect"] = areas, aspects
    return found


def histogram(values: Sequence[float]) -> Histogram:
    """A histogram with at most 20 bins of equal width; bins of integers begin at integers.

    The bins end at the 98th percentile, and the last bin also counts higher values, so that a single outlier does not
    put all other values into one bin.
    """
    numbers = np.array(values, np.float64)
    low, high = float(numbers.min()), float(np.quantile(numbers, 0.98))
    if (numbers == np.round(numbers)).all():
        step = max(1.0, np.ceil((high - low + 1) / MOST_BINS))
        edges = np.arange(low, high + step + 0.5, step) if high > low else np.array([low, low + 1])
    else:
        edges = np.linspace(low, high if high > low else low + 1e-3, MOST_BINS + 1)
    counts, _edges = np.histogram(numbers.clip(max=edges[-1]), bins=edges)
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts.tolist()}
