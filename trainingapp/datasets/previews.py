"""Small pictures and pages of pictures for the browser."""

import json
import os
import tempfile
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from trainingapp.engine.dataset_files import SAMPLES_FILE
from trainingapp.models import Dataset

SIZES = (96, 160, 320, 640)
"""Widths that are made, in pixels; any other is rounded up to one, so that the cache stays small."""

PICTURES_DIR = "images"
THUMBNAILS_DIR = ".thumbs"


@dataclass(frozen=True)
class Preview:
    """A picture of a dataset. `path` is what `thumbnail` takes."""

    path: str
    label: int
    split: str
    width: int
    height: int


@dataclass(frozen=True)
class PicturePage:
    """Pictures `offset` to `offset + len(pictures)` of `total`."""

    pictures: list[Preview]
    offset: int
    total: int


def thumbnail(dataset: Dataset, sample_path: str, size: int = 160) -> Path:
    """Path of a WebP of at most `size` x `size` pixels, made on first use and never larger than the picture.

    Raises FileNotFoundError when `sample_path` is no picture of the dataset.
    """
    original = _picture_path(dataset, sample_path)
    size = next((known for known in SIZES if known >= size), SIZES[-1])
    target = dataset.folder / THUMBNAILS_DIR / str(size) / f"{sample_path}.webp"
    if not target.exists():
        _write_thumbnail(original, target, size)
    return target


def picture_page(
    dataset: Dataset, *, split: str | None = None, label: int | None = None, offset: int = 0, limit: int = 60
) -> PicturePage:
    """At most `limit` pictures from `offset` on of one split and class (None: all), in the order of the index.

    Raises FileNotFoundError when the dataset has no files (yet).
    """
    index = dataset.folder / SAMPLES_FILE
    assert offset >= 0
    assert limit >= 0
    starts = _line_starts(index, dataset.fingerprint, index.stat().st_mtime_ns).get((split, label), array("Q"))
    pictures = []
    with index.open("rb") as file:
        for start in starts[offset : offset + limit]:
            file.seek(start)
            pictures.append(_read_preview(file.readline()))
    return PicturePage(pictures, offset, len(starts))


@lru_cache(maxsize=16)
def _line_starts(index: Path, fingerprint: str, mtime_ns: int) -> dict[tuple[str | None, int | None], "array[int]"]:
    """Where the lines of each (split, label) begin, None standing for all; a ready dataset never changes."""
    starts: defaultdict[tuple[str | None, int | None], array[int]] = defaultdict(lambda: array("Q"))
    position = 0
    with index.open("rb") as file:
        for line in file:
            values = json.loads(line)
            split, label = values["split"], values["label"]
            for key in ((split, label), (split, None), (None, label), (None, None)):
                starts[key].append(position)
            position += len(line)
    return starts


def _read_preview(line: bytes) -> Preview:
    values = json.loads(line)
    return Preview(**{name: values[name] for name in ("path", "label", "split", "width", "height")})


def _picture_path(dataset: Dataset, sample_path: str) -> Path:
    """The file of a sample: only what lies in images/ is one. The import stores no links there."""
    parts = PurePosixPath(sample_path).parts
    path = dataset.folder / sample_path
    if not parts or parts[0] != PICTURES_DIR or ".." in parts or "\0" in sample_path or not path.is_file():
        raise FileNotFoundError(sample_path)
    return path


def _write_thumbnail(original: Path, target: Path, size: int) -> None:
    """Write to a temporary file and rename: two requests at once both end with a whole picture."""
    with Image.open(original) as image:
        image.draft("RGB", (2 * size, 2 * size))  # JPEG decodes at a fraction of its size, many times faster
        small = _as_trained(image)
        small.thumbnail((size, size), reducing_gap=2.0)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            small.save(file, "WEBP", quality=82, method=2)
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
