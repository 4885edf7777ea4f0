"""Jobs: claimed once, tracked to their end, and never shown in progress without a worker."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from tests.helpers.jobs import lose_worker, no_worker, work_off
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES, JOB_CANCELLED
from trainingapp.jobs import execution, kinds, lease
from trainingapp.jobs import verbs as job_verbs
from trainingapp.jobs.kinds import JOB_KINDS, Lane, ReportProgress
from trainingapp.jobs.texts import job_message
from trainingapp.models import Job
from trainingapp.supervision import shutting_down

pytestmark = pytest.mark.django_db(transaction=True)

LANES = {
    "predict": Lane.WARM,
    "save_weights": Lane.SHORT,
    "batch_preview": Lane.SHORT,
    "import_dataset": Lane.IMPORT,
    "inspect_dataset": Lane.IMPORT,
    "store_dataset": Lane.STORE,
    "export": Lane.LONG,
    "predict_many": Lane.LONG,
    "preflight": Lane.LONG,
    "check_weights": Lane.LONG,
    "unheard_of": Lane.LONG,
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR, settings.DATA_DIR = tmp_path / "jobs", tmp_path
    no_worker(monkeypatch)


def asked(user: User, kind: str = "preflight", **params: object) -> Job:
    return job_verbs.request_job(kind, owner=user, params=params)  # type: ignore[arg-type]


Working = Callable[[Callable[[Job, ReportProgress], Mapping[str, object]]], None]


@pytest.fixture
def in_worker(monkeypatch: pytest.MonkeyPatch) -> Working:
    """`in_worker(work)` lets the worker's process do preflights by this function."""

    def use(work: Callable[[Job, ReportProgress], Mapping[str, object]]) -> None:
        monkeypatch.setattr(kinds, "import_string", lambda path: work)
        preflight = replace(JOB_KINDS["preflight"], work_path="work")
        monkeypatch.setitem(JOB_KINDS, "preflight", preflight)

    return use


# The registry


def test_every_kind_has_a_record_and_a_template() -> None:
    assert set(JOB_KINDS) == set(Job.Kind.values)
    for kind in JOB_KINDS.values():
        assert (Path("templates") / kind.template).is_file(), kind.template


def test_the_functions_that_the_records_name_exist() -> None:
    for kind in JOB_KINDS.values():
        for path in (kind.work_path, kind.on_done_path, kind.on_failed_path):
            assert not path or callable(kinds.import_string(path))


# Claims


def test_a_job_is_claimed_once(user: User) -> None:
    job = asked(user)
    assert lease.claim_job() == job
    assert lease.claim_job() is None


def test_of_many_workers_that_claim_at_the_same_time_each_job_has_one(user: User) -> None:
    for _ in range(3):
        asked(user)
    claimed: list[Job] = []
    start = threading.Barrier(6)

    def claim() -> None:
        start.wait()
        try:
            while (job := lease.claim_job(Lane.LONG)) is not None:
                claimed.append(job)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.pk for job in claimed) == sorted(Job.objects.values_list("pk", flat=True))
    assert set(Job.objects.values_list("tries", flat=True)) == {1}


def test_jobs_of_one_lane_do_not_wait_for_those_of_another(user: User) -> None:
    jobs = {kind: asked(user, kind) for kind in LANES}
    for lane in Lane:
        claimed = []
        while (job := lease.claim_job(lane)) is not None:
            claimed.append(job.kind)
        assert claimed == [kind for kind in jobs if LANES[kind] is lane]


def test_a_job_whose_worker_was_lost_is_claimed_again_a_limited_number_of_times(user: User) -> None:
    job = asked(user)
    for tries in (1, 2):
        claimed = lease.claim_job()
        assert claimed is not None
        assert claimed.tries == tries
        assert lease.claim_job() is None
        lose_worker(job)
    ended = work_off()
    assert (ended.state, ended.message_data["code"]) == ("failed", "job_worker_lost")
    assert job_message(ended) == "The worker was lost 2 times during this job."


def test_a_worker_that_lost_its_job_stores_nothing(user: User) -> None:
    job = asked(user)
    slow = lease.claim_job()
    assert slow is not None
    lose_worker(job)
    assert lease.claim_job() == job
    held = lease.Lease(slow)
    assert not held.renew({"done": 7})
    held.finish({"x": 1}, {})
    job.refresh_from_db()
    assert (job.state, job.done, job.tries, job.result) == ("working", 0, 2, {})


# Ends


def test_an_unknown_kind_fails_with_a_message(user: User) -> None:
    asked(user, "unheard_of")
    ended = work_off()
    assert (ended.state, "unheard_of" in job_message(ended)) == ("failed", True)
    assert ended.finished_at is not None


