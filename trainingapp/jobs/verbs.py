"""Asking for jobs, and taking that back."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.jobs import model_files as library
from trainingapp.jobs import wakeups
from trainingapp.models import Job


def ask_for_job(kind: Job.Kind, *, owner: Any, params: dict[str, Any], total: int = 0) -> Job:
    """Store a job and wake a worker. Files that it needs are put into `job.folder` before, by `prepared_job`."""
    return submit_job(prepared_job(kind, owner=owner, params=params, total=total))


def prepared_job(kind: Job.Kind, *, owner: Any, params: dict[str, Any], total: int = 0) -> Job:
    """A job that is not stored yet, with its folder, so that a worker never sees it without its files."""
    job = Job(kind=kind, owner=owner, params=params, total=total)
    job.folder.mkdir(parents=True, exist_ok=True)
    return job


def submit_job(job: Job) -> Job:
    """Store what `prepared_job` made and wake a worker."""
    job.save(force_insert=True)
    transaction.on_commit(wakeups.wake_jobs, robust=True)
    return job


def cancel_job(job: Job) -> Job:
    """Have nobody work on the job any more; one that is over stays as it is."""
    unfinished = Job.objects.filter(pk=job.pk, state__in=(Job.State.WAITING, Job.State.WORKING))
    with transaction.atomic():
        if unfinished.update(state=Job.State.CANCELLED, finished_at=timezone.now()):
            audit.record("cancel", job)
    job.refresh_from_db()
    if job.state == Job.State.CANCELLED:
        library.note_failure(job, _("Cancelled."))
    return job
