"""What each worker stores about its machine: the rows of its host and of its devices."""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

import psutil
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from trainingapp.models import Device, Host, TrainingRun
from trainingapp.scheduling.gpus import GpuReading, driver_version, read_gpus, visible_gpus
from trainingapp.scheduling.placement import open_holds

#: Seconds between two readings; well below the lease after which a host counts as away.
REFRESH_S = 4.0
#: Readings that differ by less are not stored.
SAME_LOAD, SAME_TEMPERATURE_C = 0.02, 1.0
SAME_MEMORY_BYTES = 1 << 26
#: Days after which a silent machine is removed, with its devices.
KEPT_DAYS = 7

_due_at = 0.0


class ForeignProcess(TypedDict):
    """A process that uses a GPU and is none of the studio's."""

    pid: int
    name: str
    memory_bytes: int


class DeviceReading(TypedDict):
    """The columns of a `Device`."""

    kind: Device.Kind
    index: int
    name: str
    uuid: NotRequired[str]
    memory_bytes: int
    memory_free_bytes: int
    load: float | None
    temperature_c: NotRequired[float | None]
    foreign: NotRequired[list[ForeignProcess]]
    is_present: bool


def keep_fresh(host: str, worker: str) -> None:
    """Read the machine again when the last reading is REFRESH_S old."""
    global _due_at
    if time.monotonic() >= _due_at:
        _due_at = time.monotonic() + REFRESH_S
        refresh(host, worker)


def ensure_host(host: str, worker: str) -> None:
    """Store the host where it has no row yet: a claim may come before the first regular reading."""
    if not Host.objects.filter(name=host).exists():
        refresh(host, worker)


def refresh(host: str, worker: str, gpus: Sequence[GpuReading] | None = None) -> Host:
    """Read this machine and write its rows. Devices that are gone stay, marked as not present."""
    gpus = visible_gpus(read_gpus()) if gpus is None else gpus
    load = psutil.cpu_percent() / 100  # once: it measures since the call before
    read = [_processor(load), *(_gpu(index, gpu, _ours(host)) for index, gpu in enumerate(gpus))]
    with transaction.atomic():
        row, _created = Host.objects.update_or_create(name=host, defaults=_machine(worker, load))
        known = {(device.kind, device.index): device for device in row.devices.all()}
        for fields in read:
            device = known.pop((fields["kind"], fields["index"]), None)
            if device is None:
                Device.objects.create(host=row, **fields)
            elif any(differs(name, getattr(device, name), value) for name, value in fields.items()):
                for name, value in fields.items():
                    setattr(device, name, value)
                device.save(update_fields=list(fields))
        gone = [device.pk for device in known.values() if device.is_present]
        if gone:
            Device.objects.filter(pk__in=gone).update(is_present=False)
    return row


def forget_gone() -> None:
    """Remove machines that have been silent for KEPT_DAYS: a container has a new name each time it is created."""
    silent_since = timezone.now() - timedelta(days=KEPT_DAYS)
    busy = open_holds().values("device__host_id")
    Host.objects.filter(seen_at__lt=silent_since).exclude(pk__in=busy).delete()


def differs(name: str, old: object, new: object) -> bool:
    """Whether the reading is worth a write: a change of the load by 1 % is not."""
    tolerance = {"load": SAME_LOAD, "temperature_c": SAME_TEMPERATURE_C, "memory_free_bytes": SAME_MEMORY_BYTES}
    if name in tolerance and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) >= tolerance[name]
    return old != new


def _machine(worker: str, load: float) -> dict[str, object]:
    memory, folder = psutil.virtual_memory(), Path(settings.RUNS_DIR)
    while not folder.exists():  # before the first run
        folder = folder.parent
    return {
        "worker": worker,
        "slots": settings.MAX_TRAINING_PROCESSES,
        "cpu_cores": _cores(),
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
        "disk_free_bytes": psutil.disk_usage(str(folder)).free,
        "load": load,
        "versions": _versions(),
        "started_at": datetime.fromtimestamp(psutil.Process().create_time(), UTC),
        "seen_at": timezone.now(),
    }


def _processor(load: float) -> DeviceReading:
    memory = psutil.virtual_memory()
    return {
        "kind": Device.Kind.CPU,
        "index": 0,
        "name": _processor_name(),
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
        "load": load,
        "is_present": True,
    }


def _gpu(index: int, gpu: GpuReading, ours: set[int]) -> DeviceReading:
    return {
        "kind": Device.Kind.GPU,
        "index": index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory_bytes": gpu.memory_bytes,
        "memory_free_bytes": gpu.memory_free_bytes,
        "load": gpu.load,
        "temperature_c": gpu.temperature_c,
        "foreign": [
            {"pid": process.pid, "name": _process_name(process.pid), "memory_bytes": process.memory_bytes}
            for process in gpu.processes
            if process.pid not in ours
        ],
        "is_present": True,
    }


def _ours(host: str) -> set[int]:
    """Processes of the studio on this machine: this one, its descendants, and the trainers of its other workers."""
    own = psutil.Process()
    below = {process.pid for process in (own, *own.children(recursive=True))}
    running = TrainingRun.objects.filter(status=TrainingRun.Status.RUNNING, host=host, pid__isnull=False)
    return below | {pid for pid in running.values_list("pid", flat=True) if pid is not None}


def _process_name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:  # it has ended, or runs outside this container
        return ""


@cache
def _cores() -> int:
    return len(psutil.Process().cpu_affinity() or []) or psutil.cpu_count() or 1


@cache
def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor() or platform.machine())[:200]


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    driver = driver_version()
    return {**found, "driver": driver} if driver else found
