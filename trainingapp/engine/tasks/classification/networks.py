"""torchvision's and timm's classification networks with a head for our classes."""

from collections import OrderedDict
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import interpolate_embeddings

from trainingapp.engine.published import fetched_state
from trainingapp.engine.tasks.classification.from_timm import build_timm

VIT_PATCH_SIZE = 16


class DroppedLinear(nn.Linear):
    """A last layer with dropout before it. Its parameters have the names of a plain nn.Linear, so that the weights load
    into torchvision's own model."""

    def __init__(self, in_features: int, out_features: int, dropout_rate: float) -> None:
        super().__init__(in_features, out_features)
        self.dropout_rate = dropout_rate

    def forward(self, features_NF: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(features_NF, self.dropout_rate, self.training))


TIMM = "timm/"


def build_classifier(
    name: str, *, class_count: int, image_size: int, dropout_rate: float, pretrained_from: Path | None
) -> nn.Module:
    """The network `name` for images [N, 3, image_size, image_size], giving logits [N, class_count].

    `pretrained_from` is the folder for the library's downloaded ImageNet weights; None starts from random
    weights, drawn from torch's global generator. Raises WeightsUnavailable, BadConfig.
    """
    if name.startswith(TIMM):
        return build_timm(
            name.removeprefix(TIMM),
            class_count=class_count,
            image_size=image_size,
            dropout_rate=dropout_rate,
            pretrained_from=pretrained_from,
        )
    options = {"image_size": image_size} if name.startswith("vit_") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    if pretrained_from is not None:
        weights: WeightsEnum = torchvision.models.get_model_weights(name)["DEFAULT"]
        state = OrderedDict(fetched_state(weights.url, pretrained_from / "checkpoints"))
        # Published position embeddings are for 224 pixels.
        is_vit = name.startswith("vit_")
        model.load_state_dict(interpolate_embeddings(image_size, VIT_PATCH_SIZE, state) if is_vit else state)
    _replace_head(model, class_count, dropout_rate)
    return model


def head_prefix(model: nn.Module) -> str:
    """Prefix of the names of the last layer's parameters."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return f"{layers[-1]}."


def _replace_head(model: nn.Module, class_count: int, dropout_rate: float) -> None:
    """Replace the last linear layer, and turn off torchvision's own dropout before it."""
    path, last = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    parent_path, _, attribute = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    for sibling in parent.children():
        if isinstance(sibling, nn.Dropout) and isinstance(parent, nn.Sequential):
            sibling.p = 0.0
    setattr(parent, attribute, DroppedLinear(last.in_features, class_count, dropout_rate))
