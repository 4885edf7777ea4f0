"""The run configuration refuses wrong values by name and describes every field."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from trainingapp.contract.config import (
    RunConfig,
    config_defaults,
    config_fields,
    correct_config,
    parse_config,
    result_changes,
)
from trainingapp.contract.setting import SECTIONS, Setting
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
        ("num_workers", -1),
        ("num_workers", 65),
        ("num_workers", "many"),
        ("num_workers", 1.5),
        ("num_workers", None),
    ],
)
def test_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_config({field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize(("given", "taken"), [("auto", "auto"), (" Auto", "auto"), ("7", 7), (0, 0), (64, 64)])
def test_a_number_may_be_a_word(given: object, taken: object) -> None:
    assert parse_config({"num_workers": given}).num_workers == taken
    field = config_fields("classification")["num_workers"]
    assert (field.kind, field.minimum, field.maximum, field.words) == ("whole", 0, 64, ("auto",))


def test_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_epochs"):
        parse_config({"epochs": 1, "warmup_epochs": 2})


def test_a_size_is_rounded_up_with_a_correction() -> None:
    config, corrections = correct_config({"image_size": 65})
    assert config.image_size == 96
    assert len(corrections) == 1
    assert corrections[0].params["taken"] == 96
    assert str(corrections[0]) == "image_size was changed from 65 to 96, a multiple of 32."


def test_a_long_warm_up_is_shortened_with_a_correction() -> None:
    config, corrections = correct_config({"epochs": 3, "warmup_epochs": 5})
    assert config.warmup_epochs == pytest.approx(0.3)
    assert len(corrections) == 1


def test_the_default_warm_up_of_a_network_is_shortened_in_a_short_run() -> None:
    config, corrections = correct_config({"model": "vit_b_16", "epochs": 2})
    assert config.warmup_epochs == pytest.approx(0.2)
    assert len(corrections) == 1


@pytest.mark.parametrize(
    ("given", "batch_size", "accumulation_steps"),
    [
        ({"device_count": 2}, 16, 2),
        ({"device_count": 3, "batch_size": 24}, 8, 3),
        ({"device_count": 3, "batch_size": 32}, 8, 4),
        ({"device_count": 4, "batch_size": 8, "accumulation_steps": 2}, 4, 4),
        ({"device_count": "2", "batch_size": "6"}, 3, 2),
        # No smaller batch gives the same step, or the run finds its batch itself: left as it is.
        ({"device_count": 4, "batch_size": 6}, 6, 1),
        ({"device_count": 2, "batch_size": 3}, 3, 1),
        ({"device_count": 2, "auto_batch_size": True}, 32, 1),
        ({"device_count": 2, "accumulation_steps": 3}, 32, 3),
        ({"device_count": 1}, 32, 1),
    ],
)
def test_several_devices_share_the_batch(given: dict[str, Any], batch_size: int, accumulation_steps: int) -> None:
    config, corrections = correct_config({"device": "cpu", **given})
    assert (config.batch_size, config.accumulation_steps) == (batch_size, accumulation_steps)
    before = int(given.get("batch_size", 32)), int(given.get("accumulation_steps", 1))
    assert batch_size * accumulation_steps == before[0] * before[1], "a step sees as many images"
    is_changed = (batch_size, accumulation_steps) != before
    assert [correction.code for correction in corrections] == ["config_batch_shared"] * is_changed


def test_numbers_given_as_text_are_corrected_like_numbers() -> None:
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
def test_a_choice_in_another_case_is_accepted_with_a_correction(given: dict[str, Any], taken: str) -> None:
    config, corrections = correct_config(given)
    (name,) = given
    assert getattr(config, name) == taken
    (correction,) = corrections
    assert correction.code == "config_choice_corrected"
    assert str(correction) == f"{name} was changed from {given[name].strip()} to {taken}."


@pytest.mark.parametrize("values", [{"optimizer": "adagrad"}, {"task": "pose"}, {"task": ["detection"]}])
def test_ambiguous_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        correct_config(values)


def test_valid_values_are_not_corrected() -> None:
    values = {"image_size": 128, "epochs": 5, "pretrained": "none"}
    assert correct_config(values) == (parse_config(values), [])


def test_a_round_trip_through_json_is_lossless() -> None:
    config = parse_config({"model": "vit_b_16", "device": "cuda:1"})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("task", TASKS)
def test_every_field_declares_its_metadata(task: str) -> None:
    for name, field in TASKS[task].config.model_fields.items():
        (setting,) = [item for item in field.metadata if isinstance(item, Setting)]
        assert isinstance(setting.changes_result, bool), name
        assert setting.label, name
        assert setting.help.endswith((".", "...")), name
        assert field.description is None, f"{name}: the help text belongs into its Setting"


@pytest.mark.parametrize("task", TASKS)
def test_fields_come_in_the_order_of_the_sections(task: str) -> None:
    fields = config_fields(task)
    assert set(fields) == set(TASKS[task].config.model_fields)
    sections = [field.setting.section for field in fields.values()]
    assert [section for section, _group in itertools.groupby(sections)] == sorted(set(sections), key=SECTIONS.index)


@pytest.mark.parametrize("task", TASKS)
def test_a_condition_names_a_field_and_values_that_exist(task: str) -> None:
    fields = config_fields(task)
    for name, field in fields.items():
        if when := field.setting.when:
            other = fields[when.field]
            assert when.values, name
            for value in when.values:
                parse_config({"task": task, when.field: value})
            assert not other.choices or set(when.values) < set(other.choices), name


@pytest.mark.parametrize("task", TASKS)
def test_a_field_has_an_effect_under_its_condition_only(task: str) -> None:
    momentum = config_fields(task)["momentum"].setting
    assert momentum.has_effect({"optimizer": "SGD"})
    assert not momentum.has_effect({"optimizer": "AdamW"})
    assert config_fields(task)["learning_rate"].setting.has_effect({"optimizer": "AdamW"})


def test_bounds_kinds_and_choices_are_those_of_the_model() -> None:
    fields = config_fields("detection")
    momentum, epochs, rate = fields["momentum"], fields["epochs"], fields["learning_rate"]
    assert (momentum.kind, momentum.minimum, momentum.maximum) == ("number", 0, 1)
    assert (momentum.is_open_below, momentum.is_open_above) == (False, True)
    assert (epochs.kind, epochs.minimum, epochs.maximum, epochs.default) == ("whole", 1, 10_000, 20)
    assert (rate.is_open_below, rate.is_open_above) == (True, False)
    assert (fields["crop"].kind, fields["device"].kind, fields["freeze"].kind) == ("number", "text", "choice")
    assert (fields["channels_last"].kind, fields["amp"].kind) == ("switch", "choice")
    assert fields["freeze"].choices == ("none", "backbone")
    assert fields["task"].is_fixed
    assert fields["image_size"].maximum == 2048
    assert "fcos_resnet18_fpn" in fields["model"].choices


#: Fields that decide when something is saved, shown, placed or chosen. All others change what a step computes.
WITHOUT_EFFECT = {
    *("autosave_minutes", "best_metric", "checkpoint_every_epochs", "checkpoint_format", "device_count"),
    *("devices_at_least", "hosts_at_most"),
    *("early_stopping_epochs", "keep_best", "keep_checkpoints", "keep_days", "keep_every_epochs", "keep_gb"),
    *("keep_history_days",),
    *("log_every_steps", "min_free_memory_gb", "num_workers", "share_device"),
    *("conf_thres", "iou_thres", "max_det"),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_fields_without_effect_on_the_result_are_known(task: str) -> None:
    found = {name for name, field in config_fields(task).items() if not field.setting.changes_result}
    assert found == WITHOUT_EFFECT & set(config_fields(task))


def test_only_fields_that_affect_the_result_are_given_as_reasons() -> None:
    before = parse_config({}).model_dump(mode="json")
    changed = {"keep_gb": 3.0, "checkpoint_format": "plain", "momentum": 0.5, "learning_rate": 0.5}
    assert list(result_changes(before, {**before, **changed})) == [("learning_rate", 0.001, 0.5)]
    with_sgd = {**before, "optimizer": "SGD"}
    assert list(result_changes(with_sgd, {**with_sgd, "momentum": 0.5})) == [("momentum", 0.9, 0.5)]


def test_old_names_of_version_0_1_are_not_given_as_reasons() -> None:
    now = parse_config({}).model_dump(mode="json")
    then = {"recipe": now["task"], **{name: value for name, value in now.items() if name not in ("task", "freeze")}}
    assert list(result_changes(then, now)) == []


@pytest.mark.parametrize("parse", [parse_config, lambda values: correct_config(values)[0]])
@pytest.mark.parametrize("switched_on", [True, 1, "true", "True", "yes", "1"])
def test_a_field_that_was_a_switch_takes_true(parse: Callable[..., RunConfig], switched_on: object) -> None:
    config = parse({"amp": switched_on, "deterministic": switched_on})
    assert (config.amp, config.deterministic) == ("on", "exact")


@pytest.mark.parametrize("parse", [parse_config, lambda values: correct_config(values)[0]])
@pytest.mark.parametrize("switched_off", [False, 0, "false", "no", "0"])
def test_a_field_that_was_a_switch_takes_false(parse: Callable[..., RunConfig], switched_off: object) -> None:
    config = parse({"amp": switched_off, "deterministic": switched_off})
    assert (config.amp, config.deterministic) == ("off", "fast")


@pytest.mark.parametrize("value", ["maybe", 2, None, [], {}, 0.5])
def test_a_field_that_was_a_switch_takes_nothing_else(value: object) -> None:
    with pytest.raises(ValidationError, match="'auto', 'on' or 'off'"):
        parse_config({"amp": value})


@pytest.mark.parametrize(
    ("then", "now", "changes"),
    [
        ({"amp": True, "deterministic": True}, {"amp": "on", "deterministic": "exact"}, []),
        ({"amp": False, "deterministic": False}, {"amp": "off", "deterministic": "fast"}, []),
        # Without the fields it was trained in float32 with deterministic algorithms.
        ({}, {"amp": "off", "deterministic": "exact"}, []),
        ({}, {"amp": "auto", "deterministic": "exact"}, [("amp", "off", "auto")]),
        ({"amp": True}, {"amp": "off", "deterministic": "exact"}, [("amp", "on", "off")]),
    ],
)
def test_switches_in_stored_configurations_are_compared_as_choices(
    then: dict[str, Any], now: dict[str, Any], changes: list[tuple[str, str, str]]
) -> None:
    plain = parse_config({}).model_dump(mode="json")
    before = {name: value for name, value in plain.items() if name not in ("amp", "deterministic")}
    assert list(result_changes({**before, **then}, {**plain, **now})) == changes


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_new_runs_have_automatic_weights_and_stored_ones_keep_none(task: str) -> None:
    config, _corrections = correct_config({"task": task})
    assert config.model_dump()["pretrained"] == "auto"
    assert config_defaults(task, config.model)["pretrained"] == "auto"
    assert parse_config({"task": task}).model_dump()["pretrained"] == "none"
    assert list(result_changes({"task": task}, {"task": task, "pretrained": "none"})) == []
    assert TASKS[task].config.model_json_schema()["properties"]["pretrained"]["default"] == "auto"
    given, _corrections = correct_config({"task": task, "pretrained": "none"})
    assert given.model_dump()["pretrained"] == "none"


def test_pretrained_was_a_switch_of_classification() -> None:
    for value, choice in ((True, "backbone"), (False, "none"), ("true", "backbone"), ("no", "none")):
        assert parse_config({"pretrained": value}).model_dump()["pretrained"] == choice
    assert list(result_changes({"task": "classification", "pretrained": False}, {"task": "classification"})) == []
