"""What a worker records about its host.

NVML cannot run here, so the readings of GPUs are made up (tests/helpers/machines.py); what is done with them is real,
as are all readings of the processor, the memory and the disk. test_gpu_readings.py reads a stand-in for NVML.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.utils import timezone

from tests.helpers.machines import gpu, hold, machine
from trainingapp.models import Device, Host, TrainingRun
from trainingapp.scheduling import inventory
from trainingapp.scheduling.gpus import DriverReading, GpuReading, read_driver, visible_gpus
from trainingapp.scheduling.placement import GB, read_cluster
from trainingapp.supervision import short_stay, shutting_down

MAKE = Callable[..., TrainingRun]


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a torch for CUDA, whichever one is installed here."""
    monkeypatch.setattr(inventory, "torch_has_cuda", lambda: True)


def refresh(*gpus: GpuReading) -> Host:
    return inventory.refresh("here", "here:1:2", DriverReading(list(gpus)))


@pytest.mark.django_db
def test_the_host_is_inspected(settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 3
    host = refresh()
    memory = psutil.virtual_memory()
    assert (host.name, host.worker, host.slots, host.is_away) == ("here", "here:1:2", 3, False)
    assert host.memory_bytes == memory.total
    assert 0 < host.memory_free_bytes <= memory.total
    assert 1 <= host.cpu_cores <= (os.cpu_count() or 1)
    assert host.disk_free_bytes > 0
    assert {"python", "torch"} <= set(host.versions)
    device = host.devices.get()
    assert (device.kind, device.torch_name, device.memory_bytes) == ("cpu", "cpu", memory.total)
    assert device.name
    assert read_cluster().machines[0].devices[0].capacity == 3


@pytest.mark.django_db
def test_gpus_have_readings() -> None:
    refresh(gpu(0), gpu(1, memory_gb=80, used_gb=30))
    second = Device.objects.get(kind="gpu", index=1)
    assert (second.torch_name, second.uuid, second.memory_bytes) == ("cuda:1", "GPU-0001", 80 * GB)
    assert (second.memory_free_bytes, second.load, second.temperature_c) == (50 * GB, 0.5, 60.0)
    assert Device.objects.count() == 3


@pytest.mark.django_db
def test_a_gpu_that_disappears_is_marked_and_recognized_when_it_returns() -> None:
    refresh(gpu(0), gpu(1))
    number = Device.objects.get(kind="gpu", index=1).pk
    refresh(gpu(0))
    assert not Device.objects.get(pk=number).is_present
    devices = read_cluster().machines[0].devices
    assert [device.torch_name for device in devices if device.is_present] == ["cpu", "cuda:0"]
    refresh(gpu(0), gpu(1))
    assert Device.objects.get(pk=number).is_present
    assert Device.objects.count() == 3


@pytest.mark.django_db
def test_our_own_processes_are_not_foreign(make: MAKE) -> None:
    """Below this one, or the trainer of a run of this host; all others are, with what they take."""
    make("running", host="here", pid=424_242)
    make("running", host="elsewhere", pid=424_243)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mine = {os.getpid(): 1, child.pid: 1, 424_242: 1}
        refresh(gpu(0, processes={**mine, 1: 2, 424_243: 3}))
        child.communicate(b"\n")
    foreign = Device.objects.get(kind="gpu").foreign
    assert [(process["pid"], process["memory_bytes"]) for process in foreign] == [(1, 2 * GB), (424_243, 3 * GB)]
    assert [process["name"] for process in foreign] == [psutil.Process(1).name(), ""]


@pytest.mark.django_db
def test_only_changes_are_written() -> None:
    refresh(gpu(0, used_gb=4))

    assert not inventory.differs("memory_free_bytes", 20 * GB, 20 * GB + 1000)
    assert inventory.differs("memory_free_bytes", 20 * GB, 19 * GB)
    assert not inventory.differs("load", 0.5, 0.51)
    assert inventory.differs("load", 0.5, 0.9)
    assert inventory.differs("load", None, 0.9)
    assert inventory.differs("foreign", [], [{"pid": 1}])


@pytest.mark.django_db
def test_a_silent_host_is_absent_until_its_next_reading(settings: Any) -> None:
    host = refresh()
    silence = timedelta(seconds=settings.HEARTBEAT_LEASE_S + 1)
    Host.objects.update(seen_at=timezone.now() - silence)
    host.refresh_from_db()
    assert host.is_away
    assert not read_cluster().alive
    assert not refresh().is_away


@pytest.mark.django_db
def test_an_absent_host_is_removed_unless_a_run_is_on_it(make: MAKE) -> None:
    week = timezone.now() - timedelta(days=inventory.KEPT_DAYS, hours=1)
    for name in ("gone", "busy", "here"):
        machine(name)
    hold(make("running"), Device.objects.get(host__name="busy"))
    Host.objects.exclude(name="here").update(seen_at=week)
    inventory.forget_gone()
    assert set(Host.objects.values_list("name", flat=True)) == {"busy", "here"}


@pytest.mark.django_db
def test_a_temporary_host_is_removed_after_a_day_unless_a_run_is_on_it(make: MAKE) -> None:
    day = timezone.now() - timedelta(days=inventory.TEMPORARY_KEPT_DAYS, hours=1)
    for name in ("lent", "lent and busy", "owned"):
        machine(name, state="left", is_temporary=name != "owned")
    hold(make("running"), Device.objects.get(host__name="lent and busy"))
    Host.objects.update(seen_at=day)
    inventory.forget_gone()
    assert set(Host.objects.values_list("name", flat=True)) == {"lent and busy", "owned"}


@pytest.mark.django_db
def test_a_worker_is_leaving_then_has_left_and_is_back_with_its_next_reading() -> None:
    assert refresh().takes_work
    inventory.note_leaving("here", "here:1:2")
    host = Host.objects.get()
    assert (host.is_leaving, host.takes_work, host.is_away, host.has_left) == (True, False, False, False)
    inventory.note_left("here", "here:1:2")
    host = Host.objects.get()
    assert (host.is_leaving, host.takes_work, host.is_away, host.has_left) == (False, False, True, True)
    assert not read_cluster().alive
    assert refresh().takes_work


@pytest.mark.django_db
def test_a_leaving_worker_that_reports_no_more_is_away() -> None:
    machine(away=True, state="leaving")
    host = Host.objects.get()
    assert (host.is_away, host.is_leaving, host.has_left) == (True, False, False)


@pytest.mark.django_db
def test_a_host_with_another_worker_is_not_leaving() -> None:
    refresh()
    inventory.note_leaving("here", "here:7:8")
    inventory.note_left("here", "here:7:8")
    assert Host.objects.get().takes_work


@pytest.mark.django_db
def test_a_reading_tells_of_a_worker_that_is_stopped_or_temporary() -> None:
    short_stay.set()
    shutting_down.set()
    try:
        host = refresh()
    finally:
        short_stay.clear()
        shutting_down.clear()
    assert (host.state, host.is_temporary) == ("leaving", True)
    host = refresh()
    assert (host.state, host.is_temporary) == ("working", False)


@pytest.mark.django_db
def test_readings_are_rate_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_due_at", 0.0)
    inventory.keep_fresh("here", "here:1:2")
    first = Host.objects.get().seen_at
    inventory.keep_fresh("here", "here:1:2")
    assert Host.objects.get().seen_at == first
    monkeypatch.setattr(inventory, "_due_at", 0.0)
    inventory.keep_fresh("here", "here:1:2")
    assert first is not None
    assert Host.objects.get().seen_at > first


def test_without_a_driver_no_gpus_and_no_warnings_appear(capfd: pytest.CaptureFixture[str]) -> None:
    if psutil.LINUX and os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        pytest.skip("this machine has a GPU")
    assert read_driver().gpus == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("variable", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0, 2", [0, 2]),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("GPU-0002,0", [2, 0]),
        ("GPU-00", []),
        ("MIG-4711", []),
        ("GPU-0001", [1]),
    ],
)
def test_gpus_are_those_that_torch_can_see(
    variable: str | None, indices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA reads its variable: in its order, up to the first name that is unknown or ambiguous."""
    gpus = [gpu(index) for index in range(3)]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert [found.uuid for found in visible_gpus(gpus)] == [f"GPU-{index:04}" for index in indices]
