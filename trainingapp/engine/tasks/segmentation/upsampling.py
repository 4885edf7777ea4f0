"""Bilinear upsampling with deterministic gradients on GPUs.

torch's kernel adds up gradients in any order, and its deterministic replacement gathers and scatters each pixel, which
takes many times as long. Interpolation is linear and separable: rows and columns are each a product with a fixed matrix
of two weights in a row, whose gradient is the product with its transpose. The matrices are small, and such products are
what a GPU does best.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def deterministic_upsampling(device: torch.device) -> AbstractContextManager[object]:
    """Within it, forward passes upsample by matrices where torch's own way is slow: with deterministic algorithms on a
    GPU. On a CPU its kernel is deterministic and faster."""
    is_slow = device.type == "cuda" and torch.are_deterministic_algorithms_enabled()
    return MatrixUpsampling() if is_slow else nullcontext()


class MatrixUpsampling(TorchFunctionMode):
    """Replaces bilinear `F.interpolate`, which the networks of libraries call, by `upsampled`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.interpolate and (size := _target(*args, **(kwargs or {}))):
            return upsampled(args[0], size, align_corners=bool((kwargs or {}).get("align_corners")))
        return func(*args, **(kwargs or {}))


def _target(
    features: torch.Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> tuple[int, int] | None:
    """Height and width that `F.interpolate` with these arguments gives; None where it is no plain bilinear upsampling.

    With a factor that is no whole number the places of the pixels follow the factor, not the sizes.
    """
    if mode != "bilinear" or antialias or features.ndim != 4:
        return None
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)
    factors = (scale_factor, scale_factor) if isinstance(scale_factor, int | float) else scale_factor
    if factors is None or any(factor != int(factor) for factor in factors):
        return None
    return features.shape[2] * int(factors[0]), features.shape[3] * int(factors[1])


def upsampled(features_NCHW: torch.Tensor, size: tuple[int, int], *, align_corners: bool) -> torch.Tensor:
    """[N, C, H, W] as [N, C, *size] in the same type and memory format, as F.interpolate does in bilinear mode."""
    count, channels, height, width = features_NCHW.shape
    rows_OH, columns_PW = (
        interpolation_matrix(before, after, align_corners, features_NCHW.device)
        for before, after in zip((height, width), size, strict=True)
    )
    with torch.autocast(features_NCHW.device.type, enabled=False):
        # In float32, as torch's kernel computes: the weights of most sizes cannot be written in 16 bits.
        features = features_NCHW.float()
        if features_NCHW.is_contiguous(memory_format=torch.channels_last):
            rows = torch.matmul(rows_OH, features.permute(0, 2, 3, 1).reshape(count, height, width * channels))
            found = torch.matmul(columns_PW, rows.view(count * size[0], width, channels))
            found = found.view(count, *size, channels).permute(0, 3, 1, 2)
        else:
            found = torch.matmul(rows_OH, torch.matmul(features, columns_PW.T))
    return found.to(features_NCHW.dtype)


@lru_cache(maxsize=64)
def interpolation_matrix(before: int, after: int, align_corners: bool, device: torch.device) -> torch.Tensor:
    """float32 [after, before]: the weights with which pixels of a line of `before` give one of `after`.

    With `align_corners` the centers of the outermost pixels coincide, else their outer edges; beyond them the outermost
    pixel is repeated.
    """
    with torch.inference_mode(mode=False):  # a validation may be the first to need it; training uses it too
        places = torch.arange(after, dtype=torch.float64)
        if align_corners:
            places = places * ((before - 1) / max(1, after - 1))
        else:
            places = ((places + 0.5) * (before / after) - 0.5).clamp(min=0)
        lower = places.floor().long().clamp(max=before - 1)
        upper = (lower + 1).clamp(max=before - 1)
        shares = (places - lower)[:, None]
        one_hot = torch.eye(before, dtype=torch.float64)
        return (one_hot[lower] * (1 - shares) + one_hot[upper] * shares).to(device, torch.float32)
