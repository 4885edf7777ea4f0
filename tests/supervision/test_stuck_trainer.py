"""A trainer that was killed and does not end, as one that hangs in the driver of a GPU.

Such a process cannot be made here: SIGKILL ends every other one. The process is real, and the signal is not sent to it.
"""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.utils import timezone

from tests.helpers.machines import hold, machine
from trainingapp.contract.run_directory import LOCK_FILE, run_lock
from trainingapp.models import Device, TrainingRun
from trainingapp.models.run import RequestedAction
from trainingapp.supervision import recovery, supervise, supervision, trainers, worker_id
from trainingapp.supervision.identity import HOST
from trainingapp.supervision.trainers import PID_FILE, Trainer, end_group, end_leftover

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db

#: Holds the lock of the folder that is its first argument, and waits. SIGUSR1 asks a trainer for its stacks.
HOLDING = """
import fcntl, signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(600)
"""


class Stuck(Trainer):
    """A process that holds the lock of the folder, as a trainer does."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(folder / LOCK_FILE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        record = {"pid": self.pid, "create_time": psutil.Process(self.pid).create_time(), "host": HOST}
        (folder / PID_FILE).write_text(json.dumps(record))


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that were to be killed; they are at the end."""
    pids: list[int] = []
    kill = trainers.kill_group
    monkeypatch.setattr(trainers, "kill_group", pids.append)
    monkeypatch.setattr(trainers, "KILLED_S", 0.3)
    monkeypatch.setattr(supervision, "UNKILLABLE_S", 0.3)
    yield pids
    for pid in pids:
        kill(pid)


@pytest.fixture
def running(make: MAKE) -> TrainingRun:
    """A running run of this worker, on a GPU."""
    gpu = machine(HOST, gpus=1).devices.get(kind="gpu")
    run = make(
        "running",
        attempt=1,
        host=HOST,
        worker=worker_id(),
        heartbeat_at=timezone.now(),
        device="cuda:0",
        config={**make().config, "device": "cuda"},
    )
    hold(run, gpu)
    return run


def is_locked(folder: Path) -> bool:
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_waiting_for_a_killed_process_has_a_limit(unkillable: list[int], tmp_path: Path) -> None:
    trainer = Stuck(tmp_path)
    assert not end_group(trainer.process, 0.2)
    assert unkillable == [trainer.pid]
    trainer.kill()
    assert trainer.poll() is None


def test_the_run_is_settled_and_another_trainer_may_work_in_its_folder(
    running: TrainingRun, unkillable: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "start_trainer", Stuck)
    monkeypatch.setattr(supervision.Watchdog, "verdict", lambda *_arguments: "hang")
    supervise(running)
    run = TrainingRun.objects.get(pk=running.pk)
    assert (run.status, run.error_class, run.pid, run.worker) == ("queued", "stuck_trainer", None, "")
    assert run.error_message.startswith("The trainer on cuda:0 was killed and does not end")
    assert not run.holds.filter(released_at=None).exists()
    gpu = Device.objects.get(kind="gpu")
    assert (gpu.quarantine_cause, gpu.stuck_process["pid"]) == ("stuck", unkillable[0])
    assert psutil.pid_exists(unkillable[0])
    with run_lock(run.folder, 2, wait_s=0):
        pass


def test_a_request_is_answered_although_the_trainer_does_not_end(
    running: TrainingRun, unkillable: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    TrainingRun.objects.filter(pk=running.pk).update(requested_action=RequestedAction.KILL)
    monkeypatch.setattr(supervision, "start_trainer", Stuck)
    supervise(running)
    run = TrainingRun.objects.get(pk=running.pk)
    assert (run.status, run.error_class) == ("stopped", "")
    assert Device.objects.get(kind="gpu").quarantine_cause == "stuck"


def test_a_leftover_that_cannot_be_ended_does_not_hold_up_the_recovery(
    running: TrainingRun, unkillable: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.folder.mkdir(parents=True)
    stuck = Stuck(running.folder)
    monkeypatch.setattr(recovery, "LEFTOVER_GRACE_S", 0.2)
    monkeypatch.setattr(trainers.os, "kill", lambda *_arguments: None)  # SIGTERM
    assert is_locked(running.folder)
    recovery.recover_run(running)
    run = TrainingRun.objects.get(pk=running.pk)
    assert (run.status, run.error_class) == ("queued", "stuck_trainer")
    assert not is_locked(running.folder)
    assert stuck.poll() is None


def test_a_leftover_that_ends_leaves_its_lock_to_the_next(tmp_path: Path) -> None:
    Stuck(tmp_path)
    assert end_leftover(tmp_path) is None
    assert (tmp_path / LOCK_FILE).exists()
    assert not is_locked(tmp_path)


def test_nothing_is_left_of_a_process_that_can_be_killed(tmp_path: Path) -> None:
    trainer = Stuck(tmp_path)
    trainer.kill()
    assert trainer.poll() is not None
