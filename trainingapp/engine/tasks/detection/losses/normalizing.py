"""The normalization of a detector's input, which `build_detector` has put in the place of torchvision's transform."""

from typing import Protocol, cast

import torch
from torch import nn


class _Normalizing(Protocol):
    def normalised(self, images_NCHW: torch.Tensor) -> torch.Tensor: ...


def normalised_for(model: nn.Module, images_NCHW: torch.Tensor) -> torch.Tensor:
    """The images as the weights of the detector expect them. torch does not type the modules of a model."""
    return cast(_Normalizing, model.transform).normalised(images_NCHW)
