"""Small images, masks and pages of images for the browser."""

import json
import os
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.dataset_index import IGNORED_PIXEL, SAMPLES_FILE, Sample, parse_sample
from trainingapp.models import Dataset

SIZES = (96, 160, 320, 640, 1280)
"""Widths that are made, in pixels; any other is rounded up to one, so that the cache stays small."""

IMAGES_DIR = "images"
MASKS_DIR = "masks"
THUMBNAILS_DIR = ".thumbs"
SHOWN_FILE = "shown.jsonl"
"""Beside the index where there are masks: on line n the list of all classes that the image of its line n shows."""

UNKNOWN_COLOUR = "#8a8f98"
"""Of mask pixels of which nobody knows what they show."""

_Key = tuple[str | None, int | None]
"""(split, label), None standing for all."""


@dataclass(frozen=True)
class ImagePage:
    """Images `offset` to `offset + len(images)` of `total`."""

    images: list[Sample]
    offset: int
    total: int


def thumbnail(dataset: Dataset, sample_path: str, size: int = 160) -> Path:
    """Path of a WebP of at most `size` x `size` pixels, made on first use and never larger than the image.

    Raises FileNotFoundError when `sample_path` is no image of the dataset.
    """
    original = _inner_file(dataset, sample_path, IMAGES_DIR)
    size = _known_size(size)
    target = dataset.folder / THUMBNAILS_DIR / str(size) / f"{sample_path}.webp"
    if not target.exists():
        _store(_small_image(original, size), target, quality=82, method=2)
    return target


def mask_overlay(dataset: Dataset, mask_path: str, size: int = 160) -> Path:
    """Path of a WebP to lay over the thumbnail of the same size: each class in its colour, the background clear.

    Made on first use. Raises FileNotFoundError when `mask_path` is no mask of the dataset.
    """
    original = _inner_file(dataset, mask_path, MASKS_DIR)
    size = _known_size(size)
    target = dataset.folder / THUMBNAILS_DIR / f"{MASKS_DIR}-{size}" / f"{mask_path}.webp"
    if not target.exists():
        _store(coloured_mask(original, size), target, lossless=True, method=2)
    return target


def image_page(
    dataset: Dataset, *, split: str | None = None, label: int | None = None, offset: int = 0, limit: int = 60
) -> ImagePage:
    """At most `limit` images from `offset` on of one split that show one class (None: all), in the index's order.

    An image shows a class that is its label, the label of one of its boxes, or named by `write_shown`. Raises
    FileNotFoundError when the dataset has no files (yet).
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


def write_shown(folder: Path, classes: Iterable[Iterable[int]]) -> None:
    """Store which classes each image shows, in the order of the index, for the filter of the pages."""
    lines = (json.dumps(sorted(labels), separators=(",", ":")) + "\n" for labels in classes)
    with (folder / SHOWN_FILE).open("w", encoding="utf-8") as file:
        file.writelines(lines)


def can_filter_by_class(dataset: Dataset) -> bool:
    """Whether it is known which images show a class: masks are not looked into where `write_shown` was not called."""
    return any(label is not None for _split, label in _starts_of(dataset))


def mask_shares(dataset: Dataset, mask_path: str) -> dict[int | None, float]:
    """Share of the image's area by class, the largest first; None stands for what nobody knows.

    Raises FileNotFoundError when `mask_path` is no mask of the dataset.
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
    """Where the lines of each (split, label) begin; a ready dataset never changes, so it is read once."""
    starts: defaultdict[_Key, array[int]] = defaultdict(lambda: array("Q"))
    position = 0
    with index.open("rb") as file:
        for line, shown in zip(file, _shown(index.with_name(SHOWN_FILE)), strict=False):
            values = json.loads(line)
            for label in (None, *(_labels(values) | shown)):
                starts[values["split"], label].append(position)
                starts[None, label].append(position)
            position += len(line)
    return dict(starts)


def _shown(path: Path) -> Iterator[set[int]]:
    """The stored classes of one image after the other, then none for ever."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (set(json.loads(line)) for line in file)
    while True:
        yield set()


def _labels(values: dict[str, Any]) -> set[int]:
    """The classes that one line of the index names."""
    own = {values["label"]} if values.get("label") is not None else set()
    return own | {box[0] for box in values.get("boxes", ())}


def _known_size(size: int) -> int:
    return next((known for known in SIZES if known >= size), SIZES[-1])


def _inner_file(dataset: Dataset, path_in_it: str, folder: str) -> Path:
    """A file of the dataset: only what lies in `folder` is one. The import stores no links there."""
    parts = PurePosixPath(path_in_it).parts
    path = dataset.folder / path_in_it
    if not parts or parts[0] != folder or ".." in parts or "\0" in path_in_it or not path.is_file():
        raise FileNotFoundError(path_in_it)
    return path


def _small_image(original: Path, size: int) -> Image.Image:
    with Image.open(original) as image:
        image.draft("RGB", (2 * size, 2 * size))  # JPEG decodes at a fraction of its size, many times faster
        small = _as_trained(image)
        small.thumbnail((size, size), reducing_gap=2.0)
    return small


def coloured_mask(original: Path, size: int) -> Image.Image:
    """A mask (pixels as in a dataset's) as RGBA of at most `size` x `size` pixels, each class in its colour.

    No pixel is mixed from its neighbours: a mix would be another class. Raises OSError and what else PIL raises where
    it is no image, and ValueError where it has more than one channel of 8 bits.
    """
    with Image.open(original) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"{original} has the mode {image.mode}, not L.")
        image.thumbnail((size, size), Image.Resampling.NEAREST, reducing_gap=None)
        values_HW = np.asarray(image)
    return Image.fromarray(_mask_colours()[values_HW])


@lru_cache(maxsize=1)
def _mask_colours() -> NDArray[np.uint8]:
    """(256, 4) RGBA by the value of a mask's pixel: 0 clear, i + 1 the colour of class i, 255 grey."""
    texts = [class_colour(value - 1) for value in range(1, IGNORED_PIXEL)] + [UNKNOWN_COLOUR]
    opaque = [(*bytes.fromhex(text[1:]), 255) for text in texts]
    return np.array([(0, 0, 0, 0), *opaque], dtype=np.uint8)


def _store(image: Image.Image, target: Path, **options: Any) -> None:
    """Write to a temporary file and rename: two requests at once both end with a whole image."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            image.save(file, "WEBP", **options)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _as_trained(image: Image.Image) -> Image.Image:
    """RGB, turned upright, transparent parts white and 16 bits cut to 8: what the trainer makes of it."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
