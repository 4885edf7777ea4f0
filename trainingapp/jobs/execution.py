"""Doing jobs: a worker claims one, starts an attempt at it, and follows that to its end."""

import shutil
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from trainingapp.contract.messages.jobs_and_models import JOB_RESULT_NOT_STORED, JOB_TIMED_OUT, JOB_WORKER_LOST
from trainingapp.jobs.attempts import Attempt, Outcome, started
from trainingapp.jobs.kinds import DAY_S, JOB_KINDS, kind_of
from trainingapp.jobs.lease import Lease
from trainingapp.jobs.wakeups import wake_trainer
from trainingapp.models import Job
from trainingapp.scheduling.job_devices import release_gpu, take_gpu
from trainingapp.supervision import HOST, shutting_down

POLL_S = 0.1


def work(job: Job) -> None:
    """Do the claimed job and store what came of it."""
    lease, kind = Lease(job), kind_of(job)
    if job.tries > kind.max_tries:
        lease.fail(JOB_WORKER_LOST(count=kind.max_tries))
        return
    device = take_gpu(job, HOST) if kind.uses_gpu else {}
    try:
        attempt = started(job, device)
        try:
            outcome = _followed(lease, attempt, kind.max_s)
        finally:
            attempt.end()
    finally:
        if device:
            release_gpu(job)
            wake_trainer()  # a run may have waited for it
    if outcome is not None:
        _store(lease, outcome, attempt.progress())
    elif shutting_down.is_set():
        lease.release()  # after the attempt has ended: the next worker must find nothing in its way


def _followed(lease: Lease, attempt: Attempt, max_s: float | None) -> Outcome | None:
    """Wait for the outcome; None when the worker shuts down or has lost the job."""
    began_s = time.monotonic()
    while (outcome := attempt.outcome()) is None:
        if max_s is not None and time.monotonic() > began_s + max_s:
            return Outcome(failure=JOB_TIMED_OUT(count=round(max_s / 60)))
        if not lease.renew(attempt.progress()) or shutting_down.wait(POLL_S):
            return None
    return outcome


def _store(lease: Lease, outcome: Outcome, progress: dict[str, object]) -> None:
    if outcome.failure is not None:
        lease.fail(outcome.failure, outcome.error)
        return
    try:
        kind_of(lease.job).on_done(lease.job, outcome.result)
    except OSError as error:
        lease.fail(JOB_RESULT_NOT_STORED(error=str(error)))
    else:
        lease.finish(outcome.result, progress)


def remove_old_jobs() -> None:
    """Remove jobs that ended long ago, with their files, and folders without a job."""
    for kind in JOB_KINDS.values():
        old = timezone.now() - timedelta(seconds=kind.kept_s)
        Job.objects.filter(kind=kind.name, finished_at__lt=old).delete()
    Job.objects.filter(finished_at__lt=timezone.now() - timedelta(seconds=DAY_S)).delete()  # kinds of other versions
    shortest_s = min(kind.kept_s for kind in JOB_KINDS.values())
    for folder in Path(settings.JOBS_DIR).glob("?" * 32):
        is_old = folder.stat().st_mtime < time.time() - shortest_s
        if is_old and not Job.objects.filter(pk=folder.name).exists():
            shutil.rmtree(folder, ignore_errors=True)
    # Version 0.1 drew previews of batches there.
    shutil.rmtree(Path(settings.DATA_DIR) / "previews", ignore_errors=True)
