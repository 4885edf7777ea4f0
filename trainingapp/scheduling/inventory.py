"""What each worker stores about its machine: the rows of its host and of its devices."""

import contextlib
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypedDict

import psutil
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.devices import GPU_CPU_BUILD, GPU_UNCHECKED
from trainingapp.models import Dataset, Device, Host, RunShare, TrainingRun
from trainingapp.scheduling.gpus import DriverReading, GpuReading, check_key, torch_has_cuda, torch_version
from trainingapp.scheduling.placement import held_by_jobs, open_holds
from trainingapp.supervision.device_checks import read_gpus
from trainingapp.supervision.identity import cluster_address, data_dir_id, runs_dir_id, worker_id
from trainingapp.supervision.state import short_stay, shutting_down

#: Seconds between two readings; well below the lease after which a host counts as away.
REFRESH_S = 4.0
#: Readings that differ by less are not stored.
SAME_LOAD, SAME_TEMPERATURE_C = 0.02, 1.0
SAME_MEMORY_BYTES = 1 << 26
#: Share of a GPU's memory that may be in use without a process that uses it: an old driver counts its own part so.
HIDDEN_SHARE = 0.05
#: Days after which a silent machine is removed, with its devices.
KEPT_DAYS = 7
#: The same for machines whose worker was there for a while only: for as long as the timeline shows their runs.
TEMPORARY_KEPT_DAYS = 1
#: Rows whose directory is stored in one query.
ADOPTED = 500
#: How exactly it is stored when a GPU could last be used.
USABLE_STEP = timedelta(hours=1)

_due_at = 0.0


class ForeignProcess(TypedDict):
    """A process that uses a GPU and is none of the studio's; the pid is 0 for memory whose processes are invisible."""

    pid: int
    name: str
    memory_bytes: int
    is_graphics: bool


class DeviceReading(TypedDict, total=False):
    """The columns of a `Device` that were read now; those of a GPU that cannot be read keep their last values."""

    kind: Device.Kind
    index: int
    name: str
    uuid: str
    memory_bytes: int
    memory_free_bytes: int
    load: float | None
    temperature_c: float | None
    foreign: list[ForeignProcess]
    is_exclusive: bool
    is_present: bool
    problem: str
    problem_data: Mapping[str, object]
    checked_as: str
    usable_at: datetime


def keep_fresh(host: str, worker: str) -> bool:
    """Read the machine again when the last reading is REFRESH_S old; returns whether it was read."""
    global _due_at
    if time.monotonic() < _due_at:
        return False
    _due_at = time.monotonic() + REFRESH_S
    refresh(host, worker)
    return True


def ensure_host(host: str, worker: str) -> None:
    """Store the host where it has no row yet: a claim may come before the first regular reading."""
    if not Host.objects.filter(name=host).exists():
        refresh(host, worker)


def adopt_files() -> None:
    """Store which directories the datasets and runs are in that are older than the setting OBJECT_STORE_URL.

    It is known where their folders are. Nobody trains them on a host with other directories until then.
    """
    if not settings.OBJECT_STORE_URL:
        return
    roots: tuple[tuple[Path, type[Dataset] | type[TrainingRun], dict[str, str]], ...] = (
        (Path(settings.DATASETS_DIR), Dataset, {"data_dir_id": data_dir_id()}),
        (Path(settings.RUNS_DIR), TrainingRun, {"runs_dir_id": runs_dir_id()}),
    )
    for root, model, directory in roots:
        unknown = model._default_manager.filter(**dict.fromkeys(directory, ""))
        here = [path.name for path in root.glob("[0-9]*") if path.name.isdecimal()] if unknown.exists() else []
        for start in range(0, len(here), ADOPTED):
            unknown.filter(pk__in=here[start : start + ADOPTED]).update(**directory)


def note_leaving(host: str, worker: str) -> None:
    """Store that the worker takes nothing new, and that it still reports. Called again until it ends."""
    _note_state(host, worker, Host.State.LEAVING)


def note_left(host: str, worker: str) -> None:
    """Store that the worker has ended as intended."""
    _note_state(host, worker, Host.State.LEFT)


def _note_state(host: str, worker: str, state: Host.State) -> None:
    """Only in what this worker wrote last: another one of the same host takes the row over."""
    Host.objects.filter(name=host, worker=worker).update(state=state, seen_at=timezone.now())


