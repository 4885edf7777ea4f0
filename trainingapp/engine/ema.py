"""A moving average of the weights, which often validates better than the weights themselves."""

import copy
import itertools

import torch
from torch import nn

Tensors = list[torch.Tensor]


class Ema:
    """`model` holds the average: after each step, average = d average + (1 - d) weights.

    d = min(decay, (1 + steps) / (10 + steps)), so that the first steps are soon forgotten (as TensorFlow's
    ExponentialMovingAverage with num_updates). Buffers such as those of batch norm are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """`model` is the one that trains; its parameters and buffers must stay the same tensors."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        # Collected once: to walk through the modules at every step takes a small network longer than the update.
        self._averages: Tensors = list(self.model.parameters())
        self._weights: Tensors = list(model.parameters())
        self._buffers = _by_type(list(self.model.buffers()), list(model.buffers()))

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Update the average with the weights after optimizer step `steps` of the run, counted from 1."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        for averages, values in self._buffers:
            torch._foreach_copy_(averages, values)


def _by_type(averages: Tensors, values: Tensors) -> list[tuple[Tensors, Tensors]]:
    """The pairs in groups of one type each, which a GPU copies in one go."""
    pairs = sorted(zip(averages, values, strict=True), key=lambda pair: str(pair[1].dtype))
    groups = itertools.groupby(pairs, key=lambda pair: pair[1].dtype)
    return [
        ([one for one, _other in found], [other for _one, other in found])
        for _type, group in groups
        if (found := list(group))
    ]
