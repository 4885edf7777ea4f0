"""A frozen backbone does not change, including its norms, until it is unfrozen."""

from pathlib import Path
from typing import Any

import torch

from tests.helpers.trainers import EndAfter, change_order, newest_content, train_here
from trainingapp.engine.checkpoint import load_checkpoint

CONFIG: dict[str, Any] = {"freeze": "backbone", "learning_rate": 0.01, "batch_size": 22, "keep_checkpoints": 10}


def _weights(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    content = load_checkpoint(run_dir / "checkpoints" / f"epoch_{epoch}.pt")
    weights: dict[str, torch.Tensor] = content["model_state_dict"]
    return weights


def _changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_only_the_head_changes_until_the_backbone_is_unfrozen(new_run) -> None:
    run_dir = new_run(epochs=3, freeze_epochs=2, **CONFIG)
    assert train_here(run_dir) == "completed"
    first, second, third = (_weights(run_dir, epoch) for epoch in (1, 2, 3))
    assert _changed(first, second) == {"classifier.3.weight", "classifier.3.bias"}
    changed = _changed(second, third)
    assert "features.0.0.weight" in changed
    assert "features.0.1.running_mean" in changed


def test_sgd_begins_with_weights_that_are_unfrozen(new_run) -> None:
    run_dir = new_run(epochs=2, freeze_epochs=1, optimizer="SGD", **CONFIG)
    assert train_here(run_dir) == "completed"
    assert "features.0.0.weight" in _changed(_weights(run_dir, 1), _weights(run_dir, 2))


def test_the_backbone_stays_frozen_for_the_whole_run_and_across_a_pause(new_run) -> None:
    run_dir = new_run(epochs=2, **CONFIG)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    before = newest_content(run_dir)["model_state_dict"]
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    after = newest_content(run_dir)["model_state_dict"]
    assert _changed(before, after) == {"classifier.3.weight", "classifier.3.bias"}
