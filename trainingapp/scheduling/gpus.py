"""What the driver reports about the GPUs of this machine, each asked by itself."""

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil
import pynvml

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.devices import (
    GPU_DRIVER_FAILED,
    GPU_LOST,
    GPU_PROHIBITED,
    GPU_UNREADABLE,
    GPU_WITHOUT_SLICES,
)
from trainingapp.models import Device

Problem = Device.Problem
AnyT = TypeVar("AnyT")

#: Errors with which the driver has lost a GPU until it is reset or the machine is restarted.
LOST = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND})
#: Errors of a machine without a driver, where nothing is wrong.
NO_DRIVER = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a GPU; 0 bytes where the driver does not report its memory.

    `is_graphics`: it only draws, as a desktop does.
    """

    pid: int
    memory_bytes: int = 0
    is_graphics: bool = False


@dataclass(frozen=True)
class GpuReading:
    """One GPU, or one slice of a divided one (MIG), as its driver reports it; None for what cannot be read."""

    uuid: str
    name: str
    #: 0 where it cannot be read: boards that share their memory with the processor report none.
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    #: Share in use, 0 to 1.
    load: float | None = None
    temperature_c: float | None = None
    processes: tuple[GpuProcess, ...] = field(default_factory=tuple)
    #: Whether one process at a time may use it.
    is_exclusive: bool = False
    #: Why it cannot be used, as far as the driver knows.
    problem: Problem | None = None
    explanation: Message | None = None
    #: Position and UUID of its board: those of the GPU of which it is a slice, else its own.
    board: int = 0
    board_uuid: str = ""


@dataclass(frozen=True)
class DriverReading:
    """The GPUs of the machine in the order of the PCI bus, a divided one as its slices. `backend` is the name and the
    version of what torch uses instead of CUDA, such as "rocm 6.4".

    `explanation` says why the driver cannot be asked. `is_installed` is False on a machine without one, where that is
    no problem unless it had GPUs before.
    """

    gpus: list[GpuReading] = field(default_factory=list)
    version: str = ""
    explanation: Message | None = None
    is_installed: bool = True
    backend: str = ""
    #: UUIDs of the GPUs that CUDA_VISIBLE_DEVICES leaves out.
    hidden: frozenset[str] = frozenset()


def read_driver() -> DriverReading:
    """Ask the driver for every GPU. One that cannot be read is in the list, with the reason."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return DriverReading(explanation=_driver_failed(error), is_installed=_code(error) not in NO_DRIVER)
    try:
        version = _text(_read(pynvml.nvmlSystemGetDriverVersion) or "")
        boards = [_board(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return DriverReading(version=version, explanation=_driver_failed(error))
    finally:
        pynvml.nvmlShutdown()
    # The driver counts along the bus, as a rule. One that was lost has no place of its own there: it keeps its number.
    if all(board.place for board in boards):
        boards.sort(key=lambda board: board.place or ())
    gpus = [
        replace(gpu, board=number, board_uuid=board.uuid) for number, board in enumerate(boards) for gpu in board.gpus
    ]
    return DriverReading(gpus, version)


def visible_gpus(gpus: Sequence[GpuReading], variable: str | None = None) -> list[GpuReading]:
    """The GPUs that this process may use, in the order of `variable`, by default its CUDA_VISIBLE_DEVICES.

    Names are those of CUDA: numbers of boards, and UUIDs of boards and slices or their unambiguous beginnings. Like
    CUDA, it leaves out everything after the first unknown name. A board stands for all its slices: each trainer is
    given one by its UUID.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES") if variable is None else variable
    if variable is None:
        return list(gpus)
    found: list[GpuReading] = []
    for name in variable.split(","):
        named = _named(gpus, name.strip())
        if not named or any(gpu in found for gpu in named):
            break
        found += named
    return found


def _named(gpus: Sequence[GpuReading], name: str) -> list[GpuReading]:
    if name.isdecimal():
        return [gpu for gpu in gpus if gpu.board == int(name)]
    if not name.startswith(("GPU-", "MIG-")):
        return []
    slices = [gpu for gpu in gpus if gpu.uuid.startswith(name)]
    boards = {gpu.board for gpu in gpus if gpu.board_uuid.startswith(name)}
    if len(boards) == 1:
        return [gpu for gpu in gpus if gpu.board in boards]
    if slices or boards:
        return slices if len(slices) == 1 else []
    # A lost GPU has forgotten its UUID: a name that no other one has is that of the only lost one.
    lost = [gpu for gpu in gpus if not gpu.uuid]
    return lost if len(lost) == 1 else []


@cache
def torch_version() -> str:
    """The version of torch; importing it takes seconds, and this process needs it for nothing else."""
    return importlib.metadata.version("torch")


def torch_has_cuda() -> bool:
    """Whether torch is a build for GPUs, by its version."""
    return not torch_version().endswith("+cpu")


def torch_may_know_others() -> bool:
    """Whether torch may have GPUs that NVML does not know: of AMD, Intel or Apple, or of a Jetson."""
    is_other_build = any(name in torch_version() for name in ("+rocm", "+xpu"))
    return is_other_build or sys.platform == "darwin" or Path("/etc/nv_tegra_release").exists()


def check_key(driver: str) -> str:
    """What the result of a check of a GPU depends on: torch, the driver, and the start of the machine."""
    return f"torch {torch_version()}, driver {driver}, boot {_boot()}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


# Asking NVML


@dataclass(frozen=True)
class _Board:
    uuid: str
    gpus: list[GpuReading]
    #: Domain, bus and device; None where they cannot be read.
    place: tuple[int, int, int] | None = None


def _board(index: int) -> _Board:
    """One GPU, or the slices of a divided one."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    except pynvml.NVMLError as error:
        return _Board("", [_unreadable(GpuReading("", ""), error)])
    place = _read(lambda: pynvml.nvmlDeviceGetPciInfo(handle))
    whole = GpuReading(uuid, _text(_read(lambda: pynvml.nvmlDeviceGetName(handle)) or ""))
    if _is_divided(handle):
        slices = list(_slices(handle))
        if not slices:
            whole = replace(whole, problem=Problem.NO_SLICE, explanation=GPU_WITHOUT_SLICES())
        gpus = slices or [whole]
    else:
        gpus = [_measured(whole, handle, handle)]
    return _Board(uuid, gpus, (int(place.domain), int(place.bus), int(place.device)) if place else None)


def _is_divided(handle: object) -> bool:
    mode = _read(lambda: pynvml.nvmlDeviceGetMigMode(handle))  # refused by most GPUs
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _slices(board: object) -> Iterator[GpuReading]:
    for index in range(_read(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(board)) or 0):
        with contextlib.suppress(pynvml.NVMLError):  # numbers without an instance are refused
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(board, index)
            gpu = GpuReading(_text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)))
            yield _measured(gpu, handle, board)