def refresh(host: str, worker: str, driver: DriverReading | None = None) -> Host:
    """Read this machine and write its rows. Devices that are gone stay, marked as not present."""
    # First, so that a run which ends between the two is not taken for another program.
    held = set(open_holds().filter(device__host__name=host).values_list("device__uuid", flat=True))
    held |= set(held_by_jobs().filter(host__name=host).values_list("uuid", flat=True))
    driver = read_gpus() if driver is None else driver
    gpus = driver.gpus
    load = psutil.cpu_percent() / 100  # once: it measures since the call before
    ours = _ours(host) if gpus else set()
    read = [_processor(load)]
    for index, gpu in enumerate(gpus):
        read.append(_gpu(index, gpu, _foreign(gpu, ours, is_held=gpu.uuid in held)))
    with transaction.atomic():
        row, _created = Host.objects.update_or_create(name=host, defaults=_machine(host, worker, load, driver))
        _write_devices(row, list(row.devices.all()), read, check_key(driver.version))
        if driver.hidden:  # by somebody: no run waits for them
            gone = Device.objects.filter(host=row, is_present=False, uuid__in=driver.hidden)
            gone.filter(usable_at__isnull=False).update(usable_at=None)
    return row


def _write_devices(host: Host, rows: Sequence[Device], read: Sequence[DeviceReading], key: str) -> None:
    """Give each reading its row: that of its UUID, so that what is known of a GPU stays with it when its number
    changes, else that of its number."""
    found = [(fields, _row_of(fields, rows)) for fields in read]
    kept = {device.pk for fields, device in found if device is not None and device.index == fields["index"]}
    # Before others get their numbers: those that are gone, and those that get another number.
    moved = [device.pk for device in rows if device.is_present and device.pk not in kept]
    if moved:
        Device.objects.filter(pk__in=moved).update(is_present=False)
    for fields, device in found:
        if fields["kind"] == Device.Kind.GPU:
            fields |= _checked(fields, device, key)
        changes = {**fields, **_usable(fields, device)}
        if device is None:
            Device.objects.create(host=host, **changes)
        elif device.pk in moved or any(differs(name, getattr(device, name), value) for name, value in changes.items()):
            for name, value in changes.items():
                setattr(device, name, value)
            device.save(update_fields=list(changes))


def _row_of(fields: DeviceReading, rows: Sequence[Device]) -> Device | None:
    same_kind = [device for device in rows if device.kind == fields["kind"]]
    uuid = fields.get("uuid", "")
    by_uuid = [device for device in same_kind if uuid and device.uuid == uuid]
    by_number = [
        device
        for device in same_kind
        if device.index == fields["index"] and not (uuid and device.uuid) and (device.is_present or not device.uuid)
    ]
    return next(iter(by_uuid or by_number), None)


def _checked(fields: DeviceReading, device: Device | None, key: str) -> DeviceReading:
    """What is known of a GPU beyond its reading: a problem that a check has found stays until the next one. After a
    problem of the driver, and with other versions (`key`), it is to be checked."""
    if fields["problem"]:
        return {"checked_as": ""}
    if device is None or device.checked_as != key:
        return {"problem": Device.Problem.UNCHECKED, "problem_data": GPU_UNCHECKED().as_data()}
    return {"problem": device.problem, "problem_data": device.problem_data}


def _usable(fields: DeviceReading, device: Device | None) -> DeviceReading:
    """When a GPU without a problem was last seen, not written with each reading."""
    now, known = timezone.now(), device.usable_at if device is not None else None
    is_stale = known is None or now - known > USABLE_STEP
    return {"usable_at": now} if fields["kind"] == Device.Kind.GPU and not fields["problem"] and is_stale else {}


def forget_gone() -> None:
    """Remove machines that have been silent for KEPT_DAYS (or TEMPORARY_KEPT_DAYS), and GPUs that are gone for so long:
    a container has a new name, and a slice a new UUID, each time it is created."""
    now = timezone.now()
    silent_since, left_since = now - timedelta(days=KEPT_DAYS), now - timedelta(days=TEMPORARY_KEPT_DAYS)
    busy = open_holds().values("device__host_id")
    silent = Q(seen_at__lt=silent_since) | Q(seen_at__lt=left_since, is_temporary=True)
    Host.objects.filter(silent).exclude(pk__in=busy).delete()
    gone = Device.objects.filter(kind=Device.Kind.GPU, is_present=False, usable_at__lt=silent_since)
    gone.exclude(pk__in=open_holds().values("device_id")).delete()


def differs(name: str, old: object, new: object) -> bool:
    """Whether the reading is worth a write: a change of the load by 1 % is not."""
    tolerance = {"load": SAME_LOAD, "temperature_c": SAME_TEMPERATURE_C, "memory_free_bytes": SAME_MEMORY_BYTES}
    if name in tolerance and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) >= tolerance[name]
    return old != new


