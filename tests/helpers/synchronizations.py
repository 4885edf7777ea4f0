"""Operations for which the host waits for a GPU, counted where there is none."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trainingapp.engine.tasks.detection.losses import sampling

READS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
    "torchvision::nms",
}
"""Their result is a number for the host, or its size depends on values: the host waits for them."""

INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
"""They take indices of another device, and search the places of a mask, for whose number the host waits."""


METHODS = {torch.Tensor.tolist: "tolist", torch.Tensor.cpu: "cpu", torch.Tensor.numpy: "numpy"}
"""They copy from the device before anything is dispatched."""


class _Methods(TorchFunctionMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in METHODS:
            self._counts[METHODS[func]] += 1
        return func(*args, **(kwargs or {}))


class SynchronizingOperations(TorchDispatchMode):
    """Counts by name the operations within that would wait for a GPU, if their tensors were there.

    A stand-in: on CPU tensors nothing waits, and waits within kernels cannot be seen. Tensors that are made from Python
    numbers count too (`tensor from numbers`), since they would be copied to the GPU from memory that is not pinned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._methods = _Methods(self.counts)

    def __enter__(self) -> Self:
        self._methods.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._methods.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        if name in READS:
            self.counts[name] += 1
        elif name in INDEXING and _searches_a_mask(args):
            self.counts[f"{name} by a mask"] += 1
        elif name == "aten::lift_fresh":
            self.counts["tensor from numbers"] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def _searches_a_mask(args: Sequence[Any]) -> bool:
    """Whether an operation of INDEXING does. A number is written where a mask is true without knowing the places."""
    indices = [index for index in args[1] if index is not None]
    masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
    writes_a_number = len(args) > 2 and args[2].numel() == 1 and len(masks) == len(indices)
    return bool(masks) and not writes_a_number


@contextmanager
def same_draws() -> Iterator[None]:
    """Within, torchvision's sampler and ours draw the first candidates of each image instead of random ones."""

    def in_order(count: int, **kwargs: Any) -> torch.Tensor:
        return torch.arange(count, device=kwargs.get("device"))

    def descending(labels_NA: torch.Tensor) -> torch.Tensor:
        count = labels_NA.shape[1]
        return (1 - torch.arange(count, device=labels_NA.device) / count).expand(labels_NA.shape)

    own: Callable[..., torch.Tensor] = descending
    with patch.object(torch, "randperm", in_order), patch.object(sampling, "random_keys", own):
        yield
