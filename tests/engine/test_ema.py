"""The moving average equals one calculated by hand."""

import pytest
import torch
import torchvision
from torch import nn

from trainingapp.engine.ema import Ema


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = Ema(model, decay=0.5)
    expected = 1.0
    for step, weight in enumerate([2.0, 4.0, -1.0, 3.0, 0.5], start=1):
        model.weight.data.fill_(weight)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        assert ema.model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert decay == pytest.approx(6 / 15)  # the first steps are soon forgotten
    ema.update(1000)
    assert ema.model.weight.item() == pytest.approx(0.5 * expected + 0.5 * 0.5, rel=1e-6)


def test_buffers_are_copied_and_nothing_requires_gradients() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, decay=0.9)
    model(torch.randn(8, 3) + 5)
    ema.update(1)
    assert torch.equal(ema.model.running_mean, model.running_mean)
    assert ema.model.num_batches_tracked == 1
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


class OneByOne(Ema):
    """The update of version 0.1, with a copy for each buffer."""

    @torch.no_grad()
    def update_from(self, model: nn.Module, steps: int) -> None:
        decay = min(self._decay, (1 + steps) / (10 + steps))
        averages: list[torch.Tensor] = list(self.model.parameters())
        weights: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, value in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(value)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_update_is_bit_equal_to_one_tensor_after_another(memory_format: torch.memory_format) -> None:
    """With batch norms, whose buffers are floats and an integer, and with a learning rate that moves every weight."""
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=3).to(memory_format=memory_format).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ema, before = Ema(model, decay=0.99), OneByOne(model, decay=0.99)
    for step in range(1, 4):
        model(torch.randn(4, 3, 32, 32).to(memory_format=memory_format)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
        before.update_from(model, step)
    expected, found = before.model.state_dict(), ema.model.state_dict()
    assert any(not value.is_floating_point() for value in expected.values())
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert not torch.equal(found["classifier.3.weight"], model.state_dict()["classifier.3.weight"])


def test_restored_weights_are_averaged_too() -> None:
    """Its tensors are collected once: a checkpoint must be loaded into them, not in their place."""
    model = nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.5)
    values = {name: torch.full_like(value, 3) for name, value in model.state_dict().items()}
    model.load_state_dict(values)
    ema.model.load_state_dict(values)
    ema.update(1000)
    assert all(torch.equal(value, values[name]) for name, value in ema.model.state_dict().items())
