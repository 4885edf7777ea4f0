"""Networks of segmentation-models-pytorch, which is imported only for runs that need it: that takes seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.messages.tasks import (
    FAMILY_UNKNOWN,
    NETWORK_CANNOT_BE_BUILT,
    NO_PUBLISHED_BACKBONE,
    NO_PUBLISHED_MODEL,
)
from trainingapp.contract.messages.weights import PUBLISHED_UNFIT
from trainingapp.contract.published_weights import SMP_FILES, Kind, Published, hub_file
from trainingapp.engine.published import obtained
from trainingapp.engine.tasks.classification.from_timm import build_timm, network_weights

USUAL_SIZE = 224


TIMM_ENCODER = "_tu-"
"""Begins the names of encoders that come from timm."""


def build_smp(name: str, *, class_count: int, pretrained: str, weights_cache_dir: Path) -> nn.Module:
    """As `build_segmenter`, for "{architecture}_{encoder}" as the library names them, such as unet_resnet18.

    Raises BadConfig, WeightsUnavailable.
    """
    import segmentation_models_pytorch as smp

    architecture, _, encoder = name.partition("_")
    if architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        known = list(smp.MODEL_ARCHITECTURES_MAPPING)
        message = FAMILY_UNKNOWN(library="segmentation-models-pytorch", name=architecture, known=known)
        raise BadConfig(message)
    if pretrained == "whole":
        raise BadConfig(NO_PUBLISHED_MODEL(name=name))
    try:
        model: nn.Module = smp.create_model(architecture, encoder, encoder_weights=None, classes=class_count)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise BadConfig(NETWORK_CANNOT_BE_BUILT(name=name, error=str(error))) from error
    if pretrained == "backbone":
        if f"_{encoder}".startswith(TIMM_ENCODER):
            _load_timm_encoder(model, encoder, weights_cache_dir)
        else:
            _load_encoder(model, encoder, weights_cache_dir)
    return model


def _load_timm_encoder(model: nn.Module, encoder: str, weights_cache_dir: Path) -> None:
    """timm's weights of the encoder, which holds parts of the network under flattened names.

    Raises WeightsUnavailable, BadConfig.
    """
    name = encoder.removeprefix("tu-")
    source = build_timm(name, class_count=0, image_size=USUAL_SIZE, dropout_rate=0.0, pretrained_from=weights_cache_dir)
    named = {key.replace(".", "_"): tensor for key, tensor in source.state_dict().items()}
    assert isinstance(model.encoder, nn.Module)
    own = model.encoder.state_dict()
    found = {key: named.get(key.removeprefix("model.").replace(".", "_")) for key in own}
    if any(tensor is None for tensor in found.values()):
        raise BadConfig(NO_PUBLISHED_BACKBONE(name=encoder))
    model.encoder.load_state_dict({key: tensor for key, tensor in found.items() if tensor is not None})


def _load_encoder(model: nn.Module, encoder: str, weights_cache_dir: Path) -> None:
    """ImageNet weights of the encoder, from Hugging Face. Raises WeightsUnavailable, BadConfig."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    published = encoder_weights(encoder)
    if published is None:
        raise BadConfig(NO_PUBLISHED_BACKBONE(name=encoder))
    path = obtained(published, weights_cache_dir)
    assert isinstance(model.encoder, nn.Module)
    try:
        model.encoder.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsUnavailable(PUBLISHED_UNFIT(path=str(path), name=encoder, error=str(error))) from error


def published_smp(name: str) -> Mapping[Kind, Published]:
    """The published weights of the encoder of "{architecture}_{encoder}"."""
    found = encoder_weights(name.partition("_")[2])
    return {"backbone": found} if found else {}


def encoder_weights(encoder: str) -> Published | None:
    """ImageNet weights of an encoder, as the studio's table, timm or the library knows them."""
    if encoder.startswith("tu-"):
        return network_weights(encoder.removeprefix("tu-"))
    if encoder in SMP_FILES:
        return SMP_FILES[encoder]
    from segmentation_models_pytorch.encoders import encoders

    known: dict[str, Any] = encoders
    about = known.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    return hub_file(about["repo_id"], revision=about["revision"], licence="") if about else None
