"""Arrays of different lengths as one tensor, to be sent to another rank."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Shared = dict[str, torch.Tensor]
"""What a validation meter gives to rank 0: tensors on the CPU by name."""


def losses_tensor(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    """float64 [B] on the CPU: the loss sums of B batches."""
    return torch.tensor([float(one) for one in losses], dtype=torch.float64)


def put(shared: Shared, name: str, arrays: Sequence[NDArray[Any]]) -> None:
    """Add arrays that differ in their first dimension."""
    shared[f"{name}_lengths"] = torch.tensor([len(array) for array in arrays], dtype=torch.int64)
    shared[name] = torch.from_numpy(np.concatenate(arrays)) if arrays else torch.empty(0)


def taken(shared: Shared, name: str) -> list[NDArray[Any]]:
    """The arrays that `put` was given."""
    ends = shared[f"{name}_lengths"].cumsum(0)[:-1].tolist()
    return np.split(shared[name].numpy(), ends) if len(shared[f"{name}_lengths"]) else []
