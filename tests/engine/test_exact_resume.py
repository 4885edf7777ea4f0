"""An interrupted run gives the same result, bit by bit, as an uninterrupted one."""

import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trainers import (
    HARD,
    EndAfter,
    assert_same_result,
    change_order,
    events_of,
    index_of,
    last_status,
    newest_content,
    train_here,
)
from trainingapp.engine import loop
from trainingapp.engine.state import TrainingState


@pytest.mark.parametrize(
    ("workers", "workers_then"),
    [(0, 2), (2, 0), *(pytest.param(each, each, marks=pytest.mark.long) for each in (0, 2))],
)
def test_paused_at_a_random_step(new_run, straight_run: Path, workers: int, workers_then: int) -> None:
    looks = random.randint(1, 22)  # 18 steps, three ends of epochs and some validation batches
    run_dir = new_run(num_workers=workers, **HARD)
    assert train_here(run_dir, EndAfter(looks)) == "paused", looks
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed", looks
    assert_same_result(run_dir, straight_run)


@pytest.mark.long
def test_paused_repeatedly(new_run, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    for _ in range(40):
        if train_here(run_dir, EndAfter(3)) == "completed":
            break
        change_order(run_dir)
    assert last_status(run_dir)["state"] == "completed"
    assert_same_result(run_dir, straight_run)


def test_paused_within_validation_repeats_the_validation(new_run, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    assert train_here(run_dir, EndAfter(8)) == "paused"  # six steps, the end of the epoch, one batch of validation
    assert index_of(run_dir)[-1]["step_in_epoch"] == 6
    assert not [event for event in events_of(run_dir, "metrics") if event["split"] == "val"]
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    starts = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    assert [(event["step"], event["validation_due"]) for event in starts] == [(0, False), (6, True)]
    assert_same_result(run_dir, straight_run)


@pytest.mark.long
def test_process_paused_by_command(new_run, start, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "metrics" and event["step"] >= 7)
    trainer.send(command="pause")
    assert trainer.wait() == 0, trainer.log()
    assert last_status(run_dir)["state"] == "paused"
    assert index_of(run_dir)[-1]["step"] == last_status(run_dir)["step"]
    change_order(run_dir)
    trainer = start(run_dir, "--no-control")
    assert trainer.wait() == 0, trainer.log()
    assert_same_result(run_dir, straight_run)


def test_process_killed_between_two_checkpoints(new_run, start, straight_run: Path) -> None:
    run_dir = new_run(num_workers=2, **HARD)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "checkpoint")
    trainer.wait_for(lambda event: event["type"] == "metrics" and event["step"] >= 9)
    os.kill(trainer.process.pid, signal.SIGKILL)
    trainer.wait()
    change_order(run_dir)
    trainer = start(run_dir)
    assert trainer.wait() == 0, trainer.log()
    started = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    assert started[1]["resumed_from"] in ("epoch_1.pt", "epoch_2.pt")
    assert_same_result(run_dir, straight_run)


def test_a_warm_process_equals_a_cold_one(new_run, start, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    trainer = start(run_dir, spare=True)
    assert trainer.wait() == 0, trainer.log()
    assert_same_result(run_dir, straight_run)


def test_a_run_of_the_version_before_keeps_its_generator(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dropout draws from one generator throughout, whose state is saved, instead of from a seed for each batch."""
    straight, cut = (new_run(name, **{**HARD, "epochs": 1}) for name in ("straight", "cut"))
    new_state = loop.new_state

    def old_state(*arguments: Any, **named: Any) -> TrainingState:
        return replace(new_state(*arguments, **named), seeds_batches=False)

    with monkeypatch.context() as before:
        before.setattr(loop, "new_state", old_state)
        assert train_here(straight) == "completed"
        assert train_here(cut, EndAfter(4)) == "paused"
    change_order(cut)
    assert train_here(cut) == "completed"
    assert "batch_seeds" not in newest_content(cut)
    assert_same_result(cut, straight)


@pytest.mark.long
def test_mixed_precision_resumes_exactly(new_run) -> None:
    straight, cut = (new_run(name, amp="on", **HARD) for name in ("straight", "cut"))
    train_here(straight)
    assert train_here(cut, EndAfter(9)) == "paused"
    change_order(cut)
    train_here(cut)
    assert_same_result(cut, straight)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop"])
def test_every_optimizer_resumes_exactly(new_run, optimizer: str) -> None:
    config = {"optimizer": optimizer, "learning_rate": 0.01, "epochs": 1, "scheduler": "one-cycle"}
    straight, cut = (new_run(name, **config) for name in ("straight", "cut"))
    train_here(straight)
    assert train_here(cut, EndAfter(4)) == "paused"
    change_order(cut)
    train_here(cut)
    assert_same_result(cut, straight)
