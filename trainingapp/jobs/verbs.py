"""The verbs of jobs: request one, cancel one."""

from collections.abc import Mapping
from functools import partial

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from trainingapp.accounts import audit
from trainingapp.contract.messages.jobs_and_models import JOB_CANCELLED
from trainingapp.jobs import wakeups
from trainingapp.jobs.kinds import kind_of
from trainingapp.jobs.lease import claimed_fields, message_fields, unfinished_jobs
from trainingapp.models import Job
from trainingapp.supervision.identity import data_dir_id


def request_job(kind: Job.Kind, *, owner: User, params: Mapping[str, object], total: int = 0) -> Job:
    """Store a job and wake a worker. A job that needs files is made by `prepared_job`, then stored."""
    return submit_job(prepared_job(kind, owner=owner, params=params, total=total))


def prepared_job(kind: Job.Kind, *, owner: User, params: Mapping[str, object], total: int = 0) -> Job:
    """A job that is not stored yet, with its folder, so that a worker never sees it without its files."""
    job = Job(kind=kind, owner=owner, params=dict(params), total=total)
    job.folder.mkdir(parents=True, exist_ok=True)
    return job


def submit_job(job: Job, *, here: bool = False) -> Job:
    """Store what `prepared_job` made and wake a worker; with `here`, this process holds it and has to do it."""
    job.data_dir_id = data_dir_id()
    if here:
        for name, value in claimed_fields().items():
            setattr(job, name, value)
    job.save(force_insert=True)
    if not here:
        transaction.on_commit(partial(wakeups.wake_jobs, kind_of(job).lane), robust=True)
    return job


def cancel_job(job: Job) -> Job:
    """Cancel the job; its worker stops within a second. A job that has ended is not changed."""
    unfinished = unfinished_jobs().filter(pk=job.pk)
    changes = {"state": Job.State.CANCELLED, "finished_at": timezone.now(), **message_fields(JOB_CANCELLED())}
    with transaction.atomic():
        if unfinished.update(**changes):
            if kind_of(job).on_failed(job, JOB_CANCELLED()):
                audit.record("cancel", job)
            else:  # the result exists, and the worker is about to store it
                transaction.set_rollback(True)
    job.refresh_from_db()
    return job