def test_work_in_the_worker_reports_progress_and_ends_with_a_result(user: User, in_worker: Working) -> None:
    job = asked(user)
    seen: list[tuple[int, int, str]] = []

    def work(mine: Job, report: ReportProgress) -> Mapping[str, object]:
        report(3, 9, IMPORTING_IMAGES())
        deadline = time.monotonic() + 10
        while not seen and time.monotonic() < deadline:
            stored = Job.objects.get(pk=mine.pk)
            if stored.done:
                seen.append((stored.done, stored.total, job_message(stored)))
        return {"found": str(mine.pk)}

    in_worker(work)
    ended = work_off()
    assert seen == [(3, 9, "Reading and checking the images")]
    assert (ended.state, ended.result, ended.message) == ("done", {"found": str(job.pk)}, "")


def test_an_error_in_the_worker_fails_the_job(user: User, in_worker: Working) -> None:
    def work(job: Job, report: ReportProgress) -> Mapping[str, object]:
        raise MemoryError("too large")

    asked(user)
    in_worker(work)
    ended = work_off()
    assert (ended.state, job_message(ended)) == ("failed", "The job failed: MemoryError: too large")


def test_a_job_that_takes_too_long_is_ended(user: User, in_worker: Working, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: Job, report: ReportProgress) -> Mapping[str, object]:
        while True:
            report(0, 0, IMPORTING_IMAGES())

    asked(user)
    in_worker(work)
    monkeypatch.setitem(JOB_KINDS, "preflight", replace(JOB_KINDS["preflight"], max_s=0.2))
    ended = work_off()
    assert (ended.state, ended.message_data["code"]) == ("failed", "job_timed_out")


@pytest.fixture
def endless(in_worker: Working) -> Iterator[threading.Event]:
    """Work in the worker that never ends; the event is set once it has started."""
    began = threading.Event()

    def work(job: Job, report: ReportProgress) -> Mapping[str, object]:
        while True:
            report(0, 0, IMPORTING_IMAGES())
            began.set()

    in_worker(work)
    yield began
    shutting_down.clear()


def in_thread(job: Job) -> threading.Thread:
    def run() -> None:
        execution.work(job)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_job_in_progress_is_cancelled_and_its_worker_stops(user: User, endless: threading.Event) -> None:
    job = asked(user)
    assert lease.claim(job)
    worker = in_thread(job)
    assert endless.wait(60)
    job_verbs.cancel_job(job)
    worker.join(10)
    assert not worker.is_alive()
    job.refresh_from_db()
    assert (job.state, job.message_data["code"]) == ("cancelled", JOB_CANCELLED.code)


def test_a_worker_that_shuts_down_releases_its_job_without_costing_an_attempt(
    user: User, endless: threading.Event
) -> None:
    job = asked(user)
    assert lease.claim(job)
    worker = in_thread(job)
    assert endless.wait(60)
    shutting_down.set()
    worker.join(10)
    assert not worker.is_alive()
    job.refresh_from_db()
    assert (job.state, job.tries, job.worker) == ("waiting", 0, "")
    assert lease.claim_job() == job


@pytest.mark.parametrize("kind", [kind for kind in LANES if kind != "unheard_of"])
def test_a_cancelled_job_of_any_kind_is_not_claimed_and_stays_cancelled(user: User, kind: str) -> None:
    job = job_verbs.cancel_job(asked(user, kind, dataset_id=0, weights_id=0))
    assert job.state == "cancelled"
    assert job_message(job) == "Cancelled."
    assert lease.claim_job() is None
    assert job_verbs.cancel_job(job).state == "cancelled"


def test_a_job_whose_result_exists_is_not_cancelled(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between storing the result and the end of the job, a cancellation comes too late."""
    job = asked(user, "import_dataset")
    assert lease.claim(job)
    monkeypatch.setattr(kinds, "import_string", lambda path: lambda *arguments: False)
    assert job_verbs.cancel_job(job).state == "working"


def test_a_message_of_an_older_version_is_shown_unchanged(user: User) -> None:
    job = asked(user)
    Job.objects.update(state="failed", message="It took more than 30 minutes.")
    job.refresh_from_db()
    assert job_message(job) == "It took more than 30 minutes."


# Removal


def test_old_jobs_and_folders_without_a_job_are_removed(user: User, tmp_path: Path) -> None:
    old, new, preview = asked(user), asked(user), asked(user, "batch_preview")
    (tmp_path / "previews").mkdir()
    two_hours_ago = timezone.now() - timedelta(hours=2)
    Job.objects.filter(pk=old.pk).update(state="done", finished_at=timezone.now() - timedelta(days=2))
    Job.objects.filter(pk__in=(new.pk, preview.pk)).update(state="done", finished_at=two_hours_ago)
    for job in (old, new, preview):
        os.utime(job.folder, (time.time() - 2 * 24 * 3600,) * 2)
    execution.remove_old_jobs()
    assert list(Job.objects.all()) == [new]
    assert (old.folder.exists(), new.folder.exists(), preview.folder.exists()) == (False, True, False)
    assert not (tmp_path / "previews").exists()
