"""timm's classification networks. timm is imported only for runs that need it, because that takes seconds."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.messages.tasks import NETWORK_UNKNOWN, NO_PUBLISHED_BACKBONE, SIZE_CANNOT_BE_BUILT
from trainingapp.contract.messages.weights import PUBLISHED_UNFIT
from trainingapp.contract.published_weights import TIMM_FILES, Kind, Published, hub_file
from trainingapp.engine.published import obtained


def build_timm(
    name: str, *, class_count: int, image_size: int, dropout_rate: float, pretrained_from: Path | None
) -> nn.Module:
    """As `build_classifier`, for the network that timm names `name`. Raises BadConfig, WeightsUnavailable."""
    import timm

    if not timm.is_model(name):
        raise BadConfig(NETWORK_UNKNOWN(library="timm", name=name))
    options: dict[str, Any] = {"num_classes": class_count, "drop_rate": dropout_rate}
    if pretrained_from is None:
        try:
            return _created(name, image_size, options)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadConfig(SIZE_CANNOT_BE_BUILT(name=name, size=image_size, error=str(error))) from error
    published = network_weights(name)
    if published is None:
        raise BadConfig(NO_PUBLISHED_BACKBONE(name=name))
    path = obtained(published, pretrained_from)
    # From this file, whose format is that of the hub also where timm has a loader for the original one.
    about = {"file": str(path), "source": None, "custom_load": False}
    try:
        return _created(name, image_size, {**options, "pretrained": True, "pretrained_cfg_overlay": about})
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise WeightsUnavailable(PUBLISHED_UNFIT(path=str(path), name=name, error=str(error))) from error


def published_timm(name: str) -> Mapping[Kind, Published]:
    """The published weights of a network of timm."""
    found = network_weights(name)
    return {"backbone": found} if found else {}


def network_weights(name: str) -> Published | None:
    """The published weights of a network, as the studio's table or timm knows them."""
    if found := TIMM_FILES.get(f"timm/{name}"):
        return found
    import timm

    about = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if about is None or not about.hf_hub_id:
        return None
    licence = str(about.license or "")
    return hub_file(about.hf_hub_id, file=about.hf_hub_filename or "model.safetensors", licence=licence, library="timm")


def _created(name: str, image_size: int, options: dict[str, Any]) -> nn.Module:
    """Build the network. Transformers need the image size; the other networks do not have the option."""
    import timm

    try:
        model: nn.Module = timm.create_model(name, img_size=image_size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, **options)
    published = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if published and published.fixed_input_size and image_size != published.input_size[-1]:
        _try_size(model, image_size)
    return model


@torch.no_grad()
def _try_size(model: nn.Module, image_size: int) -> None:
    """A few networks ignore the size that they are built for. Raises RuntimeError, ValueError for those."""
    model.eval()(next(model.parameters()).new_zeros(1, 3, image_size, image_size))
    model.train()