def _measured(gpu: GpuReading, handle: object, board: object) -> GpuReading:
    """The GPU with its readings. The compute mode and the temperature are those of its board."""
    try:
        total, free = _memory(handle)
    except pynvml.NVMLError as error:
        return _unreadable(gpu, error)
    mode = _read(lambda: pynvml.nvmlDeviceGetComputeMode(board))
    if mode == pynvml.NVML_COMPUTEMODE_PROHIBITED:
        gpu = replace(gpu, problem=Problem.PROHIBITED, explanation=GPU_PROHIBITED())
    load = _read(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    temperature = _read(lambda: pynvml.nvmlDeviceGetTemperature(board, pynvml.NVML_TEMPERATURE_GPU))
    return replace(
        gpu,
        memory_bytes=total,
        memory_free_bytes=free,
        load=None if load is None else load / 100,
        temperature_c=None if temperature is None else float(temperature),
        processes=tuple(_processes(handle)),
        is_exclusive=mode in (pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, pynvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD),
    )


def _memory(handle: object) -> tuple[int, int]:
    """Total and free bytes, without what the driver reserves for itself; zeros where they are not known.

    Raises NVMLError where the GPU cannot be read at all.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        return int(memory.total) - int(memory.reserved), int(memory.free)
    except pynvml.NVMLError:  # a driver before 510, or one of the cases below
        pass
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        # Boards whose memory is the machine's, and slices whose memory other users may not see.
        if _code(error) in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION):
            return 0, 0
        raise
    return int(memory.total), int(memory.free)


def _processes(handle: object) -> Iterator[GpuProcess]:
    """Compute and graphics processes; one that is both counts once, as one that computes."""
    computing = _read(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
    drawing = _read(lambda: pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle)) or []
    used: dict[int, int] = {}
    for process in (*computing, *drawing):
        used[process.pid] = max(used.get(process.pid, 0), process.usedGpuMemory or 0)
    pids = {process.pid for process in computing}
    return (GpuProcess(pid, memory_bytes, pid not in pids) for pid, memory_bytes in sorted(used.items()))


def _driver_failed(error: pynvml.NVMLError) -> Message:
    return GPU_DRIVER_FAILED(error=str(error))


def _unreadable(gpu: GpuReading, error: pynvml.NVMLError) -> GpuReading:
    if _code(error) in LOST:
        return replace(gpu, problem=Problem.LOST, explanation=GPU_LOST(error=str(error)))
    return replace(gpu, problem=Problem.UNREADABLE, explanation=GPU_UNREADABLE(error=str(error)))


def _code(error: pynvml.NVMLError) -> int:
    return int(getattr(error, "value", pynvml.NVML_ERROR_UNKNOWN))


def _read(ask: Callable[[], AnyT]) -> AnyT | None:
    try:
        return ask()
    except pynvml.NVMLError:  # not every GPU has every sensor
        return None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
