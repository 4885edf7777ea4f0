"""The wake-ups: they process all waiting work that fits, and leave nothing half done."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from tests.helpers.jobs import lose_worker
from trainingapp.datasets.imports import request_import
from trainingapp.jobs import lease
from trainingapp.models import Dataset, Job, TrainingRun
from trainingapp.runs.verbs import stop_run
from trainingapp.supervision import shutting_down
from trainingapp.worker import tasks

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def full() -> Iterator[None]:
    """No slot is free."""
    taken = 0
    while tasks.slots.acquire(blocking=False):
        taken += 1
    yield
    for _ in range(taken):
        tasks.slots.release()


def test_without_a_free_slot_a_wake_up_returns_at_once(make: MAKE, full: None) -> None:
    make("queued")
    assert not tasks.has_free_slot()
    tasks.start_training.call_local()
    assert TrainingRun.objects.get().status == "queued"


def test_with_nothing_queued_a_wake_up_returns_and_frees_its_slot() -> None:
    tasks.start_training.call_local()
    assert tasks.has_free_slot()


def test_a_worker_that_ends_claims_nothing(make: MAKE) -> None:
    make("queued")
    shutting_down.set()
    try:
        tasks.start_training.call_local()
    finally:
        shutting_down.clear()
    assert TrainingRun.objects.get().status == "queued"


def test_expired_sessions_are_removed() -> None:
    over, valid = SessionStore(), SessionStore()
    for session, seconds in ((over, -1), (valid, 60)):
        session.set_expiry(seconds)
        session.create()
    tasks.cleanup_old_sessions.call_local()
    assert list(Session.objects.values_list("session_key", flat=True)) == [valid.session_key]


def test_requests_to_a_run_whose_worker_is_lost_are_carried_out_immediately(make: MAKE, full: None) -> None:
    run = make("running", worker="gone", host="gone", heartbeat_at=timezone.now() - timedelta(hours=1))
    stop_run(run)
    tasks.control_training.call_local()
    for thread in threading.enumerate():
        if thread.name == f"recover-{run.pk}":
            thread.join()
    run.refresh_from_db()
    assert run.status == "stopped"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that is no dataset."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def importing(user: User, source: Path, name: str = "new") -> Job:
    return request_import(Dataset.objects.create(name=name, owner=user, source=str(source)))


def test_every_waiting_import_is_processed(user: User, source: Path) -> None:
    for name in ("one", "two"):
        importing(user, source, name)
    tasks.do_jobs.call_local("import")
    assert set(Dataset.objects.values_list("status", flat=True)) == {"refused"}
    assert all(dataset.errors for dataset in Dataset.objects.all())


def test_an_import_whose_worker_died_is_resumed(user: User, source: Path) -> None:
    job = importing(user, source)
    assert lease.claim(job)
    lose_worker(job)
    tasks.do_jobs.call_local("import")
    assert Dataset.objects.get().status == "refused"


def test_an_import_of_another_worker_is_not_touched(user: User, source: Path) -> None:
    assert lease.claim(importing(user, source))
    tasks.do_jobs.call_local("import")
    assert Dataset.objects.get().status == "importing"


def test_an_import_of_version_0_1_gets_a_job_and_completes(user: User, source: Path) -> None:
    """The migration leaves a dataset that was being imported without a job."""
    dataset = Dataset.objects.create(name="old", owner=user, source=str(source), status="inspecting")
    tasks.check_for_work()
    dataset.refresh_from_db()
    assert dataset.job is not None
    assert (dataset.job.kind, dataset.job.owner) == ("inspect_dataset", user)
    adopted = dataset.job
    tasks.check_for_work()
    tasks.do_jobs.call_local("import")
    dataset.refresh_from_db()
    assert (dataset.status, dataset.job) == ("refused", adopted)
    assert Job.objects.count() == 1


def test_a_failing_import_is_refused_after_a_limited_number_of_attempts(
    user: User, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(dataset: Dataset, **options: object) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr("trainingapp.datasets.imports.run_import", broken)
    importing(user, source)
    tasks.do_jobs.call_local("import")
    dataset = Dataset.objects.get()
    assert dataset.status == "refused"
    assert "MemoryError: too large" in dataset.errors[0]["message"]
