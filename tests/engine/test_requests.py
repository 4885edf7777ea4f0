"""Requests to the trainer between two steps: executed once, confirmed, and without effect on later numbers."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trainers import (
    HARD,
    Ask,
    EndAfter,
    assert_bit_equal,
    assert_same_result,
    change_order,
    curves,
    events_of,
    index_of,
    last_status,
    newest_content,
    train_here,
)
from trainingapp.contract.commands import ChangeEpochs, Evaluate, SaveCheckpoint
from trainingapp.contract.evaluation import read_evaluation


def confirmed(run_dir: Path) -> list[dict[str, Any]]:
    return [event for event in events_of(run_dir, "status") if event["state"] == "request_done"]


def extra(run_dir: Path) -> list[dict[str, Any]]:
    return [event for event in events_of(run_dir, "metrics") if event.get("extra")]


def without_extra(points: dict[Any, Any], steps: set[int]) -> dict[Any, Any]:
    return {place: values for place, values in points.items() if place not in {("val", step) for step in steps}}


def test_a_checkpoint_is_saved_at_that_step_and_confirmed(new_run, straight_run: Path) -> None:
    run_dir = new_run(**{**HARD, "keep_checkpoints": 50})
    assert train_here(run_dir, Ask({2: SaveCheckpoint(id=7)})) == "completed"
    (event,) = confirmed(run_dir)
    assert (event["id"], event["command"], event["step"], event["result"]) == (
        7,
        "checkpoint",
        2,
        "Saved as step_2.pt.",
    )
    assert (index_of(run_dir)[0]["file"], index_of(run_dir)[0]["reason"]) == ("step_2.pt", "command")
    assert_same_result(run_dir, straight_run)


@pytest.mark.parametrize(
    ("ema", "workers"),
    [(0.9, 2), (0.0, 0), *(pytest.param(*each, marks=pytest.mark.long) for each in ((0.0, 2), (0.9, 0)))],
)
def test_an_evaluation_changes_no_later_number(new_run, workers: int, ema: float) -> None:
    config = {**HARD, "epochs": 2, "ema_decay": ema, "early_stopping_epochs": 1, "autosave_minutes": 0}
    straight, asked = new_run("straight", **config), new_run("asked", num_workers=workers, **config)
    train_here(straight)
    train_here(asked, Ask({0: Evaluate(id=1), 3: Evaluate(id=2), 4: Evaluate(id=3)}))
    assert [(event["id"], event["step"]) for event in confirmed(asked)] == [(1, 0), (2, 3), (3, 4)]
    points = extra(asked)
    assert [(event["step"], event["split"], event["is_best"]) for event in points] == [
        (0, "val", False),
        (3, "val", False),
        (4, "val", False),
    ]
    assert all(event["values"].keys() == {"loss", "top1", "top5", "macro_f1"} for event in points)
    one, other = newest_content(asked), newest_content(straight)
    for name in ("model_state_dict", "optimizer_state_dict", "rng_state", "meter_state_dict", "best", "metrics"):
        assert_bit_equal(one[name], other[name], name)
    assert without_extra(curves(asked), {0, 3, 4}) == curves(straight)


def test_an_evaluation_has_its_file_until_the_epoch_ends(new_run) -> None:
    run_dir = new_run(**HARD)
    assert train_here(run_dir, Ask({3: Evaluate(id=1)}, end_at=4)) == "paused"
    (point,) = extra(run_dir)
    assert point["evaluation"] == f"evaluations/epoch_{point['epoch']}.json"
    found = read_evaluation(run_dir, point["epoch"])
    assert found is not None
    assert (found["step"], found["values"]) == (point["step"], point["values"])
    assert found["confusion"]
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    at_the_end = read_evaluation(run_dir, point["epoch"])
    assert at_the_end is not None
    assert at_the_end["step"] > point["step"]


def test_an_evaluation_equals_the_validation_of_that_step(new_run) -> None:
    run_dir = new_run(epochs=1, freeze="backbone")
    train_here(run_dir, Ask({6: Evaluate(id=1)}))  # requested when the epoch is trained and not yet validated
    (event,) = confirmed(run_dir)
    assert "has just been validated" in event["result"]
    assert not extra(run_dir)
    values = next(event["values"] for event in events_of(run_dir, "metrics") if event["split"] == "val")
    assert f"top1 {values['top1']:.4g}" in event["result"]


def test_an_evaluation_interrupted_by_a_pause_is_not_confirmed(new_run, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    assert train_here(run_dir, Ask({3: Evaluate(id=1)}, end_at=3)) == "paused"
    assert not confirmed(run_dir)
    assert index_of(run_dir)[-1]["step"] == 3
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight_run)


def test_requests_during_the_last_validation_are_executed_before_the_end(new_run) -> None:
    run_dir = new_run(epochs=1)
    orders = {7: Evaluate(id=1), 8: ChangeEpochs(id=2, epochs=2), 9: SaveCheckpoint(id=3)}
    assert train_here(run_dir, Ask(orders)) == "completed"
    assert {event["id"] for event in confirmed(run_dir)} == {1, 2, 3}
    assert newest_content(run_dir)["epoch"] == 2


def test_more_epochs_take_effect_from_that_step(new_run) -> None:
    run_dir = new_run(epochs=2, scheduler="linear", learning_rate=0.1)
    train_here(run_dir, Ask({3: ChangeEpochs(id=4, epochs=4)}))
    (event,) = confirmed(run_dir)
    assert (event["epochs"], event["result"]) == (4, "The total number of epochs is now 4.")
    rates = {
        event["step"]: event["values"]["lr"] for event in events_of(run_dir, "metrics") if event["split"] == "train"
    }
    assert rates[3] == pytest.approx(0.1 * (1 - 2 / 12))
    assert rates[4] == pytest.approx(0.1 * (1 - 3 / 24))
    progress = events_of(run_dir, "progress")[-1]
    assert (progress["total_epochs"], progress["total_steps"]) == (4, 24)
    content = newest_content(run_dir)
    assert (content["epoch"], content["config"]["epochs"]) == (4, 4)


def test_fewer_epochs_end_the_run_earlier_but_not_before_the_current_epoch(new_run) -> None:
    run_dir = new_run(epochs=9)
    train_here(run_dir, Ask({8: ChangeEpochs(id=1, epochs=1)}))  # within the second epoch, or the first's validation
    (event,) = confirmed(run_dir)
    assert event["epochs"] == newest_content(run_dir)["epoch"] == event["epoch"]
    assert last_status(run_dir)["state"] == "completed"


def test_epochs_that_the_configuration_does_not_allow_are_refused_with_the_reason(new_run) -> None:
    run_dir = new_run(epochs=3, warmup_epochs=3)
    train_here(run_dir, Ask({1: ChangeEpochs(id=1, epochs=2), 2: ChangeEpochs(id=2, epochs=3)}))
    first, second = confirmed(run_dir)
    assert (first["epochs"], "warmup_epochs" in first["result"]) == (3, True)
    assert second["result"] == "The total number of epochs is 3."
    assert newest_content(run_dir)["epoch"] == 3


@pytest.mark.parametrize("looks", [9, *(pytest.param(each, marks=pytest.mark.long) for each in (2, 4, 17, 21))])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_an_extended_and_interrupted_run_equals_an_uninterrupted_one(new_run, looks: int, workers: int) -> None:
    """Extended at step 4 from two epochs to three, and interrupted before, at, and after that step."""
    config = {**HARD, "epochs": 2, "scheduler": "cosine", "early_stopping_epochs": 2}
    straight, cut = new_run("straight", **config), new_run("cut", num_workers=workers, **config)
    train_here(straight, Ask({4: ChangeEpochs(id=1, epochs=3)}))
    first = Ask({4: ChangeEpochs(id=1, epochs=3)}, end_at=looks)
    assert train_here(cut, first) == "paused"
    change_order(cut, epochs=3 if confirmed(cut) else 2)
    rest = {} if confirmed(cut) else {4 - index_of(cut)[-1]["step"]: ChangeEpochs(id=2, epochs=3)}
    assert train_here(cut, Ask(rest)) == "completed"
    assert newest_content(cut)["config"]["epochs"] == newest_content(straight)["config"]["epochs"] == 3
    assert_same_result(cut, straight)


@pytest.mark.long
def test_an_extended_and_killed_run_equals_an_uninterrupted_one(new_run, start) -> None:
    """The trainer is killed after it has confirmed; the newest checkpoint is the one of the request."""
    config = {**HARD, "epochs": 2, "checkpoint_every_epochs": 100}
    killed, straight = new_run("killed", **config), new_run("straight", **config)
    trainer = start(killed)
    trainer.wait_for(lambda event: event["type"] == "metrics")
    trainer.send(command="epochs", id=1, epochs=3)
    order = trainer.wait_for(lambda event: event.get("state") == "request_done")
    trainer.process.kill()
    trainer.wait()
    train_here(straight, Ask({order["step"]: ChangeEpochs(id=1, epochs=3)}))
    change_order(killed, epochs=3)
    assert train_here(killed) == "completed"
    started = [event for event in events_of(killed, "status") if event["state"] == "started"]
    assert started[1]["step"] >= order["step"]
    assert_same_result(killed, straight)


def test_a_completed_run_continues_with_more_epochs(new_run) -> None:
    run_dir, straight = new_run("run", epochs=1, **_cosine()), new_run("straight", epochs=1, **_cosine())
    assert train_here(run_dir) == "completed"
    train_here(straight, Ask({6: ChangeEpochs(id=1, epochs=2)}))
    change_order(run_dir, epochs=2)
    assert train_here(run_dir) == "completed"
    assert newest_content(run_dir)["epoch"] == 2
    assert any("is now 2 instead of 1" in event["message"] for event in events_of(run_dir, "log"))
    assert_same_result(run_dir, straight)


def _cosine() -> dict[str, Any]:
    return {"scheduler": "cosine", "augmentation": "strong", "autosave_minutes": 0}


def test_a_completed_run_without_more_epochs_stays_completed(new_run) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert newest_content(run_dir)["attempt"] == 1


@pytest.mark.long
def test_extending_an_early_stopped_run_resets_its_patience(new_run) -> None:
    """A rate of nearly nothing: the first epoch stays the best."""
    config = {"learning_rate": 1e-12, "early_stopping_epochs": 2, "epochs": 8, "scheduler": "constant"}
    run_dir = new_run(**config)
    train_here(run_dir)
    assert (newest_content(run_dir)["epoch"], newest_content(run_dir)["best"]["epoch"]) == (3, 1)
    change_order(run_dir, epochs=9)
    assert train_here(run_dir, EndAfter(8)) == "paused"  # the patience is a part of the checkpoint
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    content = newest_content(run_dir)
    assert (content["epoch"], content["patience_from"]) == (5, 3)
    said = [
        event["message"] for event in events_of(run_dir, "log") if "Early stopping counts again" in event["message"]
    ]
    assert said == ["Early stopping counts again from epoch 3, because the total number of epochs was increased."]


@pytest.mark.long
def test_a_trainer_confirms_requests_from_its_standard_input(new_run, start) -> None:
    run_dir = new_run(epochs=500, autosave_minutes=0)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "metrics")
    trainer.send(command="epochs", id=1)  # lacks its number of epochs
    trainer.send(command="evaluate", id=2)
    trainer.send(command="epochs", id=3, epochs=600)
    trainer.send(command="checkpoint", id=4)
    trainer.wait_for(lambda event: event.get("state") == "request_done" and event["id"] == 4)
    trainer.send(command="stop")
    assert trainer.wait() == 0, trainer.log()
    assert sorted(event["id"] for event in confirmed(run_dir)) == [2, 3, 4]
    assert "Unknown command" in trainer.log()
