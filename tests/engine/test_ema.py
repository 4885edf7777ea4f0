"""The moving average equals one calculated by hand."""

import pytest
import torch
from torch import nn

from trainingapp.engine.ema import Ema


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = Ema(model, decay=0.5)
    expected = 1.0
    for step, weight in enumerate([2.0, 4.0, -1.0, 3.0, 0.5], start=1):
        model.weight.data.fill_(weight)
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        assert ema.model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert decay == pytest.approx(6 / 15)  # the first steps are soon forgotten
    ema.update(model, 1000)
    assert ema.model.weight.item() == pytest.approx(0.5 * expected + 0.5 * 0.5, rel=1e-6)


def test_buffers_are_copied_and_nothing_requires_gradients() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, decay=0.9)
    model(torch.randn(8, 3) + 5)
    ema.update(model, 1)
    assert torch.equal(ema.model.running_mean, model.running_mean)
    assert ema.model.num_batches_tracked == 1
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
