"""Networks of segmentation-models-pytorch, which is loaded only when a run asks for it: that takes seconds."""

from pathlib import Path
from typing import Any

from torch import nn

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.engine.published import DOWNLOAD_TIMEOUT_S, socket_timeout


def build_smp(name: str, *, class_count: int, pretrained: str, weights_cache_dir: Path) -> nn.Module:
    """As `build_segmenter`, for "{architecture}_{encoder}" as the library names them, such as unet_resnet18.

    Raises BadConfig, WeightsUnavailable.
    """
    import segmentation_models_pytorch as smp

    architecture, _, encoder = name.partition("_")
    if architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        known = ", ".join(smp.MODEL_ARCHITECTURES_MAPPING)
        raise BadConfig(f"segmentation-models-pytorch has no network called {architecture}; it has {known}.")
    if pretrained == "whole":
        raise BadConfig(
            f"pretrained is whole, but nobody publishes weights of the whole {name}. Take backbone instead."
        )
    try:
        model: nn.Module = smp.create_model(architecture, encoder, encoder_weights=None, classes=class_count)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise BadConfig(f"{name} cannot be built: {error}") from error
    if pretrained == "backbone":
        _load_encoder(model, encoder, weights_cache_dir)
    return model


def _load_encoder(model: nn.Module, encoder: str, weights_cache_dir: Path) -> None:
    """ImageNet weights of the encoder, from Hugging Face. Raises WeightsUnavailable, BadConfig.

    Fetched here and not by the library, which would put them into a folder of the user's.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from segmentation_models_pytorch.encoders import encoders

    known: dict[str, Any] = encoders
    published = known.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if published is None:
        raise BadConfig(f"pretrained is backbone, but no ImageNet weights of {encoder} are known. Turn pretrained off.")
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
        advice = "Connect this machine to huggingface.co, or turn pretrained off."
        raise WeightsUnavailable(f"Pretrained weights of {encoder} could not be fetched: {error} {advice}") from error
    assert isinstance(model.encoder, nn.Module)
    model.encoder.load_state_dict(state)
