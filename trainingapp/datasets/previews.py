"""Small pictures and pages of pictures for the browser."""

from dataclasses import dataclass
from pathlib import Path

from trainingapp.models import Dataset


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
    """Path of a WebP of at most `size` x `size` pixels. Raises FileNotFoundError when it is no picture of the dataset."""
    raise NotImplementedError


def picture_page(
    dataset: Dataset, *, split: str | None = None, label: int | None = None, offset: int = 0, limit: int = 60
) -> PicturePage:
    """Pictures of one split and class (None: all), in the order of the index. Raises FileNotFoundError when not ready."""
    raise NotImplementedError
