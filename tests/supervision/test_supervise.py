"""supervise() with a real trainer process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.helpers.studio import TINY, wait_for
from tests.helpers.tiny import make_run
from tests.helpers.world import stored_events
from trainingapp.contract.storage.reading import damage
from trainingapp.models import Dataset, DeviceHold, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, drop_spare, shutting_down, supervise, warm_spare, worker_id
from trainingapp.supervision.trainers import end_leftover

pytestmark = pytest.mark.django_db(transaction=True)

LONG = {**TINY, "epochs": 500}


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    drop_spare()


def claimed(user: User, tints: Dataset, **config: Any) -> TrainingRun:
    make_run(user, tints, start=True, **{**TINY, **config})
    run = claim_next(HOST, worker_id())
    assert run is not None
    return run


@contextmanager
def supervised(run: TrainingRun) -> Iterator[threading.Thread]:
    """supervise() in a thread; at the end the thread must have ended by itself."""

    def work() -> None:
        try:
            supervise(run)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
        thread.join(60)
        assert not thread.is_alive()
    finally:
        shutting_down.set()
        thread.join(60)
        shutting_down.clear()


def stored(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)


def wait_for_step(run: TrainingRun, step: int) -> TrainingRun:
    wait_for(lambda: stored(run).step >= step, 60, f"step {step}")
    return stored(run)


def test_a_run_completes_and_everything_is_stored(user: User, tints: Dataset) -> None:
    run = claimed(user, tints)
    supervise(run)
    run = stored(run)
    assert (run.status, run.epoch, run.step, run.total_steps) == ("completed", 3, 18, 18)
    assert (run.worker, run.pid, run.phase) == ("", None, "")
    assert run.best_metric_name == "top1"
    assert run.elapsed_s > 0
    events = stored_events(run.pk)
    assert [event.seq for event in events] == list(range(1, run.event_seq + 1))
    steps = [event.step for event in events if event.type == "metrics" and event.data["split"] == "train"]
    assert steps == list(range(1, 19))
    assert run.checkpoints.filter(is_last=True).count() == run.checkpoints.filter(is_best=True).count() == 1
    saved = run.checkpoints.all()
    assert all(damage(each.path, each.sha256) is None for each in saved)
    assert all(0 < each.stored_bytes <= each.size_bytes for each in saved)


@pytest.mark.any_database
def test_the_trainer_gets_its_device_and_releases_it(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, epochs=1, device="auto")
    supervise(run)
    assert json.loads((run.folder / "config.json").read_text())["device"] == "cpu"
    held = DeviceHold.objects.get()
    assert (held.run_id, held.device.torch_name, stored(run).device) == (run.pk, "cpu", "cpu")
    assert held.released_at is not None


@pytest.mark.any_database
def test_a_pause_ends_the_process_and_resuming_continues_from_that_step(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, epochs=30)
    with supervised(run):
        pid = wait_for_step(run, 3).pid
        run_verbs.pause_run(stored(run))
    paused = stored(run)
    assert (paused.status, paused.requested_action, paused.pid) == ("paused", "", None)
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert paused.checkpoints.get(is_last=True).step == paused.step
    run_verbs.resume_run(paused)
    again = claim_next(HOST, worker_id())
    assert again is not None
    with supervised(again):
        wait_for_step(run, paused.step + 2)
        run_verbs.stop_run(stored(run))
    started = run.events.filter(type="status", attempt=2, data__state="started").get()
    assert started.step == paused.step
    assert stored(run).status == "stopped"
    assert stored(run).checkpoints.filter(is_last=True).exists()


@pytest.mark.long
def test_a_killed_trainer_is_noticed_and_the_run_queued_again(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, **LONG)
    with supervised(run):
        pid = wait_for_step(run, 8).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        wait_for(lambda: stored(run).status == "queued", 15, "the run is queued")
        assert time.monotonic() - began < 5
    assert stored(run).recoveries == 1
    event = run.events.filter(type="status").latest("seq")
    assert "SIGKILL" in event.data["message"]
    assert event.level == "warning"


@pytest.mark.any_database
def test_the_end_of_the_worker_queues_the_run(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, **LONG)
    with supervised(run):
        wait_for_step(run, 3)
        shutting_down.set()
    after = stored(run)
    assert (after.status, after.recoveries, after.worker) == ("queued", 0, "")
    assert after.checkpoints.get(is_last=True).step == after.step, "nothing has to be made again"


@pytest.mark.long
def test_a_worker_that_lost_the_run_ends_its_trainer_and_does_not_change_the_row(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, **LONG)
    with supervised(run):
        pid = wait_for_step(run, 2).pid
        TrainingRun.objects.filter(pk=run.pk).update(worker="there:1:2")
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert (stored(run).status, stored(run).worker) == ("running", "there:1:2")


@pytest.mark.any_database
def test_a_configuration_that_cannot_be_used_fails_with_its_reason(user: User, tints: Dataset) -> None:
    run = claimed(user, tints)
    (tints.folder / "samples.jsonl").unlink()
    supervise(run)
    run = stored(run)
    assert run.status == "failed"
    assert run.error_class == "bad_data"
    assert "samples.jsonl" in run.error_message


@pytest.mark.long
def test_a_folder_of_another_database_is_moved_aside(user: User, tints: Dataset) -> None:
    run = claimed(user, tints, epochs=1)
    run.folder.mkdir(parents=True)
    (run.folder / "events.jsonl").write_text('{"type": "log", "message": "not mine"}\n')
    supervise(run)
    assert stored(run).status == "completed"
    assert not run.events.filter(data__message="not mine").exists()
    (aside,) = run.folder.parent.glob("*.orphan")
    assert (aside / "events.jsonl").exists()


@pytest.mark.any_database
def test_a_folder_that_cannot_be_created_is_a_failure_with_a_reason(user: User, tints: Dataset, settings: Any) -> None:
    run = claimed(user, tints)
    blocker = Path(settings.RUNS_DIR)
    blocker.write_text("")
    supervise(run)
    run = stored(run)
    assert (run.status, run.error_class) == ("failed", "error")
    assert run.error_lines


@pytest.mark.any_database
def test_a_warm_process_is_used_and_replaced_after_the_first_step(user: User, tints: Dataset, settings: Any) -> None:
    settings.SPARE_TRAINER = True
    me = psutil.Process()

    def spares() -> set[int]:
        return {child.pid for child in me.children() if "--spare" in cmdline(child)}

    warm_spare()
    warm_spare()
    (spare,) = spares()
    run = claimed(user, tints, **LONG)
    with supervised(run):
        assert wait_for_step(run, 2).pid == spare
        wait_for(lambda: spares() - {spare}, 20, "there is a new spare")
        assert len(spares()) == 2
        run_verbs.stop_run(stored(run))
    assert "First step" in "".join(run.events.filter(type="log").values_list("data__message", flat=True))
    drop_spare()
    assert not spares()


@pytest.mark.any_database
@pytest.mark.long
def test_a_dead_warm_process_does_no_harm(user: User, tints: Dataset, settings: Any) -> None:
    settings.SPARE_TRAINER = True
    warm_spare()
    (spare,) = [child for child in psutil.Process().children() if "--spare" in cmdline(child)]
    spare.kill()
    settings.SPARE_TRAINER = False
    run = claimed(user, tints, epochs=1)
    supervise(run)
    assert stored(run).status == "completed"
    assert stored(run).recoveries == 0


#: A process that answers SIGTERM as a trainer does: it saves, then leaves.
SAVES_AND_LEAVES = """
import signal, sys, time
from pathlib import Path
def leave(number, frame):
    Path(sys.argv[1]).write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def leftover(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A running process in a separate group, which is ready for signals."""
    command = [sys.executable, "-c", SAVES_AND_LEAVES, str(tmp_path / "saved")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_leftover_trainer_saves_before_it_ends(tmp_path: Path, leftover: "subprocess.Popen[str]") -> None:
    record = {"pid": leftover.pid, "create_time": psutil.Process(leftover.pid).create_time()}
    (tmp_path / "trainer.pid").write_text(json.dumps(record))
    end_leftover(tmp_path)
    assert leftover.wait(60) == 0
    assert (tmp_path / "saved").read_text() == "saved"


@pytest.mark.parametrize("wrong", ["another start time", "another host", "torn", "missing"])
def test_a_process_that_is_not_a_leftover_is_not_touched(
    tmp_path: Path, leftover: "subprocess.Popen[str]", wrong: str
) -> None:
    record = {"pid": leftover.pid, "create_time": psutil.Process(leftover.pid).create_time()}
    changes = {"another start time": {"create_time": 1.0}, "another host": {"host": "elsewhere"}}
    text = json.dumps(record | changes.get(wrong, {}))
    if wrong != "missing":
        (tmp_path / "trainer.pid").write_text(text[: len(text) // 2] if wrong == "torn" else text)
    end_leftover(tmp_path)
    assert leftover.poll() is None
    assert not (tmp_path / "saved").exists()


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_worker_that_has_lost_its_run_before_the_start_replaces_nothing(
    user: User, tints: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still after its claim; the run is at a later attempt, whose configuration the folder has."""
    run = claimed(user, tints)
    config_file = run.folder / "config.json"

    def stand_still(_supervisor: object) -> None:
        TrainingRun.objects.filter(pk=run.pk).update(attempt=run.attempt + 1)
        config_file.parent.mkdir(parents=True)
        config_file.write_text("that of the later attempt")

    monkeypatch.setattr("trainingapp.supervision.supervision._Supervisor._prepare", stand_still)
    supervise(run)
    assert config_file.read_text() == "that of the later attempt"
    assert [path.name for path in run.folder.iterdir()] == ["config.json"], "no trainer was started"
    assert stored(run).attempt == run.attempt + 1
