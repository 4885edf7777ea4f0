"""A worker that stops and returns after its run has moved: nothing twice, nothing missing, one trainer."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.helpers.studio import Studio, wait_for
from trainingapp.contract.run_directory import TENSORBOARD_DIR
from trainingapp.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

EPOCHS = 3
CONFIG: dict[str, Any] = {"epochs": EPOCHS, "images": 48, "autosave_minutes": 0.02, "keep_checkpoints": 2}
STEPS = EPOCHS * 48 // 4


def weights(studio: Studio, run: int) -> dict[str, torch.Tensor]:
    path = studio.data_dir / "runs" / str(run) / "checkpoints" / f"epoch_{EPOCHS}.pt"
    state: dict[str, torch.Tensor] = load_checkpoint(path)["model_state_dict"]
    return state


def check_whole(studio: Studio, run: int, reference: int) -> None:
    points = [event for event in studio.events(run, "metrics") if not event["superseded"]]
    steps = sorted(event["step"] for event in points if event["data"]["split"] == "train")
    assert steps == list(range(1, STEPS + 1))
    numbers = studio.numbers(run)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    ours, theirs = weights(studio, run), weights(studio, reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    files = {row["file"] for row in studio.rows("SELECT file FROM trainingapp_checkpoint WHERE run_id = ?", run)}
    assert all((studio.data_dir / "runs" / str(run) / "checkpoints" / file).exists() for file in files)


def standing_still(studio: Studio, host: str) -> tuple[int, int, subprocess.Popen[bytes], psutil.Process]:
    """A completed run, and one with a checkpoint whose worker and trainer, given as well, have just been suspended."""
    reference, run = studio.prepare(runs=2, start=False, **CONFIG)
    first = studio.start_worker(HOST_NAME=host)
    studio.manage("train", "start", str(reference))
    studio.wait_for_status(reference, "completed", 120)
    studio.manage("train", "start", str(run))
    studio.wait_for_step(run, 10)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", run), 30, "a checkpoint")
    (old,) = studio.trainers()
    old.suspend()  # else it would be done before another worker takes over
    psutil.Process(first.pid).suspend()
    return reference, run, first, old


@pytest.mark.long
@pytest.mark.parametrize("hosts", [("barn", "barn"), ("barn", "shed")])
def test_a_worker_that_returns_late_has_lost_its_run(studio: Studio, hosts: tuple[str, str]) -> None:
    reference, run, first, old = standing_still(studio, hosts[0])
    studio.start_worker(HOST_NAME=hosts[1])
    if hosts[0] == hosts[1]:
        wait_for(lambda: studio.run(run)["phase"] == "recovering", 60, "the other worker takes the run over")
        old.resume()
    wait_for(lambda: studio.run(run)["attempt"] == 2, 60, "the other worker takes the run over")
    assert studio.run(run)["host"] == hosts[1]
    old_lives = old.is_running() and old.status() != psutil.STATUS_ZOMBIE
    assert old_lives is (hosts[0] != hosts[1]), "a trainer on another host cannot be ended from here"
    if old_lives:
        old.resume()
    first.send_signal(signal.SIGCONT)
    wait_for(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE, 30, "the old trainer is gone")
    row = studio.wait_for_status(run, "completed", 180)
    assert row["host"] == hosts[1]
    check_whole(studio, run, reference)
    assert "is held by another worker or has ended" in studio.log.read_text()
    (entry,) = studio.rows("SELECT * FROM trainingapp_journalentry WHERE run_id = ?", run)
    assert entry["action"] == "requeued"
    assert ('"elsewhere"' in entry["evidence"]) is (hosts[0] != hosts[1])


def files_of(folder: Path) -> dict[str, bytes]:
    """All that is in the folder of a run, without what each attempt has for itself: its output and its TensorBoard."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    files = (path for path in files if path.parent.name != TENSORBOARD_DIR)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.long
def test_a_host_that_is_frozen_keeps_no_other_from_its_run(studio: Studio) -> None:
    """Worker and trainer stand still with the lock of the run's folder. When they continue, they write nothing."""
    reference, run, first, old = standing_still(studio, "barn")
    studio.start_worker(HOST_NAME="shed")
    row = studio.wait_for_status(run, "completed", 180)
    assert (row["host"], row["attempt"]) == ("shed", 2)
    assert old.status() == psutil.STATUS_STOPPED
    before = files_of(studio.data_dir / "runs" / str(run))
    old.resume()
    first.send_signal(signal.SIGCONT)
    wait_for(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE, 30, "the old trainer is gone")
    assert files_of(studio.data_dir / "runs" / str(run)) == before
    check_whole(studio, run, reference)
