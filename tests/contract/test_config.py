"""The run configuration refuses what is wrong, by name, and describes every field."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainingapp.contract.config import correct_config, parse_config
from trainingapp.contract.tasks.registry import TASKS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("image_size", 16),
        ("image_size", 65),
        ("image_size", 2048),
        ("dropout_rate", 1),
        ("label_smoothing", -0.1),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("model", "resnet19"),
        ("optimizer", "Lion"),
        ("seed", -1),
        ("keep_checkpoints", 1),
        ("learning_rat", 0.1),
    ],
)
def test_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_config({field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_epochs"):
        parse_config({"epochs": 1, "warmup_epochs": 2})


def test_a_size_is_rounded_up_and_said() -> None:
    config, corrections = correct_config({"image_size": 65})
    assert config.image_size == 96
    assert len(corrections) == 1
    assert "96" in corrections[0]


def test_a_long_warm_up_is_cut_and_said() -> None:
    config, corrections = correct_config({"epochs": 3, "warmup_epochs": 5})
    assert config.warmup_epochs == pytest.approx(0.3)
    assert len(corrections) == 1


def test_a_networks_own_long_warm_up_is_cut_in_a_short_run_too() -> None:
    config, corrections = correct_config({"model": "vit_b_16", "epochs": 2})
    assert config.warmup_epochs == pytest.approx(0.2)
    assert len(corrections) == 1


def test_numbers_that_came_as_text_are_corrected_as_numbers_are() -> None:
    config, corrections = correct_config({"epochs": "3", "warmup_epochs": "5", "image_size": "65"})
    assert (config.warmup_epochs, config.image_size) == (pytest.approx(0.3), 96)
    assert len(corrections) == 2


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"optimizer": "sgd"}, "SGD"),
        ({"optimizer": " ADAMW "}, "AdamW"),
        ({"scheduler": "one_cycle"}, "one-cycle"),
        ({"model": "ResNet18"}, "resnet18"),
    ],
)
def test_a_choice_in_other_letters_is_taken_and_said(given: dict[str, Any], taken: str) -> None:
    config, corrections = correct_config(given)
    (name,) = given
    assert getattr(config, name) == taken
    assert corrections == [f"{name} {given[name].strip()} became {taken}."]


@pytest.mark.parametrize("values", [{"optimizer": "adagrad"}, {"task": "pose"}, {"task": ["detection"]}])
def test_what_has_no_plain_meaning_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        correct_config(values)


def test_what_is_right_is_not_corrected() -> None:
    assert correct_config({"image_size": 128, "epochs": 5}) == (parse_config({"image_size": 128, "epochs": 5}), [])


def test_json_and_back_is_the_same() -> None:
    config = parse_config({"model": "vit_b_16", "device": "cuda:1"})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("task", TASKS)
def test_every_field_is_described(task: str) -> None:
    for name, field in TASKS[task].config.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict), name
        assert {"label", "unit", "group", "advanced"} <= extra.keys(), name
        assert extra["label"], name
        assert extra["group"], name
        assert field.description, name
        assert field.description.endswith("."), name
