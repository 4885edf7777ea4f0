"""A worker at a dataset: one at a time, with a folder of its own and a heartbeat, and a clear end whatever happens."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from trainingapp.datasets.errors import DatasetError, ReportItem
from trainingapp.models import Dataset
from trainingapp.models.text import storable

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""

PROGRESS_INTERVAL_S = 0.5
log = structlog.get_logger(__name__)


class GoneError(Exception):
    """The dataset was deleted, or decided by somebody else, while it was in work."""


class Heartbeat:
    """Says in the dataset's row that the work lives and how far it is, about twice a second."""

    def __init__(self, dataset: Dataset, status: str, on_progress: Progress | None) -> None:
        self.dataset = dataset
        self.expected = status
        self.on_progress = on_progress
        self._next_s = 0.0

    def touch(self) -> None:
        """Raises GoneError when there is nothing to work on any more."""
        if time.monotonic() >= self._next_s:
            self.update(heartbeat_at=timezone.now())
            self._next_s = time.monotonic() + PROGRESS_INTERVAL_S

    def beat(self, done: int, total: int) -> None:
        """Tell the progress. Raises GoneError when there is nothing to work on any more."""
        if self.on_progress:
            self.on_progress(done, total)
        if time.monotonic() < self._next_s and done != total:
            return
        self.update(heartbeat_at=timezone.now(), progress_done=done, progress_total=total)
        self._next_s = time.monotonic() + PROGRESS_INTERVAL_S

    def update(self, **values: Any) -> None:
        """Write to the row while it stands as it did. Raises GoneError otherwise."""
        if not Dataset.objects.filter(pk=self.dataset.pk, status=self.expected).update(**storable(values)):
            raise GoneError


@dataclass(frozen=True)
class Work:
    """An empty folder, locked, and the heartbeat."""

    folder: Path
    heartbeat: Heartbeat


@contextmanager
def at_work(dataset: Dataset, status: Dataset.Status, on_progress: Progress | None) -> Iterator[Work | None]:
    """Within: this process alone works on the dataset; None when there is nothing to do or another process is at it.

    What is wrong with the source or the disk refuses the dataset with a report. Whatever is left of the folder at the
    end is removed, and so is the upload of a dataset that is ready, refused or deleted. `dataset` is refreshed.
    """
    with _own_folder(dataset, status) as folder:
        if folder is None:
            yield None
            return
        try:
            yield Work(folder, Heartbeat(dataset, status, on_progress))
        except GoneError:
            log.info("work abandoned: the dataset was deleted", dataset=dataset.pk)
        except DatasetError as error:
            _refuse(dataset, status, error.items)
        except OSError as error:
            _refuse(dataset, status, [_os_error_item(error)])
        _remove_needless_upload(dataset)


@contextmanager
def _own_folder(dataset: Dataset, status: Dataset.Status) -> Iterator[Path | None]:
    folder = Path(settings.DATASETS_DIR) / f".import-{dataset.pk}"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _lock(descriptor, folder):
            yield None
            return
        try:
            _empty(folder)
            is_wanted = Dataset.objects.filter(pk=dataset.pk, status=status).exists()
            if not is_wanted:
                _remove_needless_upload(dataset)
            yield folder if is_wanted else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if Dataset.objects.filter(pk=dataset.pk).exists():
                dataset.refresh_from_db()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Whether this process now holds the folder; False too when it was renamed or removed meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == folder.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _refuse(dataset: Dataset, status: str, items: list[ReportItem]) -> None:
    Dataset.objects.filter(pk=dataset.pk, status=status).update(
        status=Dataset.Status.REFUSED, report=storable(items), heartbeat_at=timezone.now()
    )
    log.info("import refused", dataset=dataset.pk, errors=len(items))


def _remove_needless_upload(dataset: Dataset) -> None:
    """Remove the uploaded zip when nobody will read it again, and never anything that lies elsewhere."""
    waiting = (Dataset.Status.INSPECTING, Dataset.Status.PROPOSED, Dataset.Status.IMPORTING)
    if Dataset.objects.filter(pk=dataset.pk, status__in=waiting).exists():
        return
    path = Path(dataset.source)
    if dataset.source_is_upload and path.resolve().is_relative_to(Path(settings.UPLOADS_DIR).resolve()):
        path.unlink(missing_ok=True)


def _os_error_item(error: OSError) -> ReportItem:
    name = error.filename if isinstance(error.filename, str) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, message = "disk_full", "The disk of the studio filled up during the import. Nothing was kept."
    elif isinstance(error, FileNotFoundError):
        code, message = "source_missing", f"{Path(name).name or 'The source'} is not there (any more)."
    elif isinstance(error, PermissionError):
        code, message = "not_permitted", f"The studio may not read or write {Path(name).name or 'a file'}."
    else:
        code, message = "read_error", f"A file could not be read or written: {error.strerror or error}."
    return {"level": "error", "code": code, "file": Path(name).name, "message": message}
