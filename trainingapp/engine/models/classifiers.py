"""torchvision's classification networks with a head for our classes."""

import pickle
import socket
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import interpolate_embeddings

from trainingapp.engine.errors import WeightsUnavailable

DOWNLOAD_TIMEOUT_S = 30.0
VIT_PATCH_SIZE = 16


class DroppedLinear(nn.Linear):
    """A last layer that drops features before it. Parameters are named as those of a plain nn.Linear, so that the
    weights load into torchvision's own model."""

    def __init__(self, in_features: int, out_features: int, dropout_rate: float) -> None:
        super().__init__(in_features, out_features)
        self.dropout_rate = dropout_rate

    def forward(self, features_NF: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(features_NF, self.dropout_rate, self.training))


def build_classifier(
    name: str, *, class_count: int, image_size: int, dropout_rate: float, pretrained_from: Path | None
) -> nn.Module:
    """The network `name` for pictures [N, 3, image_size, image_size], giving logits [N, class_count].

    `pretrained_from` is the folder where torchvision's ImageNet weights are kept once fetched; None starts from random
    weights, drawn from torch's global generator. Raises WeightsUnavailable.
    """
    options = {"image_size": image_size} if name.startswith("vit_") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    if pretrained_from is not None:
        model.load_state_dict(_pretrained_state(name, image_size, pretrained_from))
    _replace_head(model, class_count, dropout_rate)
    return model


def _replace_head(model: nn.Module, class_count: int, dropout_rate: float) -> None:
    """Put a new layer in place of the last linear one; torchvision's own dropout before it gives way to ours."""
    path, last = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    parent_path, _, attribute = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    for sibling in parent.children():
        if isinstance(sibling, nn.Dropout) and isinstance(parent, nn.Sequential):
            sibling.p = 0.0
    setattr(parent, attribute, DroppedLinear(last.in_features, class_count, dropout_rate))


def _pretrained_state(name: str, image_size: int, folder: Path) -> dict[str, Any]:
    """The state dict of torchvision's default ImageNet weights, for vit at `image_size`."""
    weights: WeightsEnum = torchvision.models.get_model_weights(name)["DEFAULT"]
    state = dict(_fetched(weights.url, folder / "checkpoints"))
    if name.startswith("vit_"):
        state = dict(interpolate_embeddings(image_size, VIT_PATCH_SIZE, OrderedDict(state)))
    return state


def _fetched(url: str, folder: Path) -> dict[str, Any]:
    file, host = folder / url.rpartition("/")[2], urlsplit(url).hostname
    advice = f"Connect this machine to {host}, or put the file into {folder} by hand, or turn pretrained off."
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT_S):
            state: dict[str, Any] = torch.hub.load_state_dict_from_url(
                url, str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
            return state
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise WeightsUnavailable(f"{file} is damaged: {error}. Delete it. {advice}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsUnavailable(f"Pretrained weights could not be fetched from {url}: {reason}. {advice}") from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """A host that takes connections and says nothing must not hold the run for ever; torch.hub has no timeout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
