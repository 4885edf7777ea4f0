"""A workaround for a fault of oneDNN, with which torch computes convolutions on CPUs.

In bfloat16 the gradient of a kernel that extends far beyond its input (3 x 3 with a stride, or 5 x 5, on a single
pixel) is partly uninitialized memory, and therefore sometimes NaN (torch 2.13 and 2.14). The smallest levels of a
feature pyramid have such inputs. Only these layers compute in float32.
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
        if not isinstance(module, nn.Conv2d):
            continue
        side, stride = max(module.kernel_size), max(module.stride)
        if side > 3 or (side > 1 and stride > 1):
            # On the instance, and as a bound method: copies of the model (EMA) are guarded too, and no name of a
            # parameter changes.
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(layer: nn.Conv2d, features_NCHW: torch.Tensor) -> torch.Tensor:
    reach = (max(layer.kernel_size) + 1) // 2
    if min(features_NCHW.shape[-2:]) >= reach:
        return type(layer).forward(layer, features_NCHW)
    with torch.autocast("cpu", enabled=False):
        return type(layer).forward(layer, features_NCHW.float())
