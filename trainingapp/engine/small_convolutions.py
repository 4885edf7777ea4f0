"""A way around a fault of oneDNN, with which torch computes convolutions on CPUs.

In bfloat16 the gradient of a kernel that reaches far beyond its input (3 x 3 with a stride, or 5 x 5, over a single
pixel) is partly memory that was never written, and so is NaN now and then (torch 2.13 and 2.14). The smallest levels of
a feature pyramid have such inputs. These layers, and no others, compute in float32.
"""

from types import MethodType

import torch
from torch import nn

from trainingapp.engine.device import Precision


def guard_small_convolutions(model: nn.Module, precision: Precision) -> None:
    """Have the convolutions of a model that trains in bfloat16 on a CPU compute in float32 where they must."""
    if precision.device.type != "cpu" or precision.dtype is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _can_reach_beyond(module):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _can_reach_beyond(layer: nn.Conv2d) -> bool:
    return max(layer.kernel_size) > 3 or (max(layer.kernel_size) > 1 and max(layer.stride) > 1)


def _forward(layer: nn.Conv2d, features_NCHW: torch.Tensor) -> torch.Tensor:
    reach = (max(layer.kernel_size) + 1) // 2
    if min(features_NCHW.shape[-2:]) >= reach:
        return type(layer).forward(layer, features_NCHW)
    with torch.autocast("cpu", enabled=False):
        return type(layer).forward(layer, features_NCHW.float())
