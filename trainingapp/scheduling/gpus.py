"""What the driver reports about the GPUs of this machine."""

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import pynvml


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a GPU; 0 bytes where the driver does not report its memory."""

    pid: int
    memory_bytes: int = 0


@dataclass(frozen=True)
class GpuReading:
    """One GPU as its driver reports it; None for what cannot be read."""

    uuid: str
    name: str
    memory_bytes: int
    memory_free_bytes: int
    #: Share in use, 0 to 1.
    load: float | None = None
    temperature_c: float | None = None
    processes: tuple[GpuProcess, ...] = field(default_factory=tuple)


def read_gpus() -> list[GpuReading]:
    """Every GPU of the machine in the driver's order; none without a driver or with a torch without CUDA."""
    if not torch_can_use_gpus():
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_reading(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # a GPU that fell off the bus
        return []
    finally:
        pynvml.nvmlShutdown()


def driver_version() -> str:
    """The version of the NVIDIA driver; empty where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


@cache
def torch_can_use_gpus() -> bool:
    """Whether torch is a build for GPUs, by its version: importing torch takes seconds, and this process needs it for
    nothing else."""
    return not importlib.metadata.version("torch").endswith("+cpu")


def visible_gpus(gpus: Sequence[GpuReading], variable: str | None = None) -> list[GpuReading]:
    """The GPUs that torch will find, in its order. `variable` is CUDA_VISIBLE_DEVICES, by default that of this process.

    Like CUDA, it leaves out everything after the first unknown name.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES") if variable is None else variable
    if variable is None:
        return list(gpus)
    found: list[GpuReading] = []
    for name in variable.split(","):
        gpu = _named(gpus, name.strip())
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    return found


def _named(gpus: Sequence[GpuReading], name: str) -> GpuReading | None:
    if name.isdecimal():
        return gpus[int(name)] if int(name) < len(gpus) else None
    matching = [gpu for gpu in gpus if name.startswith("GPU-") and gpu.uuid.startswith(name)]
    return matching[0] if len(matching) == 1 else None


def _reading(handle: object) -> GpuReading:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    load = _read(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    temperature = _read(lambda: float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)))
    # Compute and graphics processes; one that is both counts once.
    used: dict[int, int] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        with contextlib.suppress(pynvml.NVMLError):
            for process in ask(handle):
                used[process.pid] = max(used.get(process.pid, 0), process.usedGpuMemory or 0)
    return GpuReading(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
        load=load,
        temperature_c=temperature,
        processes=tuple(GpuProcess(pid, memory_bytes) for pid, memory_bytes in sorted(used.items())),
    )


def _read(ask: Callable[[], float]) -> float | None:
    try:
        return ask()
    except pynvml.NVMLError:  # not every GPU has every sensor
        return None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
