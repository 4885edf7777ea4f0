"""The wake-ups. They carry no state: the work to be done is read from the database, so losing one costs a moment."""

import logging
import threading
from pathlib import Path

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, db_task

from trainingapp.accounts import audit
from trainingapp.accounts.notifications import delivery, outbox
from trainingapp.contract.storage.durable import is_writable
from trainingapp.datasets import imports, uploads
from trainingapp.jobs import execution, lease
from trainingapp.jobs.kinds import Lane
from trainingapp.jobs.wakeups import wake_jobs, wake_trainer
from trainingapp.models import IdempotencyKey
from trainingapp.operations import disk_alarm
from trainingapp.runs import checkpoint_files as housekeeping
from trainingapp.runs import history, series_migration
from trainingapp.runs.sweeps import advance as sweeps
from trainingapp.scheduling import forecast, inventory
from trainingapp.scheduling.scheduler import claim_next, is_waiting
from trainingapp.supervision import HOST, recover_lost_runs, shutting_down, supervise, take_shares, worker_id

logger = logging.getLogger(__name__)

#: Runs that train at the same time in this process.
slots = threading.BoundedSemaphore(settings.MAX_TRAINING_PROCESSES)
#: Logged once until it can be written to again.
_folder_refuses = threading.Event()
#: Seconds of each minute for which metrics are converted.
CONVERTING_S = 40.0
_converting = threading.Lock()
#: Seconds of each hour for which old history is removed.
PRUNING_S = 300.0
#: Deliveries at the same time in this process: a slow receiver delays the others less.
_delivering = threading.BoundedSemaphore(2)
_advancing = threading.Lock()
_doing_jobs = {lane: threading.Lock() for lane in Lane}


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
    """A run whose folder is not writable could only fail: it waits until it can be saved, and its page shows why."""
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
    """Take over runs with requests whose worker is lost. A running supervisor reads requests itself."""
    recover_lost_runs(then=wake_trainer)


@db_task()
def do_jobs(lane_name: str) -> None:
    """Do the jobs of a lane one after the other; return at once when another thread does."""
    lane = Lane(lane_name)
    while not shutting_down.is_set() and _doing_jobs[lane].acquire(blocking=False):
        try:
            job = lease.claim_job(lane)
            if job is not None:
                execution.work(job)
        finally:
            _doing_jobs[lane].release()
        if job is None:
            return


@db_task()
def deliver_notifications() -> None:
    """Send e-mails and webhooks that are due, one after the other; return at once when other threads do."""
    if shutting_down.is_set() or not _delivering.acquire(blocking=False):
        return
    try:
        while not shutting_down.is_set() and delivery.deliver_next():
            pass
    finally:
        _delivering.release()


@db_task()
def advance_sweeps() -> None:
    """Create the next trials of sweeps and prune others; return at once when another thread does."""
    if shutting_down.is_set() or not _advancing.acquire(blocking=False):
        return
    try:
        sweeps.advance_due()
    finally:
        _advancing.release()


@db_periodic_task(crontab())
def health_check() -> None:
    """The look around of every minute; the worker's own watch looks more often."""
    check_for_work()
    forecast.keep_up()
    inventory.forget_gone()
    disk_alarm.check_disk()


@db_periodic_task(crontab())
def cleanup_old_sessions() -> None:
    """Remove what has expired: sessions, jobs, uploads, stored answers, notifications, entries of the audit trail."""
    SessionStore.clear_expired()
    execution.remove_old_jobs()
    audit.remove_old()
    outbox.remove_old()
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
    """Remove old checkpoints and old history by the retention policy of each run that has no trainer."""
    housekeeping.apply_ages()
    history.prune_some(PRUNING_S)


@db_periodic_task(crontab())
def convert_metrics() -> None:
    """Convert the metrics of runs of older versions for a part of a minute. There is nothing to do once all are."""
    if not shutting_down.is_set() and _converting.acquire(blocking=False):
        try:
            series_migration.convert_some(CONVERTING_S)
        finally:
            _converting.release()


def check_for_work() -> None:
    """Recover lost runs, start queued runs while slots are free, take shares of runs of other hosts, and execute jobs
    that no running worker holds."""
    recover_lost_runs(then=wake_trainer)
    take_shares()
    if is_waiting() and has_free_slot():
        wake_trainer()
    if forecast.is_missing():
        forecast.keep_up()
    imports.adopt_imports()
    if delivery.is_due():
        deliver_notifications()
    if sweeps.due_sweeps():
        advance_sweeps()
    for lane in Lane:
        if lease.waiting_jobs(lane).exists():
            wake_jobs(lane)


def has_free_slot() -> bool:
    if not slots.acquire(blocking=False):
        return False
    slots.release()
    return True
