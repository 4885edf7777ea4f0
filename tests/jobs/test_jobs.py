"""Jobs: claimed once, followed to their end, and never left saying that they work when nobody does."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from trainingapp.jobs import execution as jobs
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import Job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    monkeypatch.setattr("trainingapp.worker.tasks.do_jobs", lambda: None)  # the test is the worker


def asked(user: User, kind: str = "unheard_of") -> Job:
    return job_verbs.ask_for_job(Job.Kind.PREFLIGHT if kind == "preflight" else kind, owner=user, params={})  # type: ignore[arg-type]


def test_a_job_is_claimed_once(user: User) -> None:
    job = asked(user)
    assert jobs.claim_job() == job
    assert jobs.claim_job() is None


def test_a_checkpoint_is_saved_while_an_export_that_takes_long_is_made(user: User) -> None:
    export, save, predict = (asked(user, kind) for kind in ("export", "save_weights", "predict"))
    unheard_of = asked(user)
    assert jobs.claim_job(jobs.Lane.LONG) == export
    assert jobs.claim_job(jobs.Lane.SAVE) == save
    assert jobs.claim_job(jobs.Lane.WARM) == predict
    assert jobs.claim_job(jobs.Lane.SAVE) is None
    assert jobs.claim_job(jobs.Lane.LONG) == unheard_of


def test_a_kind_that_the_worker_does_not_know_fails_with_a_sentence(user: User) -> None:
    asked(user)
    claimed = jobs.claim_job()
    assert claimed is not None
    jobs.work(claimed)
    claimed.refresh_from_db()
    assert (claimed.state, claimed.message) == ("failed", "This worker knows no job of the kind unheard_of.")
    assert claimed.finished_at is not None


def test_a_job_whose_worker_died_is_taken_up_again_but_not_for_ever(user: User) -> None:
    job = asked(user)
    for tries in (1, 2, 3):
        claimed = jobs.claim_job()
        assert claimed is not None
        assert claimed.tries == tries
        Job.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=jobs.LEASE_S + 1))
    jobs.work(claimed)
    job.refresh_from_db()
    assert (job.state, "twice" in job.message) == ("failed", True)


def test_a_cancelled_job_is_not_claimed_and_stays_cancelled(user: User) -> None:
    job = job_verbs.cancel_job(asked(user))
    assert job.state == "cancelled"
    assert jobs.claim_job() is None
    assert job_verbs.cancel_job(job).state == "cancelled"


def test_old_jobs_and_stray_folders_go(user: User, tmp_path: Path) -> None:
    old, new = asked(user), asked(user)
    long_ago = timezone.now() - timedelta(seconds=jobs.JOBS_KEPT_S + 1)
    Job.objects.filter(pk=old.pk).update(state="done", finished_at=long_ago)
    for job in (old, new):
        os.utime(job.folder, (time.time() - jobs.JOBS_KEPT_S - 1,) * 2)
    jobs.remove_old_jobs()
    assert list(Job.objects.all()) == [new]
    assert (old.folder.exists(), new.folder.exists()) == (False, True)
