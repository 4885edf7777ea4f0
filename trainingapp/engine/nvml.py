"""What NVIDIA's management library knows of a CUDA device. It creates no context, which would take memory of a GPU."""

import contextlib
import os
from typing import Literal

import pynvml
import torch


def gpu_of(device: torch.device) -> object | None:
    """NVML's handle of a CUDA device, which may have another number there; None where there is none."""
    if device.type != "cuda":
        return None
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    for name in (f"GPU-{uuid}", f"MIG-{uuid}", uuid):
        with contextlib.suppress(pynvml.NVMLError):
            handle: object = pynvml.nvmlDeviceGetHandleByUUID(name)
            return handle
    return None


def free_bytes(device: torch.device) -> int | None:
    """Free memory of the GPU; None where it is not known, as on boards whose memory is the machine's."""
    return _memory(device, "free")


def used_bytes(device: torch.device) -> int | None:
    """Used memory of the GPU by all processes; None where it is not known."""
    return _memory(device, "used")


def _memory(device: torch.device, part: Literal["free", "used"]) -> int | None:
    handle = gpu_of(device)
    with contextlib.suppress(pynvml.NVMLError):
        return int(getattr(pynvml.nvmlDeviceGetMemoryInfo(handle), part)) if handle is not None else None
    return None


def own_bytes(device: torch.device) -> int | None:
    """Memory of the GPU that this process uses, its context and libraries included; None where it is not known.

    In a container NVML reports processes by their numbers outside of it, or none at all.
    """
    handle = gpu_of(device)
    if handle is None:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
    return None
