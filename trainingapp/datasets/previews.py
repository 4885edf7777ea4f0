"""Thumbnails, mask overlays and pages of images for the web interface."""

import json
import os
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.dataset_index import IGNORED_PIXEL, SAMPLES_FILE, Sample, parse_sample
from trainingapp.contract.folds import FoldImage, fold_of_each
from trainingapp.models import Dataset

SIZES = (96, 160, 320, 640, 1280)
"""Sizes of thumbnails in pixels; other sizes are rounded up to one of them, so that the cache stays small."""

IMAGES_DIR = "images"
MASKS_DIR = "masks"
THUMBNAILS_DIR = ".thumbs"
SHOWN_FILE = "shown.jsonl"
"""Beside the index of a dataset with masks: line n lists all classes that the image in line n of the index shows."""

UNKNOWN_COLOUR = "#8a8f98"
"""The colour of mask pixels whose class is unknown."""

_Key = tuple[str | None, int | None]
"""(split, label), with None for all."""


class _IndexLine(TypedDict, total=False):
    """The fields of an index line that are used here; the first value of a box is its label."""

    split: str
    label: int | None
    labels: list[int] | None
    boxes: list[list[int]]


@dataclass(frozen=True)
class ImagePage:
    """Images `offset` to `offset + len(images)` of `total`."""

    images: list[Sample]
    offset: int
    total: int


def thumbnail(dataset: Dataset, sample_path: str, size: int = 160) -> Path:
    """Path of a WebP of at most `size` x `size` pixels, created on first use and never enlarged.

    Raises FileNotFoundError if `sample_path` is not an image of the dataset.
    """
    original = _inner_file(dataset, sample_path, IMAGES_DIR)
    size = _known_size(size)
    target = dataset.folder / THUMBNAILS_DIR / str(size) / f"{sample_path}.webp"
    if not target.exists():
        with Image.open(original) as image:
            image.draft("RGB", (2 * size, 2 * size))  # JPEG can be decoded at reduced size, many times faster
            small = _as_trained(image)
            small.thumbnail((size, size), reducing_gap=2.0)
        _store(small, target, quality=82)
    return target


def mask_overlay(dataset: Dataset, mask_path: str, size: int = 160) -> Path:
    """Path of a WebP overlay for the thumbnail of this size: classes in their colors, the background transparent.

    Created on first use. Raises FileNotFoundError if `mask_path` is not a mask of the dataset.
    """
    original = _inner_file(dataset, mask_path, MASKS_DIR)
    size = _known_size(size)
    target = dataset.folder / THUMBNAILS_DIR / f"{MASKS_DIR}-{size}" / f"{mask_path}.webp"
    if not target.exists():
        _store(coloured_mask(original, size), target, lossless=True)
    return target


def image_page(
    dataset: Dataset, *, split: str | None = None, label: int | None = None, offset: int = 0, limit: int = 60
) -> ImagePage:
    """At most `limit` images from `offset`, of one split and one class (None: all), in index order.

    The classes of an image are its labels, the labels of its boxes and those stored by `write_shown`. Raises
    FileNotFoundError if the dataset has no files (yet).
    """
    assert offset >= 0
    assert limit >= 0
    starts = _starts_of(dataset).get((split, label), array("Q"))
    images = []
    with (dataset.folder / SAMPLES_FILE).open("rb") as file:
        for start in starts[offset : offset + limit]:
            file.seek(start)
            where = f"{SAMPLES_FILE} byte {start}"
            images.append(parse_sample(json.loads(file.readline()), len(dataset.classes), where))
    return ImagePage(images, offset, len(starts))


def fold_places(dataset: Dataset, folds: int, fold: int) -> "array[int]":
    """The images of a fold, as their places among all images of the dataset, from 0 and in index order.

    Raises FileNotFoundError if the dataset has no files (yet).
    """
    index = dataset.folder / SAMPLES_FILE
    return _fold_places(index, dataset.fingerprint, index.stat().st_mtime_ns, len(dataset.classes), folds)[fold]


@lru_cache(maxsize=8)
def _fold_places(
    index: Path, fingerprint: str, mtime_ns: int, class_count: int, folds: int
) -> "tuple[array[int], ...]":
    with index.open("rb") as file:
        images = [FoldImage.of(parse_sample(json.loads(line), class_count, SAMPLES_FILE)) for line in file]
    found = tuple(array("Q") for _fold in range(folds))
    for place, fold in enumerate(fold_of_each(images, folds)):
        found[fold].append(place)
    return found


