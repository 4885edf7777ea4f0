"""The lease of an import: which worker inspects or imports a dataset, and how its end is noticed."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import DatabaseError, close_old_connections
from django.db.models import Q, QuerySet
from django.utils import timezone

from trainingapp.contract.messages import dataset_checks as messages
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.report import report_item
from trainingapp.models import Dataset

logger = logging.getLogger(__name__)

#: States in which a worker is needed: reading a source, or importing it.
IN_WORK = (Dataset.Status.INSPECTING, Dataset.Status.IMPORTING)

#: Seconds after which an import without a heartbeat is taken up again.
IMPORT_LEASE_S = 30
IMPORT_BEAT_S = 5.0


def import_is_free(dataset: Dataset) -> bool:
    """Whether no living worker is inspecting or importing the dataset."""
    return free_imports().filter(pk=dataset.pk).exists()


def free_imports() -> QuerySet[Dataset]:
    lost_before = timezone.now() - timedelta(seconds=IMPORT_LEASE_S)
    is_free = Q(heartbeat_at=None) | Q(heartbeat_at__lt=lost_before)
    return Dataset.objects.filter(is_free, status__in=IN_WORK).order_by("created_at", "pk")


def claim_import() -> Dataset | None:
    while (dataset := free_imports().first()) is not None:
        if free_imports().filter(pk=dataset.pk).update(heartbeat_at=timezone.now()):
            return dataset
    return None


def work_on(dataset: Dataset) -> None:
    with _beating(dataset.pk):
        try:
            work = run_inspection if dataset.status == Dataset.Status.INSPECTING else run_import
            work(dataset)
        except Exception as error:  # the last instance: an import that nobody answers for would be tried for ever
            logger.exception("The import of dataset %s failed.", dataset.pk)
            _refuse(dataset, error)


def _refuse(dataset: Dataset, error: Exception) -> None:
    message = messages.IMPORT_FAILED(error=f"{type(error).__name__}: {error}")
    item = report_item("error", "import_failed", message)
    in_work = Dataset.objects.filter(pk=dataset.pk, status__in=IN_WORK)
    in_work.update(status=Dataset.Status.REFUSED, report=[item])


@contextmanager
def _beating(dataset_id: int) -> Iterator[None]:
    """Within: a thread says that the import is alive."""
    is_done = threading.Event()
    thread = threading.Thread(target=_beat, args=(dataset_id, is_done), name=f"import-{dataset_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def _beat(dataset_id: int, is_done: threading.Event) -> None:
    while not is_done.wait(IMPORT_BEAT_S):
        try:
            in_work = Dataset.objects.filter(pk=dataset_id, status__in=IN_WORK)
            in_work.update(heartbeat_at=timezone.now())
        except DatabaseError as error:
            logger.warning("The heartbeat of the import could not be written: %s", error)
            close_old_connections()
    close_old_connections()
