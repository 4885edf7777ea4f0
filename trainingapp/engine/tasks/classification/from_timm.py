"""timm's classification networks. timm is imported only for runs that need it, because that takes seconds."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.messages.tasks import DOWNLOAD_FAILED, NETWORK_UNKNOWN, SIZE_CANNOT_BE_BUILT
from trainingapp.engine.published import DOWNLOAD_TIMEOUT_S, socket_timeout


def build_timm(
    name: str, *, class_count: int, image_size: int, dropout_rate: float, pretrained_from: Path | None
) -> nn.Module:
    """As `build_classifier`, for the network that timm names `name`. Raises BadConfig, WeightsUnavailable."""
    import timm

    if not timm.is_model(name):
        raise BadConfig(NETWORK_UNKNOWN(library="timm", name=name))
    options: dict[str, Any] = {"num_classes": class_count, "drop_rate": dropout_rate}
    if pretrained_from is not None:
        options |= {"pretrained": True, "cache_dir": str(pretrained_from / "timm")}
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT_S):
            return _created(name, image_size, options)
    except (OSError, RuntimeError, ValueError) as error:
        if pretrained_from is None:
            raise BadConfig(SIZE_CANNOT_BE_BUILT(name=name, size=image_size, error=str(error))) from error
        message = DOWNLOAD_FAILED(name=name, error=str(error), host="huggingface.co")
        raise WeightsUnavailable(message) from error


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
