"""The learning rate of the preview equals that of the trainer."""

import pytest
from pydantic import ValidationError

from tests.helpers.trainers import events_of, train_here
from trainingapp.contract.config import parse_config
from trainingapp.contract.schedule_preview import extension, lr_curve

SCHEDULES = ["cosine", "step", "linear", "one-cycle", "constant"]


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_the_curve_equals_that_of_the_trainer(new_run, scheduler: str) -> None:
    config = {"scheduler": scheduler, "epochs": 2, "warmup_epochs": 1, "step_epochs": 1, "model": "mobilenet_v3_small"}
    run_dir = new_run(**config)
    train_here(run_dir)
    points = [event for event in events_of(run_dir, "metrics") if event["split"] == "train"]
    trained = [((event["step"] - 1) / 6, event["values"]["lr"]) for event in points]
    assert lr_curve(parse_config(config), steps_per_epoch=6) == trained


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_a_long_curve_is_thinned_but_keeps_its_ends(scheduler: str) -> None:
    config = parse_config({"scheduler": scheduler, "epochs": 300})
    curve = lr_curve(config, points=50)
    assert len(curve) == 50
    assert (curve[0][0], curve[-1][0]) == (0.0, 299.99)


def test_an_extension_uses_the_rate_of_the_new_length_at_the_current_step() -> None:
    config = parse_config({"scheduler": "linear", "epochs": 10, "warmup_epochs": 0, "learning_rate": 1.0})
    found = extension(config, 20, done_epochs=5)
    assert (found.rate_before, found.rate_after) == (pytest.approx(0.5), pytest.approx(0.75))
    assert found.before == lr_curve(config)
    assert found.after[0] == (5.0, pytest.approx(0.75))
    assert found.after[-1][0] == 19.99


def test_a_completed_run_has_the_rate_of_its_last_step() -> None:
    config = parse_config({"scheduler": "linear", "epochs": 10, "warmup_epochs": 0, "learning_rate": 1.0})
    found = extension(config, 20, done_epochs=10)
    assert found.rate_before == pytest.approx(0.001)
    assert found.rate_after == pytest.approx(0.5)


def test_a_completed_run_has_no_remaining_steps() -> None:
    assert lr_curve(parse_config({"epochs": 3}), from_epoch=3) == []


def test_epochs_that_are_not_allowed_are_refused() -> None:
    with pytest.raises(ValidationError, match="epochs"):
        extension(parse_config({}), 0, done_epochs=0)
