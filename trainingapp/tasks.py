"""The wake-ups. They carry no state: what is to be done is read from the database, so losing one costs a moment."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError, close_old_connections
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, db_task

from trainingapp import audit, forecast, housekeeping, jobs
from trainingapp.checks import is_writable
from trainingapp.datasets import uploads
from trainingapp.datasets.importer import run_import
from trainingapp.datasets.inspection import run_inspection
from trainingapp.devices import inventory
from trainingapp.models import Dataset, IdempotencyKey
from trainingapp.scheduler import claim_next, is_waiting
from trainingapp.supervisor import HOST, batch_preview, recover_lost_runs, shutting_down, supervise, worker_id

logger = logging.getLogger(__name__)

#: Runs that train at the same time in this process.
slots = threading.BoundedSemaphore(settings.MAX_TRAINING_PROCESSES)
#: Said once until it can be written to again.
_folder_refuses = threading.Event()
_importing = threading.Lock()
#: Jobs of seconds must not wait for those that may take minutes.
_doing_jobs = {lane: threading.Lock() for lane in jobs.Lane}

#: What a worker has to do with: reading a source, or importing it.
IN_WORK = (Dataset.Status.INSPECTING, Dataset.Status.IMPORTING)

#: Seconds after which an import without a heartbeat is taken up again.
IMPORT_LEASE_S = 30
IMPORT_BEAT_S = 5.0


@db_task()
def start_training() -> None:
    """Train queued runs one after the other while a slot is free; return at once when none is."""
    while slots.acquire(blocking=False):
        try:
            run = claim_next(HOST, worker_id()) if _may_claim() else None
            if run is not None:
                supervise(run)
        finally:
            slots.release()
        if run is None:
            return


def _may_claim() -> bool:
    """A run whose folder takes nothing could only fail: it waits until it can be saved, and its page says so."""
    if shutting_down.is_set():
        return False
    if is_writable(Path(settings.RUNS_DIR)):
        _folder_refuses.clear()
        return True
    if not _folder_refuses.is_set():
        logger.warning("Nothing can be written to %s: queued runs wait until that is possible.", settings.RUNS_DIR)
        _folder_refuses.set()
    return False


@db_task()
def control_training() -> None:
    """Take up runs that something was asked of while their worker is gone. A living supervisor reads it by itself."""
    recover_lost_runs(then=wake_trainer)


@db_task()
def import_datasets() -> None:
    """Inspect and import datasets one after the other; return at once when another thread is at it."""
    while not shutting_down.is_set() and _importing.acquire(blocking=False):
        try:
            dataset = _claim_import()
            if dataset is not None:
                _import(dataset)
        finally:
            _importing.release()
        if dataset is None:
            return


@db_task()
def draw_batch_preview(preview_id: str) -> None:
    """Draw a batch for the form of a run."""
    batch_preview.draw(preview_id)


@db_task()
def save_checkpoint_task() -> None:
    """Write checkpoints into the library of weights, one after the other; return at once when a thread is at it."""
    _do_jobs(jobs.Lane.SAVE)


@db_task()
def do_jobs() -> None:
    """The same for jobs that may take minutes."""
    _do_jobs(jobs.Lane.LONG)


@db_task()
def do_warm_jobs() -> None:
    """The same for jobs of seconds, which share a process."""
    _do_jobs(jobs.Lane.WARM)


def _do_jobs(lane: jobs.Lane) -> None:
    while not shutting_down.is_set() and _doing_jobs[lane].acquire(blocking=False):
        try:
            job = jobs.claim_job(lane)
            if job is not None:
                jobs.work(job)
        finally:
            _doing_jobs[lane].release()
        if job is None:
            return


@db_periodic_task(crontab())
def health_check() -> None:
    """The look around of every minute; the worker's own watch looks more often."""
    look_around()
    forecast.keep_up()
    inventory.forget_gone()


@db_periodic_task(crontab())
def cleanup_old_sessions() -> None:
    """Remove what has had its time: sign-ins, previews, jobs, uploads, kept answers, entries of the audit trail."""
    SessionStore.clear_expired()
    batch_preview.remove_old()
    jobs.remove_old_jobs()
    audit.remove_old()
    uploads.remove_old()
    remove_old_keys()


def remove_old_keys() -> None:
    """Forget the answers that are kept for repeated requests when their time is over."""
    IdempotencyKey.objects.filter(created_at__lt=timezone.now() - IdempotencyKey.KEPT).delete()


@db_periodic_task(crontab(minute="17"))
def scrub() -> None:
    """Compare some of the checkpoints, and of the library's files, with their hashes."""
    housekeeping.scrub_some()


@db_periodic_task(crontab(minute="47"))
def age_checkpoints() -> None:
    """Let old checkpoints go where the run says so and no trainer works on it."""
    housekeeping.apply_ages()


def look_around() -> None:
    """Take up what nobody works on: lost runs, queued runs while slots are free, imports whose worker died."""
    recover_lost_runs(then=wake_trainer)
    if is_waiting() and has_free_slot():
        wake_trainer()
    if forecast.is_missing():
        forecast.keep_up()
    if _free_imports().exists():
        wake_importer()
    if jobs.waiting_jobs().exists():
        wake_jobs()


def wake_trainer() -> None:
    """Have a worker look for queued runs."""
    start_training()


def wake_control() -> None:
    """Have a worker look for runs that are asked something and have nobody to answer."""
    control_training()


def wake_importer() -> None:
    """Have a worker look for datasets to import."""
    import_datasets()


def wake_jobs() -> None:
    """Have a worker look for jobs."""
    save_checkpoint_task()
    do_jobs()
    do_warm_jobs()


def has_free_slot() -> bool:
    if not slots.acquire(blocking=False):
        return False
    slots.release()
    return True


def import_is_free(dataset: Dataset) -> bool:
    """Whether no living worker is inspecting or importing the dataset."""
    return _free_imports().filter(pk=dataset.pk).exists()


def _free_imports() -> QuerySet[Dataset]:
    lost_before = timezone.now() - timedelta(seconds=IMPORT_LEASE_S)
    is_free = Q(heartbeat_at=None) | Q(heartbeat_at__lt=lost_before)
    return Dataset.objects.filter(is_free, status__in=IN_WORK).order_by("created_at", "pk")


def _claim_import() -> Dataset | None:
    while (dataset := _free_imports().first()) is not None:
        if _free_imports().filter(pk=dataset.pk).update(heartbeat_at=timezone.now()):
            return dataset
    return None


def _import(dataset: Dataset) -> None:
    with _beating(dataset.pk):
        try:
            work = run_inspection if dataset.status == Dataset.Status.INSPECTING else run_import
            work(dataset)
        except Exception as error:  # the last instance: an import that nobody answers for would be tried for ever
            logger.exception("The import of dataset %s failed.", dataset.pk)
            _refuse(dataset, error)


def _refuse(dataset: Dataset, error: Exception) -> None:
    message = _("The import failed: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
    item = {"level": "error", "code": "import_failed", "file": "", "message": message}
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
