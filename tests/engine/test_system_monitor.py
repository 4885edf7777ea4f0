"""Measuring the machine beside the loop: what is measured, when it ends, and that no run changes by it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch

from tests.helpers.trainers import (
    HARD,
    assert_same_result,
    events_of,
    train_here,
)
from trainingapp.contract.events import EVENTS_FILE, EventLog, read_events
from trainingapp.contract.system_series import MEASURES
from trainingapp.engine import loop, system_monitor
from trainingapp.engine.system_monitor import MEMORY_UNIT, ProcessReader, StepClock, monitored, step_times

CPU = torch.device("cpu")


def test_a_run_is_the_same_with_measurements_and_ends_after_them(
    straight_run: Path, new_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "monitored", partial(monitored, interval_s=0.01))
    run_dir = new_run(**HARD)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight_run)
    measured = events_of(run_dir, "system")
    assert {name for event in measured for name in event["values"]} <= MEASURES.keys()
    assert any({"loader_wait_s", "compute_s"} <= event["values"].keys() for event in measured)
    assert events_of(run_dir)[-1]["state"] == "completed"


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    events = EventLog(tmp_path / EVENTS_FILE, 1)
    with monitored(events, CPU, interval_s=0.001):
        deadline = time.monotonic() + 20
        while not (tmp_path / EVENTS_FILE).stat().st_size and time.monotonic() < deadline:
            time.sleep(0.01)
    events.close()  # a write to it would fail
    assert not [thread for thread in threading.enumerate() if thread.name == "system monitor"]
    (event, _offset), *_others = read_events(tmp_path / EVENTS_FILE, 0)
    assert event.type == "system"


def test_a_step_is_divided_into_waiting_and_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(system_monitor.time, "perf_counter", lambda: now)

    def loader() -> Iterator[int]:
        nonlocal now
        for batch in range(4):
            now += 2.0
            yield batch

    clock = StepClock()
    batches = clock.timed(loader())
    for accumulated in (1, 3):
        for _ in range(accumulated):
            next(batches)
            now += 0.5
        clock.end_step()
        now += 100.0  # what is between two steps belongs to neither
    assert clock.total == (2, 8.0, 2.0)
    assert step_times((0, 0.0, 0.0), clock.total) == {"loader_wait_s": 4.0, "compute_s": 1.0}
    assert step_times(clock.total, clock.total) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loader_processes_count() -> None:
    reader = ProcessReader()
    alone = reader.read()["process_memory_bytes"]
    code = "held = bytearray(100 << 20); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        together = reader.read()
        child.communicate(b"\n")
    assert together["process_memory_bytes"] - alone > 90 * MEMORY_UNIT
    assert together["machine_memory_bytes"] > 100 * MEMORY_UNIT
    assert 0 <= together["cpu_utilization"] <= 1


def test_what_a_machine_does_not_have_is_absent(tmp_path: Path) -> None:
    assert ProcessReader(proc=tmp_path).read() == {}
    assert system_monitor.gpu_of(CPU) is None


def test_a_gpu_reports_what_it_has_sensors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a part of a GPU (MIG): it knows its memory only."""

    def refuse(_handle: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _handle: SimpleNamespace(used=3 << 30))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", refuse)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", refuse)
    assert system_monitor.read_gpu(object()) == {"gpu_memory_bytes": float(3 << 30)}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda _handle: SimpleNamespace(gpu=87))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda _handle: 412_345)
    found = system_monitor.read_gpu(object())
    assert (found["gpu_utilization"], found["gpu_power_w"]) == (0.87, 412)
