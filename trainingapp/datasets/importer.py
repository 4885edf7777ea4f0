"""Import a dataset."""

from collections.abc import Callable
from pathlib import Path

from trainingapp.models import Dataset

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


def check_upload(path: Path) -> None:
    """Refuse a zip whose table of contents is unsafe or empty. Raises DatasetError."""
    raise NotImplementedError


def run_import(dataset: Dataset, *, on_progress: Progress | None = None) -> None:
    """Read `dataset.source` and make the dataset ready, or refuse it with a report. Never raises for bad data."""
    raise NotImplementedError
