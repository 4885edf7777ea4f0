"""Machines for tests, written as a worker writes them. There is no GPU here: what its driver would say is made up."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from trainingapp.devices.gpus import GpuProcess, GpuReading
from trainingapp.devices.placement import GB
from trainingapp.models import Device, DeviceHold, Host, TrainingRun


def gpu(index: int = 0, *, memory_gb: float = 24, used_gb: float = 0, processes: dict[int, float] | None = None) -> Any:
    """A reading of a GPU; `processes` are GB by process number."""
    found = tuple(GpuProcess(pid, round(size * GB)) for pid, size in (processes or {}).items())
    total = round(memory_gb * GB)
    return GpuReading(f"GPU-{index:04}", "NVIDIA Test", total, total - round(used_gb * GB), 0.5, 60.0, found)


def machine(
    name: str = "here", *, slots: int = 2, gpus: int = 0, memory_gb: float = 24, away: bool = False, **fields: Any
) -> Host:
    """A host with a processor and so many GPUs."""
    seen = timezone.now() - timedelta(hours=1) if away else timezone.now()
    size = {"memory_bytes": 64 * GB, "memory_free_bytes": 64 * GB}
    host = Host.objects.create(
        name=name, slots=slots, cpu_cores=8, seen_at=seen, worker=f"{name}:1:2", **size, **fields
    )
    Device.objects.create(host=host, kind="cpu", name="A processor", **size)
    size = {"memory_bytes": round(memory_gb * GB), "memory_free_bytes": round(memory_gb * GB)}
    for index in range(gpus):
        Device.objects.create(host=host, kind="gpu", index=index, name="NVIDIA Test", uuid=f"GPU-{index}", **size)
    return host


def hold(run: TrainingRun, device: Device, **fields: Any) -> DeviceHold:
    """The run has the device."""
    values = {"taken_at": timezone.now(), "attempt": run.attempt, "run_name": run.name, **fields}
    return DeviceHold.objects.create(device=device, run=run, **values)


def asking(**config: Any) -> dict[str, Any]:
    """The configuration of a stored run that asks for a device so."""
    return {"recipe": "classification", "model": "resnet18", "image_size": 32, **config}