def _machine(host: str, worker: str, load: float, driver: DriverReading) -> dict[str, object]:
    memory, folder = psutil.virtual_memory(), Path(settings.RUNS_DIR)
    while not folder.exists():  # before the first run
        folder = folder.parent
    return {
        "worker": worker,
        "state": Host.State.LEAVING if shutting_down.is_set() else Host.State.WORKING,
        "is_temporary": short_stay.is_set(),
        "slots": settings.MAX_TRAINING_PROCESSES,
        "cpu_cores": _cores(),
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
        "disk_free_bytes": psutil.disk_usage(str(folder)).free,
        "load": load,
        "versions": {**_versions(), **_driver_versions(driver)},
        "gpu_problem": _driver_problem(host, driver),
        "address": cluster_address(),
        "data_dir_id": data_dir_id(),
        "runs_dir_id": runs_dir_id(),
        "started_at": datetime.fromtimestamp(psutil.Process().create_time(), UTC),
        "seen_at": timezone.now(),
    }


def _driver_versions(driver: DriverReading) -> dict[str, str]:
    backend, _space, version = driver.backend.partition(" ")
    return {name: value for name, value in (("driver", driver.version), (backend, version)) if name and value}


def _driver_problem(host: str, driver: DriverReading) -> Mapping[str, object]:
    """Why the driver cannot be asked, as message data. A machine that never had a GPU needs none."""
    had_gpus = driver.is_installed or Device.objects.filter(host__name=host, kind=Device.Kind.GPU).exists()
    return _data(driver.explanation if had_gpus else None)


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


def _gpu(index: int, gpu: GpuReading, foreign: list[ForeignProcess]) -> DeviceReading:
    if gpu.problem is None and not torch_has_cuda():
        gpu = replace(gpu, problem=Device.Problem.CPU_BUILD, explanation=GPU_CPU_BUILD(torch=torch_version()))
    fields: DeviceReading = {
        "kind": Device.Kind.GPU,
        "index": index,
        "load": gpu.load,
        "temperature_c": gpu.temperature_c,
        "foreign": foreign,
        "is_exclusive": gpu.is_exclusive,
        "is_present": True,
        "problem": gpu.problem or "",
        "problem_data": _data(gpu.explanation),
    }
    if gpu.uuid:
        fields["uuid"] = gpu.uuid
    if gpu.name:
        fields["name"] = gpu.name
    if gpu.problem not in (Device.Problem.LOST, Device.Problem.UNREADABLE):
        fields |= {"memory_bytes": gpu.memory_bytes, "memory_free_bytes": gpu.memory_free_bytes}
    return fields


def _foreign(gpu: GpuReading, ours: set[int], *, is_held: bool) -> list[ForeignProcess]:
    """The processes of others. In a container, the driver may list none of them, or all by their numbers outside.

    While a run holds the GPU, numbers without a process here may be those of its trainer. While none does, all are of
    others, and so is memory in use that no listed process accounts for.
    """
    found: list[ForeignProcess] = [
        {
            "pid": process.pid,
            "name": _process_name(process.pid),
            "memory_bytes": process.memory_bytes,
            "is_graphics": process.is_graphics,
        }
        for process in gpu.processes
        if process.pid not in ours and not (is_held and not psutil.pid_exists(process.pid))
    ]
    used_bytes = gpu.memory_bytes - gpu.memory_free_bytes
    hidden_bytes = used_bytes - sum(process.memory_bytes for process in gpu.processes)
    if not is_held and hidden_bytes > gpu.memory_bytes * HIDDEN_SHARE:
        coarse_bytes = hidden_bytes // SAME_MEMORY_BYTES * SAME_MEMORY_BYTES
        found.append({"pid": 0, "name": "", "memory_bytes": coarse_bytes, "is_graphics": False})
    return found


def _data(message: Message | None) -> Mapping[str, object]:
    return {} if message is None else message.as_data()


def _ours(host: str) -> set[int]:
    """Processes of the studio on this machine: this one, its descendants, and the trainers of its other workers."""
    own = psutil.Process()
    below = {process.pid for process in (own, *own.children(recursive=True))}
    running = TrainingRun.objects.filter(status=TrainingRun.Status.RUNNING, host=host, pid__isnull=False)
    for pid in running.values_list("pid", flat=True):
        if pid is not None and pid not in below:
            below |= {pid, *_descendants(pid)}
    # Ranks of runs of other hosts are children of the worker that has taken their share.
    for worker in RunShare.objects.filter(host=host, ended_at=None, node_rank__gt=0).values_list("worker", flat=True):
        number = worker.partition(":")[2].partition(":")[0]
        if number.isdigit() and worker != worker_id():
            below |= _descendants(int(number))
    return below


def _descendants(pid: int) -> set[int]:
    """The processes below a trainer: its ranks use GPUs as well."""
    with contextlib.suppress(psutil.Error):  # it has ended, or runs outside this container
        return {process.pid for process in psutil.Process(pid).children(recursive=True)}
    return set()


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
    return {"python": platform.python_version(), "torch": torch_version()}
