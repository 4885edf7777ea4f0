"""A stand-in for NVML, the library of the NVIDIA driver, which cannot run without a GPU.

It replaces the functions of `pynvml` that the studio calls; what the studio makes of their answers is real. CASES are
the shapes that such answers have on machines that people use: which call answers what, and which is refused with which
error. The healthy one was recorded from an H200; the others change in it what the manuals of NVML and MIG describe.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

GB = 1 << 30
#: What the driver keeps of the memory of an H200 for itself, and all of it, as recorded from one (driver 580.159.04).
RESERVED = 644_939_776
H200_BYTES = 150_754_820_096


def error(code: int) -> pynvml.NVMLError:
    return pynvml.NVMLError(code)


@dataclass
class Process:
    pid: int
    #: None where the driver does not know it, as on Windows and for shared memory.
    memory_bytes: int | None = GB


@dataclass
class Slice:
    """An instance of a divided GPU."""

    uuid: str
    name: str = "NVIDIA H200 MIG 1g.18gb"
    memory_gb: float = 16
    used_gb: float = 0
    compute: list[Process] = field(default_factory=list)


@dataclass
class Gpu:
    """One GPU. `refused` maps names of calls to the error with which the driver refuses them."""

    uuid: str
    name: str = "NVIDIA H200"
    bus: int = 0
    memory_gb: float = H200_BYTES / GB
    used_gb: float = 0
    utilization: int = 0
    temperature_c: int = 30
    power_mw: int = 75_000
    compute_mode: int = pynvml.NVML_COMPUTEMODE_DEFAULT
    compute: list[Process] = field(default_factory=list)
    graphics: list[Process] = field(default_factory=list)
    #: None: it cannot be divided.
    slices: list[Slice] | None = None
    refused: dict[str, int] = field(default_factory=dict)


#: Each call on a GPU that fell off the bus, also that for its handle.
ALL_CALLS = "*"


@dataclass
class Nvml:
    """A machine. `init_error`: the driver cannot be asked at all. `missing`: calls that its version does not have."""

    gpus: list[Gpu] = field(default_factory=list)
    driver: str = "580.159.04"
    init_error: int | None = None
    missing: frozenset[str] = frozenset()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Nvml":
        """Replace the calls until the end of the test."""
        calls: dict[str, Callable[..., Any]] = {
            "nvmlInit": self._init,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: self.driver,
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": self._by_index,
            "nvmlDeviceGetHandleByUUID": self._by_uuid,
            "nvmlDeviceGetMigDeviceHandleByIndex": self._slice,
        }
        for name in ANSWERS:
            calls[name] = self._call(name)
        calls |= dict.fromkeys(self.missing & calls.keys(), self._missing)
        for name, call in calls.items():
            monkeypatch.setattr(pynvml, name, call)
        return self

    def _init(self) -> None:
        if self.init_error is not None:
            raise error(self.init_error)

    def _missing(self, *_arguments: object, **_options: object) -> None:
        raise error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    def _by_index(self, index: int) -> Gpu:
        _refuse(self.gpus[index], "nvmlDeviceGetHandleByIndex")
        return self.gpus[index]

    def _by_uuid(self, uuid: str) -> Gpu | Slice:
        for gpu in self.gpus:
            for each in (gpu, *(gpu.slices or [])):
                if each.uuid == uuid:
                    return each
        raise error(pynvml.NVML_ERROR_NOT_FOUND)

    def _slice(self, gpu: Gpu, index: int) -> Slice:
        if gpu.slices is None or index >= len(gpu.slices):
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu.slices[index]

    def _call(self, name: str) -> Callable[..., Any]:
        def call(handle: Gpu | Slice, *arguments: object, **options: object) -> Any:
            if isinstance(handle, Gpu):
                _refuse(handle, name)
            if options.get("version") and f"{name}_v2" in self.missing:
                self._missing()
            return ANSWERS[name](handle, *arguments, **options)

        return call


def _refuse(gpu: Gpu, name: str) -> None:
    code = gpu.refused.get(name, gpu.refused.get(ALL_CALLS))
    if code is not None:
        raise error(code)


def _only_boards(answer: Callable[[Gpu], Any]) -> Callable[..., Any]:
    """A call that the driver refuses for slices."""

    def call(handle: Gpu | Slice, *_arguments: object) -> Any:
        if isinstance(handle, Slice):
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return answer(handle)

    return call


def _memory(handle: Gpu | Slice, version: int | None = None) -> SimpleNamespace:
    """The first version counts what the driver keeps for itself as used, the second one separately."""
    total, used = round(handle.memory_gb * GB), round(handle.used_gb * GB)
    free = total - RESERVED - used
    if version is None:
        return SimpleNamespace(total=total, used=used + RESERVED, free=free)
    return SimpleNamespace(total=total, used=used, free=free, reserved=RESERVED)


def _processes(processes: list[Process]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=process.pid, usedGpuMemory=process.memory_bytes) for process in processes]


def _mig_mode(gpu: Gpu) -> list[int]:
    if gpu.slices is None:
        raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]


ANSWERS: dict[str, Callable[..., Any]] = {
    "nvmlDeviceGetUUID": lambda handle: handle.uuid,
    "nvmlDeviceGetName": lambda handle: handle.name,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetComputeRunningProcesses": lambda handle: _processes(handle.compute),
    "nvmlDeviceGetGraphicsRunningProcesses": _only_boards(lambda gpu: _processes(gpu.graphics)),
    "nvmlDeviceGetUtilizationRates": _only_boards(lambda gpu: SimpleNamespace(gpu=gpu.utilization, memory=0)),
    "nvmlDeviceGetTemperature": _only_boards(lambda gpu: gpu.temperature_c),
    "nvmlDeviceGetPowerUsage": _only_boards(lambda gpu: gpu.power_mw),
    "nvmlDeviceGetComputeMode": _only_boards(lambda gpu: gpu.compute_mode),
    "nvmlDeviceGetPciInfo": _only_boards(lambda gpu: SimpleNamespace(domain=0, bus=gpu.bus, device=0)),
    "nvmlDeviceGetMigMode": _only_boards(_mig_mode),
    "nvmlDeviceGetMaxMigDeviceCount": _only_boards(lambda gpu: 7 if gpu.slices is not None else 0),
}


def uuid(number: int, kind: str = "GPU") -> str:
    return f"{kind}-{number:08x}-1111-2222-3333-444444444444"


def healthy(count: int = 2) -> Nvml:
    return Nvml([Gpu(uuid(number), bus=0x1B + number) for number in range(count)])


def lost() -> Nvml:
    """Of three GPUs the second fell off the bus: it is counted, and each call about it is refused ("GPU is lost")."""
    machine = healthy(3)
    machine.gpus[1].refused = {ALL_CALLS: pynvml.NVML_ERROR_GPU_IS_LOST}
    return machine


def divided() -> Nvml:
    """MIG, as described in the NVIDIA MIG user guide: a whole GPU, one of two slices, and one without any.

    A divided GPU refuses utilization, and its slices everything but their names, memory and processes.
    """
    machine = healthy(3)
    machine.gpus[1].slices = [Slice(uuid(0xA0, "MIG")), Slice(uuid(0xA1, "MIG"), "NVIDIA H200 MIG 3g.71gb", 69)]
    machine.gpus[2].slices = []
    for gpu in machine.gpus[1:]:
        gpu.refused = {"nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED}
    return machine


def without_memory_info() -> Nvml:
    """A board that shares the machine's memory, such as GB10 or Jetson: NVML_ERROR_NOT_SUPPORTED for memory."""
    gpu = Gpu(uuid(0), "NVIDIA GB10", compute=[], graphics=[])
    gpu.refused = {"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}
    return Nvml([gpu])


def display(memory_gb: float = 24, desktop_gb: float = 4) -> Nvml:
    """A workstation whose only GPU draws the desktop."""
    desktop = [Process(1811, round(desktop_gb * GB * 0.75)), Process(2204, round(desktop_gb * GB * 0.25))]
    return Nvml([Gpu(uuid(0), "NVIDIA GeForce RTX 4090", memory_gb=memory_gb, used_gb=desktop_gb, graphics=desktop)])


def old_driver() -> Nvml:
    """Driver 470: without the second version of memory, and without the calls for processes that pynvml uses."""
    machine = healthy(1)
    machine.driver = "470.256.02"
    machine.gpus[0].name = "NVIDIA TITAN X (Pascal)"
    machine.missing = frozenset(
        {
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetGraphicsRunningProcesses",
        }
    )
    return machine


def container(used_gb: float = 60) -> Nvml:
    """Seen from a container: memory is in use, and the processes that use it are in another namespace."""
    machine = healthy(1)
    machine.gpus[0].used_gb = used_gb
    return machine


def exclusive(pid: int = 4711) -> Nvml:
    """Exclusive-process mode; another program has the GPU."""
    machine = healthy(1)
    machine.gpus[0].compute_mode = pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    machine.gpus[0].used_gb = 0.5
    machine.gpus[0].compute = [Process(pid, GB // 2)]
    return machine


def mismatch() -> Nvml:
    """The driver was updated, and the machine not restarted ("Driver/library version mismatch")."""
    return Nvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)


#: Every shape by its name.
CASES: dict[str, Callable[[], Nvml]] = {
    "healthy": healthy,
    "lost": lost,
    "divided": divided,
    "without_memory_info": without_memory_info,
    "display": display,
    "old_driver": old_driver,
    "container": container,
    "exclusive": exclusive,
    "mismatch": mismatch,
}
