"""Kernels larger than their input have finite gradients in bfloat16, too."""

import copy

import pytest
import torch
from torch import nn

from trainingapp.engine.device import Precision
from trainingapp.engine.small_convolutions import guard_small_convolutions

TRIES = 60
"""Without the guard the gradients are NaN in a third of them."""

BF16 = Precision(torch.device("cpu"), torch.bfloat16)


def _gradient(layer: nn.Conv2d, size: int) -> torch.Tensor:
    left_behind = [torch.full_like(layer.weight, float("nan")) for _ in range(3)]
    del left_behind  # fresh memory may hold this now
    layer.zero_grad(set_to_none=True)
    with BF16.autocast():
        layer(torch.ones(2, layer.in_channels, size, size)).float().sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 1), (5, 1, 1), (5, 2, 1), (5, 1, 2)])
def test_gradients_of_small_inputs_are_finite(kernel: int, stride: int, size: int) -> None:
    model = nn.Sequential(nn.Conv2d(64, 64, kernel, stride, kernel // 2))
    guard_small_convolutions(model, BF16)
    for guarded in (model[0], copy.deepcopy(model)[0]):
        assert all(torch.isfinite(_gradient(guarded, size)).all() for _ in range(TRIES))


def test_other_convolutions_are_unchanged() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, 3, 2, 1)
    guarded = copy.deepcopy(plain)
    guard_small_convolutions(guarded, BF16)
    images = torch.randn(2, 8, 16, 16)
    with BF16.autocast():
        assert guarded(images).dtype == torch.bfloat16
        assert torch.equal(guarded(images), plain(images))
    untouched = nn.Conv2d(8, 8, 3, 2, 1)
    guard_small_convolutions(untouched, Precision(torch.device("cpu"), None))
    assert "forward" not in vars(untouched)
