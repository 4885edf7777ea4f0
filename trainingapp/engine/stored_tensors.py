"""Copies of tensors for checkpoints, and tensors from stored bytes."""

import contextlib
import ctypes
import logging
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from trainingapp.contract.storage.manifest import Content, TensorSpec, leaves, mapped, plain_stride
from trainingapp.contract.storage.reading import Opened
from trainingapp.engine.checkpoint_content import CheckpointContent
from trainingapp.engine.waiting import is_alone

logger = logging.getLogger(__name__)

ALIGNMENT = 64
BFLOAT16_EXPONENT = 0x7F80
#: The shape, stride and dtype of each tensor: while they stay the same, the buffer is used again as it is.
Layout = list[tuple[torch.Size, tuple[int, ...], torch.dtype]]
#: dtype of the sum in `is_finite`: sums of float16 would overflow.
SUMMED_AS = {"float16": np.float32, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Copied:
    """A tensor in the flat buffer: its description, without a key yet, and its bytes."""

    spec: TensorSpec
    raw: memoryview

    def keyed(self, key: str) -> TensorSpec:
        return replace(self.spec, key=key)


class FlatCopy:
    """One buffer that a state is copied into, the same for each save: allocating new pages costs more than the copy.

    It is page-locked where the state is on a GPU, so that the copies are asynchronous.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._layout: Layout = []
        self._views: list[torch.Tensor] = []
        self._copied: list[Copied] = []

    def take(self, content: Mapping[str, object]) -> Content:
        """`content` with a `Copied` for each tensor. The result of the last call is overwritten.

        The copies are complete on return: the loop may change the tensors immediately.
        """
        tensors = [tensor.detach() for tensor in leaves(content, torch.Tensor)]
        layout = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
        devices = {tensor.device for tensor in tensors if tensor.is_cuda}
        if layout != self._layout:
            self._lay_out(tensors, page_locked=bool(devices))
            self._layout = layout
        alone = is_alone()
        for view, tensor in zip(self._views, tensors, strict=True):
            # On the CPU: with all threads while the run is alone there, else with this one. One thread needs up to half
            # as long again, but never waits for a thread that has lost its core: beside busy neighbors it takes two
            # thirds of the time of torch's copy. From a GPU: without waiting, see the synchronization below.
            if tensor.device.type == "cpu" and not alone and tensor.stride() == view.stride():
                ctypes.memmove(view.data_ptr(), tensor.data_ptr(), view.nbytes)
            else:
                view.copy_(tensor, non_blocking=True)
        for device in devices:
            torch.cuda.synchronize(device)
        copied = iter(self._copied)
        return cast(Content, mapped(content, torch.Tensor, lambda _tensor: next(copied)))

    def _lay_out(self, tensors: list[torch.Tensor], *, page_locked: bool) -> None:
        specs = [_spec(tensor) for tensor in tensors]
        starts, end = [], 0
        for spec in specs:
            starts.append(end)
            end += -(-spec.raw_bytes // ALIGNMENT) * ALIGNMENT
        if end > len(self._buffer):
            self._views, self._copied = [], []  # they would keep the old buffer in memory
            self._buffer = _page_locked(end) if page_locked else _huge_pages(end)
        memory = self._buffer.numpy().data
        stretches = [slice(start, start + spec.raw_bytes) for start, spec in zip(starts, specs, strict=True)]
        self._copied = [Copied(spec, memory[part]) for part, spec in zip(stretches, specs, strict=True)]
        self._views = [
            _placed(self._buffer[part], spec, tensor.dtype)
            for part, spec, tensor in zip(stretches, specs, tensors, strict=True)
        ]


def restored(opened: Opened) -> CheckpointContent:
    """The content of a checkpoint with its tensors on the CPU, each in memory of its own. Raises CorruptedFile."""

    def tensor(spec: TensorSpec) -> torch.Tensor:
        raw = bytearray(opened.read(spec)) if spec.raw_bytes else bytearray()
        flat = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
        return _placed(flat, spec, getattr(torch, spec.dtype))

    return cast(CheckpointContent, mapped(opened.content, TensorSpec, tensor))


def is_finite(raw: memoryview, dtype: str) -> bool:
    """Whether none of the numbers, given as their bytes, is NaN or infinite.

    A sum is finite only if each number is, and takes a fifth of the time of a test of each number. NumPy uses this
    thread alone: torch would take cores from the loop.
    """
    if dtype == "bfloat16":
        return not (np.frombuffer(raw, np.uint16) & BFLOAT16_EXPONENT == BFLOAT16_EXPONENT).any()
    if dtype not in SUMMED_AS:
        return True
    with np.errstate(all="ignore"):
        total = np.frombuffer(raw, dtype).sum(dtype=SUMMED_AS[dtype])
    return bool(np.isfinite(total))


def _page_locked(size: int) -> torch.Tensor:
    """`size` bytes that a GPU can write to by itself; ordinary memory where the system locks no more of it.

    torch rounds such an allocation up to a power of 2, and containers limit it. Copies are then slower, not wrong.
    """
    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        logger.warning("Checkpoints are copied through ordinary memory: %s", error)
        return _huge_pages(size)


def _huge_pages(size: int) -> torch.Tensor:
    """`size` bytes in pages of 2 MiB where Linux has them: fewer page lookups make a copy up to a third faster."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def _spec(tensor: torch.Tensor) -> TensorSpec:
    """The description of the tensor; channels-last weights keep their memory format, others become contiguous."""
    shape = tuple(tensor.shape)
    is_dense = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    stride = tensor.stride() if is_dense else plain_stride(shape)
    return TensorSpec(str(tensor.dtype).removeprefix("torch."), shape, stride, "")


def _placed(flat_bytes: torch.Tensor, spec: TensorSpec, dtype: torch.dtype) -> torch.Tensor:
    return flat_bytes.view(dtype).as_strided(spec.shape, spec.stride)
