"""Networks of segmentation-models-pytorch, which is imported only for runs that need it: that takes seconds."""

from pathlib import Path
from typing import Any

from torch import nn

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.messages.tasks import (
    DOWNLOAD_FAILED,
    FAMILY_UNKNOWN,
    NETWORK_CANNOT_BE_BUILT,
    NO_PUBLISHED_BACKBONE,
    NO_PUBLISHED_MODEL,
)
from trainingapp.engine.published import DOWNLOAD_TIMEOUT_S, socket_timeout
from trainingapp.engine.tasks.classification.from_timm import build_timm

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
    """ImageNet weights of the encoder, from Hugging Face. Raises WeightsUnavailable, BadConfig.

    Downloaded here and not by the library, which would use a folder of the user.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from segmentation_models_pytorch.encoders import encoders

    known: dict[str, Any] = encoders
    published = known.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if published is None:
        raise BadConfig(NO_PUBLISHED_BACKBONE(name=encoder))
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT_S):
            file = hf_hub_download(
                published["repo_id"],
                "model.safetensors",
                revision=published["revision"],
                cache_dir=weights_cache_dir / "huggingface",
            )
        state = load_file(file)
    except (OSError, RuntimeError, SafetensorError, HfHubHTTPError) as error:
        message = DOWNLOAD_FAILED(name=encoder, error=str(error), host="huggingface.co")
        raise WeightsUnavailable(message) from error
    assert isinstance(model.encoder, nn.Module)
    model.encoder.load_state_dict(state)
