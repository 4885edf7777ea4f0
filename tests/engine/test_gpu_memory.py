"""Memory of GPUs: which one is chosen, what a run uses, and the part that it may use.

torch and the driver are replaced where they would have to ask a GPU: the machine of the tests need not have one.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from trainingapp.contract.config import parse_config
from trainingapp.engine import memory, nvml, stored_tensors
from trainingapp.engine.device import choose_device
from trainingapp.engine.memory import MemoryBefore, limit_to_share, memory_before, own_share, peak_bytes

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
GB = 1_000_000_000


class Driver:
    """GPUs with this free memory in bytes, None where the driver does not know it; and torch's allocator on them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *free: int | None) -> None:
        self.free, self.current, self.contexts, self.fractions = list(free), 0, set[int](), list[float]()
        self.processes: list[Any] = []
        self.reserved, self.peak_reserved = 0, 0
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: int(name.removeprefix("GPU-")))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", self.memory_info)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: self.processes)
        for name, value in {
            "is_available": lambda: bool(free),
            "device_count": lambda: len(free),
            "get_device_properties": self.properties,
            "set_device": self.enter,
            "mem_get_info": self.mem_get_info,
            "synchronize": lambda device=None: None,
            "memory_reserved": lambda device=None: self.reserved,
            "max_memory_reserved": lambda device=None: self.peak_reserved,
            "set_per_process_memory_fraction": lambda fraction, device=None: self.fractions.append(fraction),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def memory_info(self, handle: int) -> Any:
        free = self.free[handle]
        if free is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(free=free, used=80 * GB - free)

    def properties(self, device: torch.device | int) -> Any:
        number = device if isinstance(device, int) else device.index
        return SimpleNamespace(uuid=number, total_memory=80 * GB)

    def enter(self, device: torch.device) -> None:
        self.contexts.add(device.index)

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        self.contexts.add(device.index)
        return 70 * GB, 80 * GB


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("free", "number"),
    [((10, 30, 20), 1), ((30, 10, 20), 0), ((None, 5, 1), 1), ((None, None), 0), ((7,), 0)],
)
def test_the_gpu_with_the_most_free_memory_is_chosen_without_a_context_on_others(
    monkeypatch: pytest.MonkeyPatch, name: str, free: tuple[int | None, ...], number: int
) -> None:
    driver = Driver(monkeypatch, *free)
    assert choose_device(name) == torch.device("cuda", number)
    assert driver.contexts == {number}


def test_a_number_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, 1, 2, 3)
    assert choose_device("cuda:0") == torch.device("cuda", 0)


def test_what_the_driver_reports_for_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, 70 * GB)
    before = memory_before(GPU)
    assert (before.kind, before.free_bytes, driver.contexts) == ("gpu", 70 * GB, set())
    driver.free[0], driver.reserved, driver.peak_reserved = 40 * GB, 5 * GB, 6 * GB
    others = SimpleNamespace(pid=1, usedGpuMemory=20 * GB)
    driver.processes = [others, SimpleNamespace(pid=os.getpid(), usedGpuMemory=7 * GB)]
    assert peak_bytes(before) == 8 * GB, "what it holds outside of the allocator, 2 GB, and the peak of that"


def test_else_the_difference_of_the_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the driver reports processes by numbers of the host, and sometimes no sizes."""
    driver = Driver(monkeypatch, 70 * GB)
    before = memory_before(GPU)
    driver.free[0], driver.reserved, driver.peak_reserved = 67 * GB, 2 * GB, 2 * GB
    driver.processes = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)]
    assert peak_bytes(before) == 3 * GB


def test_else_what_torch_has_reserved_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, None)
    before = memory_before(GPU)
    assert (before.free_bytes, before.used_bytes) == (70 * GB, None)
    driver.reserved, driver.peak_reserved = 1 * GB, 2 * GB
    assert peak_bytes(before) == 2 * GB


def test_memory_that_others_free_meanwhile_is_not_counted_against_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, 10 * GB)
    before = memory_before(GPU)
    driver.free[0], driver.reserved, driver.peak_reserved = 60 * GB, 2 * GB, 3 * GB
    assert peak_bytes(before) == 3 * GB


@pytest.mark.parametrize(
    ("config", "fractions"),
    [
        ({"share_device": True, "min_free_memory_gb": 8.6}, [0.1]),
        ({"share_device": True, "min_free_memory_gb": 0.8}, [0.005]),
        ({"share_device": True, "min_free_memory_gb": 4000}, [1.0]),
        ({"min_free_memory_gb": 8}, []),
        ({}, []),
    ],
)
def test_a_run_that_shares_its_gpu_is_limited_to_its_part(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], fractions: list[float]
) -> None:
    driver = Driver(monkeypatch, 70 * GB)
    limit_to_share(GPU, parse_config(config))
    limit_to_share(CPU, parse_config(config))
    assert driver.fractions == pytest.approx(fractions)


def test_a_job_leaves_a_part_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, 40 * GB)
    with own_share(memory_before(GPU)):
        assert driver.fractions == [pytest.approx(0.45)]
    assert driver.fractions[1:] == [1.0]
    with own_share(MemoryBefore(CPU, 1)):
        assert len(driver.fractions) == 2


def test_the_driver_may_know_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, 1)

    def fail(*arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert (nvml.free_bytes(GPU), nvml.used_bytes(GPU), nvml.own_bytes(GPU)) == (None, None, None)
    assert nvml.gpu_of(CPU) is None


def test_on_a_cpu_the_memory_of_the_process_counts() -> None:
    before = memory_before(CPU)
    assert (before.kind, before.used_bytes) == ("process", None)
    assert 10**7 < peak_bytes(before) < 10**12
    assert memory.free_bytes(CPU) > 0


ALLOCATOR = """
import os, sys
from trainingapp.engine.__main__ import main
main(["--export-checkpoint", "missing", "--to", "out.pt"])
print(os.environ.get("PYTORCH_ALLOC_CONF"))
"""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, "backend:native"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, "None"),
    ],
)
def test_trainers_let_segments_grow_unless_the_user_decides(tmp_path: Path, given: dict[str, str], taken: str) -> None:
    plain = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    command = [sys.executable, "-c", ALLOCATOR]
    done = subprocess.run(command, env={**plain, **given}, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split()[-1] == taken


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can lock pages for its GPU")
def test_checkpoints_take_ordinary_memory_where_no_pages_can_be_locked(caplog: pytest.LogCaptureFixture) -> None:
    """Without a GPU torch really refuses."""
    buffer = stored_tensors._page_locked(1000)
    buffer.fill_(7)
    assert (len(buffer), int(buffer.sum())) == (1000, 7000)
    assert "ordinary memory" in caplog.text
