"""Memory of the device that a run trains on: what is free, what this process uses, and limits on its share."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.engine import nvml

GB = 1_000_000_000
#: Of what is free on a GPU, a job may take so much: runs that train there need some of the rest now and then.
SHARE_OF_FREE = 0.9
#: Memory of a GPU that a process needs besides torch's allocator: the context of CUDA, and its libraries.
OUTSIDE_ALLOCATOR_BYTES = 600_000_000


@dataclass(frozen=True)
class MemoryBefore:
    """The memory of the GPU, or of the machine for a process on its CPU, before a job allocates any.

    `used_bytes` is what all processes use on the GPU; None where it is not known.
    """

    device: torch.device
    free_bytes: int
    used_bytes: int | None = None

    @property
    def kind(self) -> Literal["gpu", "process"]:
        return "gpu" if self.device.type == "cuda" else "process"


def memory_before(device: torch.device) -> MemoryBefore:
    """To be called before the first tensor is on the GPU: afterwards, the context counts as used by others."""
    if device.type != "cuda":
        return MemoryBefore(device, int(free_bytes(device)))
    free, used = nvml.free_bytes(device), nvml.used_bytes(device)
    return MemoryBefore(device, int(free_bytes(device)) if free is None else free, used)


def peak_bytes(before: MemoryBefore) -> int:
    """The most memory that this process has held since `before`, its context and libraries included.

    On a GPU by the driver: what it reports for the process, else the difference that the device shows, else what torch
    has reserved. The allocator keeps what it has reserved, so a reading after the steps shows their peak.
    """
    device = before.device
    if device.type != "cuda":
        return int(used_bytes(device))
    torch.cuda.synchronize(device)
    reserved, peak = torch.cuda.memory_reserved(device), torch.cuda.max_memory_reserved(device)
    held, used = nvml.own_bytes(device), nvml.used_bytes(device)
    if held is None and used is not None and before.used_bytes is not None:
        held = used - before.used_bytes
    return peak if held is None else peak + max(0, held - reserved)


def free_bytes(device: torch.device) -> float:
    """Free memory of the GPU or of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(free_bytes_of_machine())


def free_bytes_of_machine() -> int:
    """Memory that processes can have without swapping."""
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024


def used_bytes(device: torch.device) -> float:
    """Peak memory of this process; on a GPU since `reset_peak`, without what is outside of torch's allocator."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    return _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024.0


def release(device: torch.device) -> None:
    """Give back the memory of tensors that are gone, and forget the peak: the next measurement starts afresh."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def limit_to_share(device: torch.device, config: BaseRunConfig) -> None:
    """Have a run that shares its GPU run out of memory beyond the part that it has reserved, instead of a run beside
    it."""
    if device.type == "cuda" and config.share_device:
        allowed = config.min_free_memory_gb * GB - OUTSIDE_ALLOCATOR_BYTES
        _limit(device, max(allowed, config.min_free_memory_gb * GB / 2))


@contextmanager
def own_share(before: MemoryBefore) -> Iterator[None]:
    """Limit what a job may allocate on a GPU, so that it runs out of memory itself instead of a run beside it."""
    if before.device.type != "cuda":
        yield
        return
    _limit(before.device, SHARE_OF_FREE * before.free_bytes)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, before.device)


def _limit(device: torch.device, allowed_bytes: float) -> None:
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed_bytes / total), device)


def _kilobytes(path: Path, name: str) -> int:
    """A line such as "MemAvailable:   123 kB". Without such files (not Linux) memory counts as unlimited."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 1 << 40 if name == "MemAvailable" else 0
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
