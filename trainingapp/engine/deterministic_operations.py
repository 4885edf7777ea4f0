"""Operations of networks of libraries in forms with deterministic algorithms on CUDA, where their own have none.

Legend: N images (or heads), D channels, H and W sides of a map, Q queries, P points of each.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def deterministic_operations(device: torch.device) -> AbstractContextManager[Any]:
    """Within, `grid_sample` and the cross-entropy of several places of an image can be computed, with their gradients,
    on devices and in runs that need deterministic algorithms."""
    needed = device.type == "cuda" and torch.are_deterministic_algorithms_enabled()
    return _DeterministicForms() if needed else nullcontext()


class _DeterministicForms(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.grid_sample:
            return sampled(*args[:2])
        if func is F.cross_entropy and args[0].dim() > 2:
            return entropy_of_rows(*args[:2], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def entropy_of_rows(logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
    """The cross-entropy of logits [N, classes, ...] and targets [N, ...], summed up or averaged, of a row for each
    place: that of rows has a deterministic algorithm. `options` as those of `F.cross_entropy`."""
    return F.cross_entropy(logits.movedim(1, -1).flatten(0, -2), targets.flatten(), **options)


def sampled(values_NDHW: torch.Tensor, places_NQP2: torch.Tensor) -> torch.Tensor:
    """[N, D, Q, P]: as `grid_sample` with zeros outside of the map and `align_corners` off, float32.

    Places are x and y from -1 to 1. The values of four neighbors are gathered: the gradient of that is deterministic.
    """
    count, channels, height, width = values_NDHW.shape
    queries, points = places_NQP2.shape[1:3]
    values_NDT = values_NDHW.flatten(2).float()
    columns = ((places_NQP2[..., 0].float() + 1) * width - 1) / 2
    rows = ((places_NQP2[..., 1].float() + 1) * height - 1) / 2
    left, top = columns.detach().floor(), rows.detach().floor()
    found = torch.zeros(count, channels, queries * points, device=values_NDHW.device)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = left + right, top + below
        is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
        weights = (1 - (columns - x).abs()) * (1 - (rows - y).abs())
        neighbors = values_NDT.gather(2, index.view(count, 1, -1).expand(-1, channels, -1))
        found = found + neighbors * torch.where(is_inside, weights, 0.0).view(count, 1, -1)
    return found.view(count, channels, queries, points)
