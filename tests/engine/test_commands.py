"""The trainer's handling of commands, signals, the end of its input and wrong usage."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.trainers import change_order, events_of, index_of, last_status, newest_content
from trainingapp.contract.run_directory import TENSORBOARD_DIR, run_lock

LONG = {"epochs": 500, "autosave_minutes": 0}


def _running(event: dict) -> bool:
    return event["type"] == "metrics"


def _leave_usage(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainingapp.engine", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.long
def test_checkpoint_then_stop(new_run, start) -> None:
    run_dir = new_run(**LONG, keep_checkpoints=50)
    trainer = start(run_dir)
    trainer.wait_for(_running)
    trainer.send(command="nonsense")
    trainer.send(command="checkpoint")
    saved = trainer.wait_for(lambda event: event.get("reason") == "command")
    trainer.send(command="stop")
    assert trainer.wait() == 0, trainer.log()
    assert last_status(run_dir)["state"] == "stopped"
    assert (run_dir / "checkpoints" / saved["file"]).name == f"step_{saved['step']}.pt"
    assert index_of(run_dir)[-1]["step"] == last_status(run_dir)["step"]
    assert newest_content(run_dir)["step"] == last_status(run_dir)["step"]
    assert "Unknown command" in trainer.log()


@pytest.mark.long
def test_end_of_input_interrupts_and_saves(new_run, start) -> None:
    run_dir = new_run(**LONG)
    trainer = start(run_dir)
    trainer.wait_for(_running)
    trainer.close_input()
    assert trainer.wait() == 0, trainer.log()
    assert last_status(run_dir)["state"] == "interrupted"
    assert index_of(run_dir)[-1]["step"] == last_status(run_dir)["step"]


def test_a_signal_interrupts_and_a_second_trainer_waits_for_the_first(new_run, start) -> None:
    run_dir = new_run(**LONG)
    first = start(run_dir, "--no-control")
    first.wait_for(_running)
    change_order(run_dir)
    second = start(run_dir, is_patient=True)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 0, first.log()
    second.wait_for(lambda event: event["attempt"] == 2 and event["type"] == "metrics")
    second.send(command="stop")
    assert second.wait() == 0
    told = [(event["attempt"], event["state"]) for event in events_of(run_dir, "status")]
    states = [(attempt, state) for attempt, state in told if state != "resume_check"]
    assert states == [(1, "started"), (1, "interrupted"), (2, "started"), (2, "stopped")]


def test_a_locked_run_is_not_touched(new_run, monkeypatch) -> None:
    from trainingapp.engine import __main__ as trainer

    run_dir = new_run()
    with run_lock(run_dir, 1):
        monkeypatch.setattr(trainer, "run_lock", lambda folder, attempt: run_lock(folder, attempt, wait_s=0.1))
        assert trainer._run(run_dir, None) == 1
    assert last_status(run_dir)["state"] == "failed"
    assert "Another trainer" in last_status(run_dir)["message"]


def test_wrong_usage(tmp_path: Path) -> None:
    assert _leave_usage().returncode == 2
    missing = _leave_usage(str(tmp_path))
    assert missing.returncode == 2
    assert "config.json" in missing.stderr


def test_unknown_key_fails_as_bad_config(new_run, start) -> None:
    run_dir = new_run(learning_rat=1)
    trainer = start(run_dir)
    assert trainer.wait() == 1
    failed = last_status(run_dir)
    assert failed["error_class"] == "bad_config"
    assert "learning_rat" in failed["message"]
    assert failed["lines"]


def test_a_run_without_dataset_fails_as_bad_config(new_run, start) -> None:
    run_dir = new_run()
    values = json.loads((run_dir / "config.json").read_text())
    del values["dataset_dir"]
    (run_dir / "config.json").write_text(json.dumps(values))
    assert start(run_dir).wait() == 1
    assert "dataset_dir" in last_status(run_dir)["message"]


def test_a_trainer_whose_run_continued_elsewhere_writes_nothing(new_run, start) -> None:
    """On a shared disk without locks: the number in the lock file is of a later attempt."""
    run_dir = new_run(**LONG)
    trainer = start(run_dir)
    trainer.wait_for(_running)
    trainer.process.send_signal(signal.SIGSTOP)
    wait_until_stopped(trainer.process.pid)
    (run_dir / "trainer.lock").write_text("2")
    before = files_of(run_dir)
    trainer.process.send_signal(signal.SIGCONT)
    assert trainer.wait() == 1
    assert files_of(run_dir) == before
    assert "Attempt 2 of this run has started" in trainer.log()


def wait_until_stopped(pid: int) -> None:
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


def files_of(run_dir: Path) -> dict[str, bytes]:
    """All that is in the folder, without what an attempt has for itself: its output and its file for TensorBoard."""
    files = (path for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".log")
    files = (path for path in files if path.parent.name != TENSORBOARD_DIR)
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def test_a_signal_for_its_loader_processes_as_well_interrupts_and_saves(new_run, start) -> None:
    """A cluster scheduler sends it to all processes of a job."""
    run_dir = new_run(**LONG, num_workers=2)
    trainer = start(run_dir)
    trainer.wait_for(_running)
    loaders = psutil.Process(trainer.process.pid).children(recursive=True)
    assert len(loaders) == 2
    for process in (*loaders, trainer.process):
        process.terminate()
    assert trainer.wait() == 0, trainer.log()
    assert last_status(run_dir)["state"] == "interrupted"
    assert index_of(run_dir)[-1]["step"] == last_status(run_dir)["step"]
