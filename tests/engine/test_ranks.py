"""A run on several devices gives, bit by bit, the result of one; whatever ends one of its processes ends all."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine.test_detection import boxes_dir  # noqa: F401 - a fixture
from tests.engine.test_multi_label import squares_dir  # noqa: F401 - a fixture
from tests.engine.test_segmentation import masked_dir  # noqa: F401 - a fixture
from tests.helpers.ranks import assert_same_run, rank_processes, train_on, use_devices
from tests.helpers.trainers import DEADLINE_S, change_order, events_of, last_status, newest_content, train_here

#: 44 images in 11 batches: steps of four, four and three. The backbone is frozen in the first epoch.
HARD: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 4,
    "accumulation_steps": 4,
    "augmentation": "strong",
    "dropout_rate": 0.3,
    "mixup": 0.4,
    "ema_decay": 0.9,
    "gradient_clip": 1.0,
    "freeze": "backbone",
    "freeze_epochs": 1,
    "warmup_epochs": 1,
    "autosave_minutes": 0,
}
#: Of each task: what `HARD` becomes. Five batches in steps of four and one, and seven in steps of four and three.
OTHERS: dict[str, dict[str, Any]] = {
    "classification": HARD,
    "detection": {
        "task": "detection",
        "model": "fcos_resnet18_fpn",
        "image_size": 64,
        "mosaic": 0.5,
        "mosaic_close_epochs": 1,
        "copy_paste": 0.5,
        "multi_scale": 0.5,
        "batch_size": 2,
        "epochs": 2,
        "accumulation_steps": 4,
        "augmentation": "medium",
        "ema_decay": 0.9,
        "gradient_clip": 5.0,
        "freeze": "backbone",
        "freeze_epochs": 1,
        "autosave_minutes": 0,
        "optimizer": "SGD",
    },
    "segmentation": {
        "task": "segmentation",
        "model": "lraspp_mobilenet_v3_large",
        "image_size": 64,
        "batch_size": 2,
        "epochs": 2,
        "accumulation_steps": 4,
        "augmentation": "strong",
        "ema_decay": 0.9,
        "gradient_clip": 1.0,
        "loss_type": "combined",
        "class_weights": "balanced",
        "autosave_minutes": 0,
    },
}


def _verdicts(run_dir: Path) -> list[str]:
    return [event["verdict"] for event in events_of(run_dir, "status") if event["state"] == "resume_check"]


def test_paused_on_two_devices_and_resumed_on_one(new_run) -> None:
    config = {**HARD, "epochs": 1, "freeze_epochs": 0, "freeze": "none"}
    straight, shared = new_run("straight", **config), new_run("shared", **config)
    assert train_here(straight) == "completed"
    assert train_on(shared, 2, pause_after=2) == "paused"
    change_order(shared)
    use_devices(shared, 1)
    assert train_here(shared) == "completed"
    assert _verdicts(shared) == ["exact"]
    assert_same_run(shared, straight, epochs=1)


@pytest.mark.long
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("task", OTHERS)
def test_any_number_of_devices_gives_the_result_of_one(
    new_run, request: pytest.FixtureRequest, task: str, devices: int
) -> None:
    folder = {"classification": "dataset_dir", "detection": "boxes_dir", "segmentation": "masked_dir"}[task]
    config = {**OTHERS[task], "dataset_dir": request.getfixturevalue(folder)}
    straight, shared = new_run("straight", **config), new_run("shared", **config)
    assert train_here(straight) == "completed"
    assert train_on(shared, devices) == "completed"
    assert_same_run(shared, straight, epochs=2)


#: What a person requests of a run, by the poll. Three steps are an epoch; the validation follows with the polls 4 and
#: 5, which are the same on one device and on two.
REQUESTS: dict[str, dict[int, dict[str, Any]]] = {
    "within an epoch": {
        0: {"command": "checkpoint", "id": 1},
        1: {"command": "epochs", "id": 2, "epochs": 3},
        2: {"command": "evaluate", "id": 3},
    },
    "within a validation": {
        4: {"command": "epochs", "id": 1, "epochs": 3},
        5: {"command": "checkpoint", "id": 2},
    },
    "an evaluation of a validation": {5: {"command": "evaluate", "id": 1}},
}


@pytest.mark.parametrize(
    "when",
    [pytest.param(one, marks=[] if one == "within a validation" else pytest.mark.long) for one in REQUESTS],
)
def test_requests_are_carried_out_by_all_ranks(new_run, when: str) -> None:
    straight, shared = new_run("straight", **HARD), new_run("shared", **HARD)
    for run_dir, devices in ((straight, 1), (shared, 2)):
        assert train_on(run_dir, devices, asked=REQUESTS[when]) == "completed"
    done = [
        [(event["id"], event["step"], event["result"]) for event in events_of(run_dir, "status") if "result" in event]
        for run_dir in (straight, shared)
    ]
    assert done[0] == done[1]
    assert sorted(number for number, _step, _result in done[0]) == sorted(one["id"] for one in REQUESTS[when].values())
    assert_same_run(shared, straight, epochs=2 if when == "an evaluation of a validation" else 3)


COMPILED = {"compile": True, "model": "timm/resnet10t", "epochs": 1, "freeze_epochs": 0, "freeze": "none"}
#: What else a run can do, beside `HARD`. Early stopping ends it, because it learns nothing.
FURTHER: dict[str, dict[str, Any]] = {
    "bfloat16": {"amp": "on"},
    "early stopping": {"epochs": 9, "early_stopping_epochs": 1, "learning_rate": 1e-12, "freeze": "none"},
    "folds": {"folds": 3, "fold": 1},
    "several labels": {"label_mode": "multi", "class_balance": "weights", "cutmix": 1.0},
    "compiled": COMPILED,
    "compiled, a batch for one rank only": {**COMPILED, "batch_size": 64},
}


@pytest.mark.long
@pytest.mark.parametrize("what", FURTHER)
def test_whatever_a_run_does_two_devices_give_the_result_of_one(
    new_run, request: pytest.FixtureRequest, what: str
) -> None:
    config = {**HARD, **FURTHER[what]}
    if what == "several labels":
        config["dataset_dir"] = request.getfixturevalue("squares_dir")
    straight, shared = new_run("straight", **config), new_run("shared", **config)
    assert train_on(straight, 1) == train_on(shared, 2) == "completed"
    (started,) = [event for event in events_of(shared, "status") if event["state"] == "started"]
    assert started["environment"]["ranks"] == 2
    if what == "bfloat16":
        assert started["environment"]["precision"] == "bfloat16"
    assert not [event["message"] for event in events_of(shared, "log") if event["level"] == "warning"]
    assert_same_run(shared, straight, epochs=newest_content(shared)["epoch"])
    assert (newest_content(shared)["epoch"] < config["epochs"]) == (what == "early stopping")


@pytest.mark.long
def test_a_batch_size_that_is_found_is_that_of_all_ranks(new_run) -> None:
    """The search measures times, so that the run on one device is given what the other found."""
    config = {**HARD, "epochs": 1, "freeze": "none", "freeze_epochs": 0, "accumulation_steps": 2}
    shared = new_run("shared", **config, auto_batch_size=True)
    assert train_on(shared, 2) == "completed"
    straight = new_run("straight", **{**config, "batch_size": newest_content(shared)["config"]["batch_size"]})
    assert train_here(straight) == "completed"
    assert_same_run(shared, straight, epochs=1)


@pytest.mark.long
@pytest.mark.parametrize(("then", "now"), [(1, 2), (2, 4), (4, 1), (4, 2)])
def test_paused_and_resumed_on_other_numbers_of_devices(new_run, then: int, now: int) -> None:
    straight, shared = new_run("straight", **HARD), new_run("shared", **HARD)
    assert train_here(straight) == "completed"
    assert train_on(shared, then, pause_after=3) == "paused"
    change_order(shared)
    assert train_on(shared, now) == "completed"
    assert _verdicts(shared) == ["exact"]
    assert_same_run(shared, straight, epochs=2)


@pytest.mark.long
def test_fast_reduction_is_near_and_says_so(new_run) -> None:
    exact, fast = new_run("exact", **HARD), new_run("fast", **HARD, reduction="fast")
    assert train_here(exact) == "completed"
    assert train_on(fast, 2) == "completed"
    one, other = ([event["values"]["loss"] for event in events_of(run_dir, "metrics")] for run_dir in (exact, fast))
    assert other == pytest.approx(one, rel=1e-2)
    assert "ranks_together_fast" in {event["code"] for event in events_of(fast, "log")}


@pytest.mark.long
def test_a_killed_rank_ends_the_attempt_and_costs_nothing(new_run, start) -> None:
    straight, shared = new_run("straight", **HARD), new_run("shared", **HARD)
    assert train_here(straight) == "completed"
    use_devices(shared, 2)
    trainer = start(shared)
    trainer.wait_for(lambda event: event["type"] == "checkpoint")
    (rank,) = rank_processes(trainer.process.pid)
    rank.kill()
    assert trainer.wait() == 1, trainer.log()
    failed = last_status(shared)
    assert (failed["state"], failed["error_class"]) == ("failed", "lost_rank")
    assert failed["params"]["rank"] == 1
    assert failed["params"]["exit"]["params"] == {"number": 9, "name": "SIGKILL"}
    assert not rank.is_running()
    change_order(shared)
    assert train_on(shared, 2) == "completed"
    assert_same_run(shared, straight, epochs=2)


@pytest.mark.long
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_no_rank_outlives_its_trainer(new_run, start, kill: int) -> None:
    run_dir = new_run("run", **{**HARD, "epochs": 50, "freeze_epochs": 0})
    use_devices(run_dir, 2)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "metrics")
    ranks = rank_processes(trainer.process.pid)
    os.kill(trainer.process.pid, kill)
    trainer.wait()
    gone, alive = psutil.wait_procs(ranks, DEADLINE_S)
    assert (len(gone), alive) == (1, [])
    assert last_status(run_dir)["state"] == ("interrupted" if kill == signal.SIGTERM else "started")


@pytest.mark.long
def test_a_frozen_rank_is_lost_after_the_time_for_a_response(new_run, start) -> None:
    run_dir = new_run("run", **{**HARD, "epochs": 500, "freeze_epochs": 0})
    use_devices(run_dir, 2)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "metrics")
    (rank,) = rank_processes(trainer.process.pid)
    rank.suspend()
    assert trainer.wait() == 1, trainer.log()
    failed = last_status(run_dir)
    assert (failed["error_class"], failed["code"]) == ("lost_rank", "ranks_silent")
    assert failed["params"]["ranks"] == ["1 (cpu)"]
    assert not rank.is_running()
