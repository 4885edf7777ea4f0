"""A moving average of the weights, which often validates better than the weights themselves."""

import copy

import torch
from torch import nn


class Ema:
    """`model` holds the average: after each step, average = d average + (1 - d) weights.

    d = min(decay, (1 + steps) / (10 + steps)), so that the first steps are soon forgotten (as TensorFlow's
    ExponentialMovingAverage with num_updates). Buffers such as those of batch norm are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Update the average with the weights after optimizer step `steps` of the run, counted from 1."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        averages: list[torch.Tensor] = list(self.model.parameters())
        weights: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, value in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(value)
