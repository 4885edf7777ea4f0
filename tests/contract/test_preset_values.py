"""The values that presets set: the same fields for each network, and what has been measured instead of the rules."""

import pytest

from trainingapp.contract.config import config_defaults, parse_config
from trainingapp.contract.preset_values import PRESETS, preset_values
from trainingapp.contract.tasks.registry import TASKS

NETWORKS = [(name, model) for name, task in TASKS.items() for model in task.architectures]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_presets_of_every_network_set_the_same_fields(task: str) -> None:
    for name, model in NETWORKS:
        if name == task:
            rows = preset_values(task, model)
            assert tuple(rows) == PRESETS
            assert len({tuple(values) for values in rows.values()}) == 1
            assert "model" not in rows["quick"]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_presets_are_valid_and_train_longer_in_their_order(task: str) -> None:
    for name, model in NETWORKS:
        if name == task:
            rows = preset_values(task, model)
            parsed = [parse_config({"task": task, "model": model, **rows[preset]}) for preset in PRESETS]
            assert parsed[0].epochs < parsed[1].epochs < parsed[2].epochs, model


def test_what_was_measured_replaces_the_rule() -> None:
    measured = [(task, model) for task, model in NETWORKS if TASKS[task].config.architectures[model].presets]
    assert {task for task, _model in measured} >= {"detection"}
    for task, model in measured:
        rows, defaults = preset_values(task, model), config_defaults(task, model)
        for preset, values in TASKS[task].config.architectures[model].presets.items():
            assert values.items() <= rows[preset].items()
            # Another preset brings a field back to the default of the network.
            for other in set(PRESETS) - {preset}:
                given = TASKS[task].config.architectures[model].presets.get(other, {})
                left = set(values) - set(given) - {"epochs", "image_size", "augmentation"}
                assert all(rows[other][name] == defaults[name] for name in left)
