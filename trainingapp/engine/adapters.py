"""Low-rank adapters: a frozen linear layer W trains as W + SCALE B A, with A [rank, in] and B [out, rank].

Hu et al., LoRA, arXiv:2106.09685, with alpha = SCALE rank. B begins with zeros, so that the network begins unchanged.
The names of all other tensors stay those of the plain network: a state dict becomes one of the plain network by
`merged`.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages.tasks import NOTHING_TO_ADAPT

SCALE = 2.0
DOWN, UP = "lora_down", "lora_up"
ADAPTERS = (f".{DOWN}", f".{UP}")
"""How the names of the parameters of adapters end."""


class AdaptedLinear(nn.Linear):
    """A linear layer that was given adapters in place. Its own weight and bias are the parameters that they were."""

    lora_down: nn.Parameter
    lora_up: nn.Parameter

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        plain = F.linear(features, self._parameters["weight"], self.bias)  # type: ignore[arg-type]
        return plain + SCALE * F.linear(F.linear(features, self.lora_down), self.lora_up)


def _adapted_weight(layer: AdaptedLinear) -> torch.Tensor:
    """The merged weight, for networks that use the weight of a layer without calling it."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return with_adapter(weight, layer.lora_down, layer.lora_up)


# Beside the class: as an attribute of it, mypy takes the parameter of nn.Linear for overridden by something read-only.
setattr(AdaptedLinear, "weight", property(_adapted_weight))  # noqa: B010


def with_adapter(weight_OI: torch.Tensor, down_RI: torch.Tensor, up_OR: torch.Tensor) -> torch.Tensor:
    """The weight of a plain layer that computes the same."""
    return weight_OI + SCALE * (up_OR @ down_RI).to(weight_OI.dtype)


def add_adapters(model: nn.Module, head_prefixes: tuple[str, ...], rank: int) -> None:
    """Give each linear layer of the backbone an adapter, drawn from torch's global generator.

    Raises BadConfig for a backbone without linear layers, as convolutional networks have.
    """
    layers = [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and not f"{name}.".startswith(head_prefixes)
    ]
    if not layers:
        raise BadConfig(NOTHING_TO_ADAPT())
    for layer in layers:
        weight = layer.weight
        layer.__class__ = AdaptedLinear
        down, up = weight.new_empty(rank, layer.in_features), weight.new_zeros(layer.out_features, rank)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))  # as the weights of nn.Linear
        layer.register_parameter(DOWN, nn.Parameter(down))
        layer.register_parameter(UP, nn.Parameter(up))


def merged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of the plain network; one without adapters as it is."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(ADAPTERS)}
    for name, down in state.items():
        if name.endswith(f".{DOWN}"):
            layer = name.removesuffix(DOWN)
            plain[f"{layer}weight"] = with_adapter(plain[f"{layer}weight"], down, state[f"{layer}{UP}"])
    return plain
