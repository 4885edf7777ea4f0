"""Measuring the machine beside the loop: what is measured, when it ends, and that no run changes by it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import HashStore

from tests.helpers import nvml
from tests.helpers.studio import wait_for
from tests.helpers.trainers import (
    HARD,
    assert_same_result,
    events_of,
    train_here,
)
from trainingapp.contract.events import EVENTS_FILE, EventLog, read_events
from trainingapp.contract.system_series import MEASURES, measure_and_rank
from trainingapp.engine import loop, system_monitor
from trainingapp.engine.system_monitor import (
    MEMORY_UNIT,
    ProcessReader,
    StepClock,
    UseOfRanks,
    monitored,
    report_use,
    step_times,
)

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


@pytest.mark.parametrize(
    ("case", "number", "measured"),
    [
        ("healthy", 0, {"gpu_utilization", "gpu_memory_bytes", "gpu_power_w", "gpu_temperature_c"}),
        ("without_memory_info", 0, {"gpu_utilization", "gpu_power_w", "gpu_temperature_c"}),
        ("lost", 1, set()),
    ],
)
def test_a_gpu_reports_what_it_has_sensors_for(
    case: str, number: int, measured: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is a stand-in (helpers/nvml.py)."""
    machine = nvml.CASES[case]().install(monkeypatch)
    assert system_monitor.read_gpu(machine.gpus[number]).keys() == measured


def test_a_slice_of_a_gpu_reports_its_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.divided().install(monkeypatch)
    slices = machine.gpus[1].slices
    assert slices is not None
    assert system_monitor.read_gpu(slices[0]).keys() == {"gpu_memory_bytes"}


def test_measures_of_a_gpu_have_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = nvml.healthy(1).install(monkeypatch)
    machine.gpus[0].utilization, machine.gpus[0].power_mw, machine.gpus[0].temperature_c = 87, 412_345, 61
    machine.gpus[0].used_gb = 3
    found = system_monitor.read_gpu(machine.gpus[0])
    assert (found["gpu_utilization"], found["gpu_power_w"], found["gpu_temperature_c"]) == (0.87, 412, 61)
    assert found["gpu_memory_bytes"] == round((3 * nvml.GB + nvml.RESERVED) / MEMORY_UNIT) * MEMORY_UNIT


def test_what_other_ranks_measure_stands_beside_the_values_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The driver is a stand-in: rank 1 has the second GPU of this host, rank 2 one of another host."""
    machine = nvml.healthy(3).install(monkeypatch)
    for number, gpu in enumerate(machine.gpus):
        gpu.power_mw = 100_000 * (number + 1)
    monkeypatch.setattr(system_monitor, "gpu_of", lambda device: machine.gpus[device.index])
    store = HashStore()
    others = UseOfRanks(store, [1, 2, 3])
    assert others.read() == {}
    for rank in (1, 2):
        report_use(store, rank, torch.device("cuda", rank), is_elsewhere=rank == 2, interval_s=0.001)
    events = EventLog(tmp_path / EVENTS_FILE, 1)
    with monitored(events, torch.device("cuda", 0), interval_s=0.01, others=others.read):
        values = wait_for(lambda: _values_with(tmp_path / EVENTS_FILE, "gpu_power_w.1", "gpu_power_w.2"))
    events.close()
    assert [values[name] for name in ("gpu_power_w", "gpu_power_w.1", "gpu_power_w.2")] == [100, 200, 300]
    assert "cpu_utilization.2" in values
    assert "cpu_utilization.1" not in values, "the first rank counts the processes of its host"
    assert {measure_and_rank(name) for name in values} >= {("gpu_power_w", 0), ("gpu_power_w", 2)}


def _values_with(path: Path, *names: str) -> dict[str, float]:
    found = [event.values for event, _offset in read_events(path, 0) if event.type == "system"]
    return next((values for values in found if values.keys() >= set(names)), {})


def test_a_rank_that_is_silent_is_shown_no_longer() -> None:
    store = HashStore()
    others = UseOfRanks(store, [1])
    store.set("use/1", '{"number": 1, "values": {"gpu_power_w": 50}}')
    assert others.read() == {"gpu_power_w.1": 50}
    assert others.read() == {}
    store.set("use/1", '{"number": 2, "values": {"gpu_power_w": 60}}')
    assert others.read() == {"gpu_power_w.1": 60}


def test_the_handle_of_a_gpu_is_found_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives UUIDs without the prefix that the driver gives GPUs, and another one slices."""
    machine = nvml.divided().install(monkeypatch)
    assert machine.gpus[1].slices is not None
    for expected in (machine.gpus[0], machine.gpus[1].slices[0]):
        properties = SimpleNamespace(uuid=expected.uuid[4:])
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device, found=properties: found)
        assert system_monitor.gpu_of(torch.device("cuda", 0)) is expected
