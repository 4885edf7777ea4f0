"""Optimizers and schedules equal those of torch."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.optim import lr_scheduler

from trainingapp.contract.config import parse_config
from trainingapp.contract.schedule import Schedule, make_schedule
from trainingapp.engine.optim import make_optimizer

STEPS_PER_EPOCH, EPOCHS = 7, 6
TOTAL = STEPS_PER_EPOCH * EPOCHS

REFERENCES = {
    "constant": lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL),
    "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=TOTAL),
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2 * STEPS_PER_EPOCH, gamma=0.3),
    "one-cycle": lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=TOTAL, cycle_momentum=False
    ),
}


def _schedule(name: str, warmup_epochs: float = 0) -> Schedule:
    values = {"scheduler": name, "epochs": EPOCHS, "learning_rate": 0.05, "step_epochs": 2, "step_factor": 0.3}
    return make_schedule(parse_config({**values, "warmup_epochs": warmup_epochs}), STEPS_PER_EPOCH)


@pytest.mark.parametrize("name", REFERENCES)
def test_schedule_equals_torch(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    reference = REFERENCES[name](optimizer)
    for step in range(TOTAL):
        assert _schedule(name).lr_at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-12), step
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
def test_warm_up_rises_linearly_to_the_full_rate(name: str) -> None:
    schedule = _schedule(name, warmup_epochs=1)
    rates = [schedule.lr_at(step) for step in range(STEPS_PER_EPOCH)]
    assert rates == pytest.approx([0.05 * (step + 1) / STEPS_PER_EPOCH for step in range(STEPS_PER_EPOCH)])
    assert schedule.lr_at(STEPS_PER_EPOCH) == pytest.approx(0.05)
    assert all(0 <= schedule.lr_at(step) <= 0.05 + 1e-12 for step in range(TOTAL))


def test_one_step_runs_have_a_rate() -> None:
    for name in REFERENCES:
        schedule = make_schedule(parse_config({"scheduler": name, "epochs": 1, "warmup_epochs": 0}), 1)
        assert schedule.lr_at(0) > 0


@pytest.mark.parametrize("model", ["resnet18", "convnext_tiny"])
def test_biases_and_norms_have_no_weight_decay(model: str) -> None:
    network = torchvision.models.get_model(model, num_classes=3)
    optimizer = make_optimizer(network, parse_config({"weight_decay": 0.1}))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_steps_equal_those_of_torch_bit_by_bit(name: str, memory_format: torch.memory_format) -> None:
    """The kernel sees weights that are channels last in another order: each number is computed by itself."""
    torch.manual_seed(0)
    shapes = [(7, 5, 3, 3), (64, 3, 7, 7), (33, 17, 1, 1), (13, 11, 1, 3), (19, 7), (31,)]
    network = nn.ParameterList([torch.randn(shape) for shape in shapes]).to(memory_format=memory_format)
    other = copy.deepcopy(network)
    optimizer = make_optimizer(network, parse_config({"optimizer": name, "weight_decay": 0.1, "learning_rate": 0.01}))
    groups = [{"params": list(other)[:5], "weight_decay": 0.1}, {"params": list(other)[5:], "weight_decay": 0.0}]
    reference = getattr(torch.optim, name)(groups, lr=0.01, fused=True)
    for step in range(4):
        for weight, twin in zip(network, other, strict=True):
            weight.grad = torch.randn_like(weight) / 10**step
            twin.grad = weight.grad.clone()
        optimizer.step()
        reference.step()
    assert all(map(torch.equal, network, other))
    one, two = optimizer.state_dict()["state"], reference.state_dict()["state"]
    for number, values in two.items():
        for key, value in values.items():
            assert torch.equal(one[number][key], value), (number, key)
            assert one[number][key].stride() == value.stride(), (number, key)
