"""Accumulation, clipping, and learning rates by layer."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.images import make_dataset, make_run_dir
from tests.helpers.trainers import curves, newest_content, train_here
from trainingapp.contract.config import parse_config
from trainingapp.engine.optim import clip_gradients, make_optimizer, set_learning_rate

#: No batch norm, whose statistics would depend on how a batch is cut.
NORM_FREE = {
    "model": "timm/vit_tiny_patch16_224",
    "optimizer": "SGD",
    "learning_rate": 0.01,
    "augmentation": "none",
    "scheduler": "constant",
    "epochs": 1,
    "amp": "off",
}


def test_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    dataset_dir = make_dataset(tmp_path / "dataset", classes=2, train_per_class=8, val_per_class=2)
    runs = {
        (batch_size, parts): make_run_dir(
            tmp_path / f"run_{parts}", dataset_dir, batch_size=batch_size, accumulation_steps=parts, **NORM_FREE
        )
        for batch_size, parts in ((8, 1), (2, 4))
    }
    for run_dir in runs.values():
        assert train_here(run_dir) == "completed"
    large, small = (newest_content(run_dir) for run_dir in runs.values())
    assert large["step"] == small["step"] == 2
    for name, weights in large["model_state_dict"].items():
        torch.testing.assert_close(small["model_state_dict"][name], weights, rtol=1e-4, atol=1e-6)
    points = [curves(run_dir) for run_dir in runs.values()]
    assert points[0].keys() == points[1].keys()
    for place, values in points[0].items():
        assert points[1][place]["loss"] == pytest.approx(values["loss"], rel=1e-4)


@pytest.mark.parametrize(("longest", "length"), [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_gradients_are_clipped_as_one_vector(longest: float, length: float) -> None:
    model = nn.ParameterList([nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for parameter, gradient in zip(model, (3.0, 4.0), strict=True):
        parameter.grad = torch.tensor([gradient])
    clip_gradients(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), longest)
    assert [parameter.grad.item() for parameter in model] == pytest.approx([3 * length / 5, 4 * length / 5], rel=1e-4)


def test_clipping_is_applied_in_a_run(new_run) -> None:
    config = {"optimizer": "SGD", "learning_rate": 0.1, "weight_decay": 0, "momentum": 0, "epochs": 1, "batch_size": 44}
    clipped, plain = (new_run(name, gradient_clip=clip, **config) for name, clip in (("a", 1e-3), ("b", 0.0)))
    start = new_run("c", **{**config, "learning_rate": 1e-30})
    for run_dir in (clipped, plain, start):
        train_here(run_dir)
    before = newest_content(start)["model_state_dict"]
    lengths = [_distance(before, newest_content(run_dir)["model_state_dict"]) for run_dir in (clipped, plain)]
    assert lengths[0] == pytest.approx(0.1 * 1e-3, rel=0.02)  # one step: the rate times the longest gradient
    assert lengths[1] > 10 * lengths[0]


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    trained = [name for name in one if name.endswith(("weight", "bias"))]
    return float(sum((one[name].double() - other[name].double()).square().sum() for name in trained) ** 0.5)


def test_the_backbone_has_its_own_rate() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    optimizer = make_optimizer(model, parse_config({"backbone_lr_factor": 0.1, "weight_decay": 0.5}), ("2.",))
    set_learning_rate(optimizer, 0.02)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rate[id(parameter)] == pytest.approx(0.02 if name.startswith("2.") else 0.002), name
        assert decay[id(parameter)] == (0.5 if parameter.ndim > 1 else 0.0), name
