"""Jobs for tests that act as the worker."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import pytest
from django.utils import timezone

from trainingapp.contract.messages import Message
from trainingapp.datasets.imports import request_import
from trainingapp.jobs import attempts, execution, lease
from trainingapp.jobs.kinds import Lane
from trainingapp.models import Dataset, Job


def no_worker(monkeypatch: object) -> None:
    """Discard wake-ups."""
    monkeypatch.setattr("trainingapp.worker.tasks.do_jobs", lambda lane: None)  # type: ignore[attr-defined]


#: The engine process that the tests of this process share; the product's own is ended after each foreground command.
engine = attempts.WarmProcess()
atexit.register(engine.drop)


@contextmanager
def shared_engine() -> Iterator[None]:
    """Let one engine process do all jobs: starting one takes seconds, and --jobs does the same as --job for each."""

    def attempt(job: Job, *, is_warm: bool) -> attempts.EngineAttempt:
        return engine_attempt(job, is_warm=True)

    engine_attempt = attempts.EngineAttempt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "warm_process", engine)
        patch.setattr(attempts, "EngineAttempt", attempt)
        yield


def work_off(lane: Lane | None = None, *, is_shared: bool = True) -> Job:
    """Execute the oldest waiting job like a worker. Returns its stored state afterwards.

    An engine job is done by the process that tests share, unless `is_shared` is false.
    """
    job = lease.claim_job(lane)
    assert job is not None, "no job waits"
    with shared_engine() if is_shared else nullcontext():
        execution.work(job)
    job.refresh_from_db()
    return job


def lose_worker(job: Job) -> None:
    """Let the lease of the job expire."""
    silent_since = timezone.now() - timedelta(seconds=lease.LEASE_S + 1)
    Job.objects.filter(pk=job.pk).update(heartbeat_at=silent_since)


def working_on(dataset: Dataset, status: str, phase: Message, *, done: int = 0, total: int = 0) -> Job:
    """Put the dataset in the state of being processed by a worker; `status` is "inspecting" or "importing"."""
    Dataset.objects.filter(pk=dataset.pk).update(status=status)
    dataset.refresh_from_db()
    job = request_import(dataset)
    fields = {**lease.claimed_fields(), **lease.message_fields(phase), "done": done, "total": total}
    Job.objects.filter(pk=job.pk).update(**fields)
    job.refresh_from_db()
    return job
