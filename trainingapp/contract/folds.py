"""Folds: the images of a dataset divided into k parts for a cross-validation (no torch).

A run with `folds` k takes the images of both splits together. It validates on the images of its own `fold` and trains
on all others. The division depends on the paths and classes of the images and on k alone, so that any run of any sweep
has the same folds of a dataset, on any machine.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainingapp.contract.dataset_index import DatasetIndex, Sample


@dataclass(frozen=True, slots=True)
class FoldImage:
    """What the division needs of an image. Images with the same `group` are in the same fold; "" is no group."""

    path: str
    classes: frozenset[int]
    group: str = ""

    @classmethod
    def of(cls, sample: Sample) -> "FoldImage":
        """`classes` are the labels of the image and of its boxes. What a mask shows is not in the index."""
        own = {sample.label} if sample.label >= 0 else set(sample.labels or ())
        return cls(sample.path, frozenset(own | {box.label for box in sample.boxes}), sample.group)


def fold_of_each(images: Sequence[FoldImage], folds: int) -> list[int]:
    """The fold of each image, from 0 to `folds` - 1, whatever the order of the images is.

    About the same share of every class is in each fold. An image with several classes counts for the rarest of them, as
    in iterative stratification (Sechidis et al., On the Stratification of Multi-Label Data, ECML PKDD 2011). Without
    groups, the numbers of images of two folds differ by one at most, and so do those of each of these strata.
    """
    shown = Counter(label for image in images for label in image.classes)
    units: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        units[f"group {image.group}" if image.group else f"image {image.path}"].append(index)
    strata: dict[int, list[str]] = defaultdict(list)
    for unit, indices in units.items():
        labels = {label for index in indices for label in images[index].classes}
        strata[min(labels, key=lambda label: (shown[label], label), default=-1)].append(unit)
    found, sizes = [0] * len(images), [0] * folds
    for _label, names in sorted(strata.items()):
        sizes_here = [0] * folds
        # Large groups first: what follows makes up for them.
        for unit in sorted(names, key=lambda name: (-len(units[name]), _drawn(name))):
            fold = min(range(folds), key=lambda one: (sizes_here[one], sizes[one], one))
            for index in units[unit]:
                found[index] = fold
            sizes_here[fold] += len(units[unit])
            sizes[fold] += len(units[unit])
    return found


def _drawn(unit: str) -> bytes:
    """A place in a random order that depends on the unit alone."""
    return hashlib.sha256(unit.encode()).digest()


def folded(index: DatasetIndex, folds: int, fold: int) -> DatasetIndex:
    """The dataset with the images of `fold` as its validation split and all others as its training split.

    The order of the images stays. 0 folds: the dataset as it is.
    """
    if not folds:
        return index
    places = fold_of_each([FoldImage.of(sample) for sample in index.samples], folds)
    samples = [
        replace(sample, split="val" if place == fold else "train")
        for sample, place in zip(index.samples, places, strict=True)
    ]
    return replace(index, samples=samples)
