"""A worker's session for inspecting or importing a dataset: a locked folder, a heartbeat and a defined end."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.conf import settings

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.decisions import decide
from trainingapp.datasets.images.memory_budget import return_large_blocks
from trainingapp.datasets.importing.reading_record import record_of_refused
from trainingapp.datasets.report import DatasetError, ReportItem, report_item
from trainingapp.datasets.sources.offers import Offer
from trainingapp.models import Dataset

#: Called with the number of images done and their total, both 0 while unknown. An exception from it ends the work.
Progress = Callable[[int, int], None]

PROGRESS_INTERVAL_S = 0.5
log = structlog.get_logger(__name__)


class GoneError(Exception):
    """The dataset was deleted or its status changed while it was processed."""


class Heartbeat:
    """Reports progress about twice a second, and checks whether the dataset was deleted or refused meanwhile."""

    def __init__(self, dataset: Dataset, status: str, on_progress: Progress | None) -> None:
        self.dataset = dataset
        self.expected = status
        self.on_progress = on_progress
        self._next_s = 0.0

    def touch(self) -> None:
        """Raise GoneError if the dataset no longer needs the work."""
        if time.monotonic() >= self._next_s:
            if self.on_progress:
                self.on_progress(0, 0)
            self._look()

    def beat(self, done: int, total: int) -> None:
        """Write the progress. Raises GoneError if the dataset no longer needs the work."""
        if self.on_progress:
            self.on_progress(done, total)
        if time.monotonic() >= self._next_s or done == total:
            self._look()

    def update(self, **values: object) -> None:
        """Update the row if it has the expected status. Raises GoneError otherwise."""
        if not decide(Dataset.objects.filter(pk=self.dataset.pk, status=self.expected), **values):
            raise GoneError

    def _look(self) -> None:
        if not Dataset.objects.filter(pk=self.dataset.pk, status=self.expected).exists():
            raise GoneError
        self._next_s = time.monotonic() + PROGRESS_INTERVAL_S


@dataclass(frozen=True)
class ImportSession:
    """An empty locked folder and the heartbeat."""

    folder: Path
    heartbeat: Heartbeat


@contextmanager
def import_session(
    dataset: Dataset, status: Dataset.Status, on_progress: Progress | None
) -> Iterator[ImportSession | None]:
    """Process the dataset exclusively. Yields None if there is nothing to do or another process holds the folder.

    A source error or a disk error refuses the dataset with a report. At the end, the folder is removed, and so is the
    upload of a dataset that is ready, refused or deleted. `dataset` is refreshed.
    """
    with _own_folder(dataset, status) as folder:
        if folder is None:
            yield None
            return
        return_large_blocks()
        try:
            yield ImportSession(folder, Heartbeat(dataset, status, on_progress))
        except GoneError:
            log.info("import session ended: the dataset was deleted or changed", dataset=dataset.pk)
        except DatasetError as error:
            _refuse(dataset, status, error.items, error.offers)
        except OSError as error:
            _refuse(dataset, status, [_os_error_item(error)])
        remove_needless_upload(dataset)


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
            for path in folder.iterdir():  # left over from a killed process
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            is_wanted = Dataset.objects.filter(pk=dataset.pk, status=status).exists()
            if not is_wanted:
                remove_needless_upload(dataset)
            yield folder if is_wanted else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if Dataset.objects.filter(pk=dataset.pk).exists():
                dataset.refresh_from_db()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Whether this process now holds the lock; also False if the folder was renamed or removed meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == folder.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _refuse(dataset: Dataset, status: str, items: list[ReportItem], offers: tuple[Offer, ...] = ()) -> None:
    reading = {"reading": record_of_refused(offers)} if offers else {}
    decide(Dataset.objects.filter(pk=dataset.pk, status=status), status=Dataset.Status.REFUSED, report=items, **reading)
    log.info("import refused", dataset=dataset.pk, errors=len(items))


def remove_needless_upload(dataset: Dataset) -> None:
    """Remove the uploaded file if it is no longer needed. Files outside UPLOADS_DIR are never removed.

    The upload of a refused dataset is kept, until the dataset is discarded, if another choice may make it readable.
    """
    found = Dataset.objects.filter(pk=dataset.pk).first()
    waiting = (Dataset.Status.INSPECTING, Dataset.Status.PROPOSED, Dataset.Status.IMPORTING)
    if found and (found.status in waiting or found.can_be_read_again):
        return
    path = Path(dataset.source)
    if dataset.source_is_upload and path.resolve().is_relative_to(Path(settings.UPLOADS_DIR).resolve()):
        path.unlink(missing_ok=True)


def _os_error_item(error: OSError) -> ReportItem:
    name = error.filename if isinstance(error.filename, str) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, message = "disk_full", messages.DISK_FULL_DURING_IMPORT()
    elif isinstance(error, FileNotFoundError):
        code, message = "source_missing", messages.SOURCE_MISSING(source=Path(name).name or messages.THE_SOURCE())
    elif isinstance(error, PermissionError):
        code, message = "not_permitted", messages.NOT_PERMITTED(source=Path(name).name or messages.A_FILE())
    else:
        code, message = "read_error", messages.READ_ERROR(reason=library_reason(error.strerror or str(error)))
    return report_item("error", code, message, Path(name).name)
