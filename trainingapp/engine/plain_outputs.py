"""Networks as others can use them: one normalised image in, plain tensors out. Shared by tasks.

Each task says in `plain_network` which module its networks become, and in its descriptor what the outputs are called.
"""

import numpy as np
import torch
from torch import nn

from trainingapp.contract.prediction import Floats

Outputs = tuple[torch.Tensor, ...]


class Probabilities(nn.Module):
    """A network that gives logits [1, C, ...], as one that gives probabilities over C."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        return (self.network(images_NCHW).softmax(dim=1),)


class SigmoidProbabilities(Probabilities):
    """A network that gives logits [1, C], as one that gives a probability for each of C classes by itself."""

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        return (self.network(images_NCHW).sigmoid(),)


def largest_difference(one: Floats, other: Floats) -> float:
    """The largest absolute difference of two arrays of one shape; 0 where they are empty."""
    return float(np.abs(one - other).max()) if one.size else 0.0