def write_shown(folder: Path, classes: Iterable[Iterable[int]]) -> None:
    """Store the classes of each image, in index order, for the class filter of the pages."""
    lines = (json.dumps(sorted(labels), separators=(",", ":")) + "\n" for labels in classes)
    with (folder / SHOWN_FILE).open("w", encoding="utf-8") as file:
        file.writelines(lines)


def can_filter_by_class(dataset: Dataset) -> bool:
    """Whether images can be filtered by class. Classes in masks are known only if `write_shown` stored them."""
    return any(label is not None for _split, label in _starts_of(dataset))


def mask_shares(dataset: Dataset, mask_path: str) -> dict[int | None, float]:
    """Share of the image area (0 to 1) by class, largest first; the key None stands for unknown pixels.

    Raises FileNotFoundError if `mask_path` is not a mask of the dataset.
    """
    with Image.open(_inner_file(dataset, mask_path, MASKS_DIR)) as image:
        values_HW = np.asarray(image)
    values, counts = np.unique(values_HW, return_counts=True)
    shares = {
        None if value == IGNORED_PIXEL else int(value) - 1: float(count / values_HW.size)
        for value, count in zip(values, counts, strict=True)
        if value
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _starts_of(dataset: Dataset) -> "dict[_Key, array[int]]":
    index = dataset.folder / SAMPLES_FILE
    return _line_starts(index, dataset.fingerprint, index.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _line_starts(index: Path, fingerprint: str, mtime_ns: int) -> "dict[_Key, array[int]]":
    """Byte offsets of the index lines by (split, label). A ready dataset never changes, so the index is read once."""
    starts: defaultdict[_Key, array[int]] = defaultdict(lambda: array("Q"))
    position = 0
    with index.open("rb") as file:
        for line, shown in zip(file, _shown(index.with_name(SHOWN_FILE)), strict=False):
            values: _IndexLine = json.loads(line)
            label_of_image = values.get("label")
            labels = shown | {box[0] for box in values.get("boxes", ())} | set(values.get("labels") or ())
            if label_of_image is not None:
                labels.add(label_of_image)
            for label in (None, *labels):
                starts[values["split"], label].append(position)
                starts[None, label].append(position)
            position += len(line)
    return dict(starts)


def _shown(path: Path) -> Iterator[set[int]]:
    """Yield the stored classes of each image, then empty sets without end."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (set(json.loads(line)) for line in file)
    while True:
        yield set()


def _known_size(size: int) -> int:
    return next((known for known in SIZES if known >= size), SIZES[-1])


def _inner_file(dataset: Dataset, path_in_it: str, folder: str) -> Path:
    """A file of the dataset in `folder`. Links need no check, since an import stores none there."""
    parts = PurePosixPath(path_in_it).parts
    path = dataset.folder / path_in_it
    if not parts or parts[0] != folder or ".." in parts or "\0" in path_in_it or not path.is_file():
        raise FileNotFoundError(path_in_it)
    return path


def coloured_mask(original: Path, size: int) -> Image.Image:
    """A mask (with the pixel values of a dataset) as RGBA of at most `size` x `size` pixels, each class in its color.

    Pixels are not interpolated, since a mixture would be another class. Raises OSError and other PIL errors if the file
    is not an image, and ValueError if it is not a single 8-bit channel.
    """
    with Image.open(original) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"{original} has the mode {image.mode}, not L.")
        image.thumbnail((size, size), Image.Resampling.NEAREST, reducing_gap=None)
        values_HW = np.asarray(image)
    return Image.fromarray(_mask_colours()[values_HW])


@lru_cache(maxsize=1)
def _mask_colours() -> NDArray[np.uint8]:
    """(256, 4) RGBA by the value of a mask pixel: 0 transparent, i + 1 the color of class i, 255 gray."""
    texts = [class_colour(value - 1) for value in range(1, IGNORED_PIXEL)] + [UNKNOWN_COLOUR]
    opaque = [(*bytes.fromhex(text[1:]), 255) for text in texts]
    return np.array([(0, 0, 0, 0), *opaque], dtype=np.uint8)


def _store(image: Image.Image, target: Path, *, quality: int = 80, lossless: bool = False) -> None:
    """Write to a temporary file and rename it, so that concurrent requests always get a complete image."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            image.save(file, "WEBP", quality=quality, lossless=lossless, method=2)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _as_trained(image: Image.Image) -> Image.Image:
    """The image as the trainer decodes it: RGB, upright, transparent parts white, 16 bits reduced to 8."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
