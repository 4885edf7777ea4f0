"""Measuring the use of the machine beside the loop: GPU, processor, memory, and what steps spend waiting for batches.

A thread takes a point every INTERVAL_S. The loop itself only reads a clock twice in a step. Nothing here touches the
state of the run: random numbers, weights and metrics are the same without it.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pynvml
import torch

from trainingapp.contract.errors import Superseded
from trainingapp.contract.events import EventLog, System
from trainingapp.contract.system_series import INTERVAL_S, of_rank
from trainingapp.engine.device import available_threads
from trainingapp.engine.nvml import gpu_of

if TYPE_CHECKING:
    from torch.distributed import Store

AnyT = TypeVar("AnyT")
#: Memory is recorded in whole units of this size: no one reads more digits, and such numbers are stored in less space.
MEMORY_UNIT = 1 << 20
PROC = Path("/proc")


class StepClock:
    """What the steps so far took. The loop writes it, the monitor's thread reads it.

    On a GPU a step queues its work and goes on: its computing time is then spent where the loop next waits for the
    device. `end_step` is to be called after that.
    """

    def __init__(self) -> None:
        #: Steps, seconds of them spent waiting for batches, seconds spent otherwise. Replaced as a whole.
        self.total = (0, 0.0, 0.0)
        self._began: float | None = None
        self._waited_s = 0.0

    def timed(self, batches: Iterator[AnyT]) -> Iterator[AnyT]:
        """The same batches; the time that each takes to come is noted."""
        while True:
            asked = time.perf_counter()
            if self._began is None:
                self._began = asked
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - asked
            yield batch

    def end_step(self) -> None:
        """To be called once for each step."""
        if self._began is None:
            return
        steps, waited_s, computed_s = self.total
        seconds = time.perf_counter() - self._began
        self.total = (steps + 1, waited_s + self._waited_s, computed_s + seconds - self._waited_s)
        self._began, self._waited_s = None, 0.0


def alone() -> dict[str, float]:
    """What the other ranks of a run have measured that has none."""
    return {}


@contextlib.contextmanager
def monitored(
    events: EventLog,
    device: torch.device,
    interval_s: float = INTERVAL_S,
    others: Callable[[], dict[str, float]] = alone,
) -> Iterator[StepClock]:
    """Write a `System` event every `interval_s` until the block ends; its steps are measured by the clock given.

    `others` gives what the other ranks have measured since the last call.
    """
    clock, over = StepClock(), threading.Event()
    thread = threading.Thread(
        target=_follow, args=(events, device, clock, over, interval_s, others), name="system monitor", daemon=True
    )
    thread.start()
    try:
        yield clock
    finally:
        over.set()
        thread.join()  # the last event of an attempt follows: nothing may be written after it


def _follow(
    events: EventLog,
    device: torch.device,
    clock: StepClock,
    over: threading.Event,
    interval_s: float,
    others: Callable[[], dict[str, float]],
) -> None:
    gpu = gpu_of(device)
    processes, steps = ProcessReader(), clock.total
    while not over.wait(interval_s):
        before, steps = steps, clock.total
        own = {**(read_gpu(gpu) if gpu is not None else {}), **processes.read(), **step_times(before, steps)}
        values = own | others()
        if not values:
            return  # a system of which nothing is known
        try:
            events.write(System(values=values))
        except (OSError, Superseded):  # a full disk, or a run that is another's: the loop meets it too
            return


def report_use(
    store: "Store", rank: int, device: torch.device, *, is_elsewhere: bool, interval_s: float = INTERVAL_S
) -> None:
    """Put what a rank above 0 measures into the store of rank 0 every `interval_s`, in a thread of its own.

    That is its device, and, where it is on another host, what its processes use: rank 0 counts those of its own host.
    The thread ends with the store.
    """
    arguments = (store, rank, device, ProcessReader() if is_elsewhere else None, interval_s)
    threading.Thread(target=_report, args=arguments, name="system monitor", daemon=True).start()


def _report(
    store: "Store", rank: int, device: torch.device, processes: "ProcessReader | None", interval_s: float
) -> None:
    gpu, number = gpu_of(device), 0
    while gpu is not None or processes is not None:
        time.sleep(interval_s)
        values = {**(read_gpu(gpu) if gpu is not None else {}), **(processes.read() if processes is not None else {})}
        number += 1
        try:
            store.set(_use_key(rank), json.dumps({"number": number, "values": values}))
        except RuntimeError:  # rank 0 has ended
            return


class UseOfRanks:
    """Reads what other ranks have put into the store."""

    def __init__(self, store: "Store", ranks: Sequence[int]) -> None:
        self._store, self._ranks = store, ranks
        self._seen: dict[int, int] = {}

    def read(self) -> dict[str, float]:
        """The values of all ranks since the last call, each under its name; nothing of a rank that is silent."""
        found: dict[str, float] = {}
        for rank in self._ranks:
            with contextlib.suppress(RuntimeError):  # the store is about to end
                if self._store.check([_use_key(rank)]):
                    report = json.loads(self._store.get(_use_key(rank)))
                    if report["number"] != self._seen.get(rank):
                        self._seen[rank] = report["number"]
                        found |= of_rank(rank, report["values"])
        return found


def _use_key(rank: int) -> str:
    return f"use/{rank}"


def step_times(before: tuple[int, float, float], after: tuple[int, float, float]) -> dict[str, float]:
    """The mean of the steps between two readings of a clock; nothing where there was none, as in a validation."""
    steps = after[0] - before[0]
    if not steps:
        return {}
    return {
        "loader_wait_s": round((after[1] - before[1]) / steps, 6),
        "compute_s": round((after[2] - before[2]) / steps, 6),
    }


@dataclass(frozen=True)
class Used:
    """What processes use: seconds of processor time by process, and resident memory."""

    moment_s: float
    cpu_s: dict[int, float]
    memory_bytes: int


class ProcessReader:
    """Reads what the trainer and its loader processes use. Without Linux's /proc nothing is known."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._cores = available_threads()
        self._before = self._used()

    def read(self) -> dict[str, float]:
        before, now = self._before, self._used()
        self._before = now
        if before is None or now is None:
            return {}
        # A process that ended meanwhile is left out: what it used is not known any longer.
        cpu_s = sum(max(0.0, used - before.cpu_s.get(pid, 0.0)) for pid, used in now.cpu_s.items())
        share = cpu_s / max(1e-9, now.moment_s - before.moment_s) / self._cores
        return {
            "cpu_utilization": min(1.0, round(share, 3)),
            "process_memory_bytes": _rounded(now.memory_bytes),
            **self._machine_memory(),
        }

    def _used(self) -> Used | None:
        own = os.getpid()
        try:
            # Loader processes are children of the main thread, which makes the batches.
            children = (self._proc / str(own) / "task" / str(own) / "children").read_text().split()
        except OSError:
            children = []  # a kernel without such lists: the trainer alone is counted
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        cpu_s: dict[int, float] = {}
        memory_bytes = 0
        for pid in (own, *map(int, children)):
            with contextlib.suppress(OSError):  # it has ended
                # The name of the program, in parentheses, may hold spaces.
                fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
                memory_bytes += int(fields[21]) * page
                cpu_s[pid] = (int(fields[11]) + int(fields[12])) / ticks
        return Used(time.monotonic(), cpu_s, memory_bytes) if cpu_s else None

    def _machine_memory(self) -> dict[str, float]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
        except OSError:
            return {}
        sizes_kb = {name: int(rest.split()[0]) for name, _colon, rest in (line.partition(":") for line in lines)}
        used_kb = sizes_kb["MemTotal"] - sizes_kb["MemAvailable"]
        return {"machine_memory_bytes": _rounded(used_kb * 1024)}


def _rounded(size: int) -> float:
    return float(round(size / MEMORY_UNIT) * MEMORY_UNIT)


def read_gpu(handle: object) -> dict[str, float]:
    """What a GPU has sensors for: a slice of one (MIG) reports its memory only, a board that shares its memory with the
    processor everything else. Power and temperature of a slice would be those of its whole board."""
    values: dict[str, float] = {}
    with contextlib.suppress(pynvml.NVMLError):
        values["gpu_utilization"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with contextlib.suppress(pynvml.NVMLError):
        values["gpu_memory_bytes"] = _rounded(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    with contextlib.suppress(pynvml.NVMLError):
        values["gpu_power_w"] = round(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    with contextlib.suppress(pynvml.NVMLError):
        values["gpu_temperature_c"] = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    return values
