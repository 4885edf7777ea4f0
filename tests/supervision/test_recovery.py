"""Runs whose worker is lost."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.events import write
from tests.helpers.studio import TINY, wait_for
from tests.helpers.threads import in_threads
from tests.helpers.tiny import make_run
from trainingapp.contract.events import EventLog
from trainingapp.models import Dataset, RunEvent, TrainingRun
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, recover_lost_runs, recover_run, worker_id
from trainingapp.supervision.identity import is_dead_here
from trainingapp.supervision.recovery import is_lost
from trainingapp.supervision.supervision import write_config
from trainingapp.supervision.trainers import start_trainer

MAKE = Callable[..., TrainingRun]


def lost_worker() -> str:
    """The identity of a worker of this host that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = f"{HOST}:{process.pid}:{psutil.Process(process.pid).create_time():.2f}"
    assert not is_dead_here(identity)
    process.communicate()
    assert is_dead_here(identity)
    return identity


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


@pytest.fixture
def silent(make: MAKE) -> TrainingRun:
    """Running by its row; the worker was killed."""
    return make("running", attempt=1, worker=lost_worker(), host=HOST, heartbeat_at=ago(60))


@pytest.mark.django_db
def test_when_a_run_counts_as_lost(make: MAKE) -> None:
    elsewhere, dead = "elsewhere:1:2.0", lost_worker()
    cases = [
        (elsewhere, 1, False),
        (elsewhere, 9, False),
        (elsewhere, 11, True),
        (dead, 1, False),
        (dead, 5, True),
        (worker_id(), 5, False),
        (worker_id(), 11, True),
    ]
    for worker, silence_s, expected in cases:
        run = make("running", attempt=1, worker=worker, heartbeat_at=ago(silence_s))
        assert is_lost(run) is expected, (worker, silence_s)
    assert not is_lost(make("queued"))


def test_a_reused_process_id_is_another_worker() -> None:
    assert not is_dead_here(worker_id())
    assert is_dead_here(f"{HOST}:{os.getpid()}:1.00")
    assert not is_dead_here("elsewhere:1:1.00")
    assert not is_dead_here("")


@pytest.mark.django_db
def test_the_run_is_queued_again_with_a_reason(silent: TrainingRun) -> None:
    recover_run(silent)
    run = TrainingRun.objects.get()
    assert (run.status, run.recoveries, run.worker, run.pid) == ("queued", 1, "", None)
    event = RunEvent.objects.get()
    assert (event.level, event.data["error_class"]) == ("warning", "lost_worker")
    assert HOST in event.data["message"]


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["completed", "paused", "stopped"])
def test_the_final_status_of_the_trainer_is_used(silent: TrainingRun, state: str) -> None:
    silent.folder.mkdir(parents=True)
    log = EventLog(silent.folder / "events.jsonl", 1)
    log.log("unheard")
    write(log, "status", state=state)
    with (silent.folder / "events.jsonl").open("a") as file:
        file.write('{"type": "lo')  # the power went here
    recover_run(silent)
    run = TrainingRun.objects.get()
    assert (run.status, run.recoveries) == (state, 0)
    assert RunEvent.objects.filter(data__message="unheard").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("wanted", "status"), [("pause", "paused"), ("stop", "stopped")])
def test_the_requested_action_is_carried_out(silent: TrainingRun, wanted: str, status: str) -> None:
    TrainingRun.objects.update(requested_action=wanted)
    silent.refresh_from_db()
    recover_run(silent)
    assert TrainingRun.objects.get().status == status


@pytest.mark.django_db
def test_after_the_last_recovery_the_run_fails(silent: TrainingRun) -> None:
    TrainingRun.objects.update(recoveries=3)
    silent.refresh_from_db()
    recover_run(silent)
    run = TrainingRun.objects.get()
    assert (run.status, run.error_class) == ("failed", "lost_worker")


@pytest.mark.django_db
def test_a_worker_that_sends_heartbeats_again_keeps_its_run(silent: TrainingRun) -> None:
    TrainingRun.objects.update(heartbeat_at=timezone.now())
    recover_run(silent)
    assert TrainingRun.objects.get().status == "running"


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_one_recovers_the_run(silent: TrainingRun) -> None:
    copies = [TrainingRun.objects.get() for _ in range(4)]
    assert in_threads([lambda copy=copy: recover_run(copy) for copy in copies]) == [None] * 4
    run = TrainingRun.objects.get()
    assert (run.status, run.recoveries) == ("queued", 1)
    assert RunEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_only_lost_runs_are_recovered(make: MAKE) -> None:
    lost = make("running", attempt=1, worker=lost_worker(), heartbeat_at=ago(60))
    alive = make("running", attempt=1, worker="elsewhere:1:2", heartbeat_at=ago(1))
    recovered: list[int] = []
    for thread in recover_lost_runs(then=lambda: recovered.append(1)):
        thread.join(30)
    assert recovered == [1]
    assert TrainingRun.objects.get(pk=lost.pk).status == "queued"
    assert TrainingRun.objects.get(pk=alive.pk).status == "running"


@pytest.mark.django_db(transaction=True)
def test_a_leftover_trainer_saves_and_ends_first(user: User, tints: Dataset) -> None:
    make_run(user, tints, start=True, **{**TINY, "epochs": 500})
    run = claim_next(HOST, lost_worker())
    assert run is not None
    run.folder.mkdir(parents=True)
    write_config(run)
    trainer = start_trainer(run.folder)
    events = run.folder / "events.jsonl"
    wait_for(lambda: events.exists() and '"metrics"' in events.read_text(), 60, "the trainer trains")
    TrainingRun.objects.update(heartbeat_at=ago(60))
    run.refresh_from_db()
    recover_run(run)
    trainer.wait(5)  # its last thread may be a moment behind
    assert trainer.poll() == 0
    run.refresh_from_db()
    assert run.status == "queued"
    assert run.checkpoints.get(is_last=True).reason == "interrupt"
    assert run.checkpoints.get(is_last=True).step == run.step > 0
    trainer.kill()
