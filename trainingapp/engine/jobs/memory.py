"""Memory of a job: what is free, what it uses, and a limit on its share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from trainingapp.engine.autobatch import free_bytes, used_bytes

#: Of what is free on a GPU, a job may take so much: runs that train there need some of the rest now and then.
SHARE_OF_FREE = 0.9


@dataclass(frozen=True)
class Memory:
    """Of the GPU, or of the machine for a process on its CPU."""

    kind: Literal["gpu", "process"]
    free_bytes: int


def memory_before(device: torch.device) -> Memory:
    """The memory that is available before the job allocates any."""
    kind: Literal["gpu", "process"] = "gpu" if device.type == "cuda" else "process"
    return Memory(kind, int(free_bytes(device)))


def peak_bytes(device: torch.device) -> int:
    """The most that was allocated on the GPU so far, or that this process has held."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else int(used_bytes(device))


@contextmanager
def own_share(device: torch.device, memory: Memory) -> Iterator[None]:
    """Limit what the job may allocate on a GPU, so that it runs out of memory itself instead of a run beside it."""
    if device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(SHARE_OF_FREE * memory.free_bytes / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
