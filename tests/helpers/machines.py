"""Hosts for tests, recorded like those of a worker. GPUs and the output of their driver are simulated."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from trainingapp.models import Device, DeviceHold, Forecast, Host, TrainingRun
from trainingapp.scheduling.gpus import GpuProcess, GpuReading
from trainingapp.scheduling.placement import GB


def gpu(
    index: int = 0, *, memory_gb: float = 24, used_gb: float = 0, processes: dict[int, float] | None = None
) -> GpuReading:
    """The measured state of a GPU; `processes` maps process numbers to GB."""
    found = tuple(GpuProcess(pid, round(size * GB)) for pid, size in (processes or {}).items())
    total, uuid = round(memory_gb * GB), f"GPU-{index:04}"
    free = total - round(used_gb * GB)
    return GpuReading(uuid, "NVIDIA Test", total, free, 0.5, 60.0, found, board=index, board_uuid=uuid)


def machine(
    name: str = "here", *, slots: int = 2, gpus: int = 0, memory_gb: float = 24, away: bool = False, **fields: Any
) -> Host:
    """A host with a CPU and the given number of GPUs."""
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
    """Assign the device to the run."""
    values = {"taken_at": timezone.now(), "attempt": run.attempt, "run_name": run.name, **fields}
    return DeviceHold.objects.create(device=device, run=run, **values)


def asking(**config: Any) -> dict[str, Any]:
    """The configuration of a stored run that requests this kind of device."""
    return {"task": "classification", "model": "resnet18", "image_size": 32, **config}


def busy_studio(owner: Any, dataset: Any) -> list[TrainingRun]:
    """Two working machines, one unavailable machine, runs on them, and waiting runs, which are returned."""
    now = timezone.now()
    station = machine(
        "workstation", versions={"python": "3.11.9", "torch": "2.9.0"}, disk_free_bytes=310 * GB, load=0.42
    )
    box = machine("gpu-box", slots=4, gpus=2, disk_free_bytes=1800 * GB, load=0.18, versions={"driver": "570.86"})
    machine("attic", away=True)
    foreign = [{"pid": 4711, "name": "blender", "memory_bytes": 6 * GB}]
    box.devices.filter(index=1, kind="gpu").update(
        foreign=foreign, memory_free_bytes=17 * GB, load=0.8, temperature_c=71
    )
    box.devices.filter(index=0, kind="gpu").update(memory_free_bytes=4 * GB, load=0.97, temperature_c=78)
    past(owner, dataset, [station.devices.get(), box.devices.get(kind="gpu", index=0)], now)
    for name, device, eta_s in (
        ("Night shift", station.devices.get(), 5400),
        ("Birds at 320 px", station.devices.get(), 900),
    ):
        run = stored(owner, dataset, name, status="running", device="cpu", host="workstation", eta_s=eta_s)
        hold(run, device, taken_at=now - timedelta(minutes=75))
    run = stored(owner, dataset, "Street scenes, large", status="running", device="cuda:0", host="gpu-box", eta_s=7000)
    hold(run, box.devices.get(kind="gpu", index=0), taken_at=now - timedelta(hours=3))
    wishes: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("Leaves, second try", {"device": "cuda", "min_free_memory_gb": 20}, {"priority": 5}),
        ("Whole processor for once", {"device": "cpu", "device_count": 2}, {}),
        ("Defects on sheet metal with a long name that has to be broken somewhere", {"device": "cpu"}, {}),
        ("After the crash", {"device": "cpu"}, {"not_before": now + timedelta(minutes=4)}),
        ("Needs a fourth GPU", {"device": "cuda:3"}, {}),
        ("Small one", {"device": "cpu"}, {"priority": -1}),
    ]
    return [
        stored(owner, dataset, name, asking(**wish), status="queued", queue_rank=rank, queued_at=now, **fields)
        for rank, (name, wish, fields) in enumerate(wishes)
    ]


def stored(owner: Any, dataset: Any, name: str, config: dict[str, Any] | None = None, **fields: Any) -> TrainingRun:
    """A stored run with these fields."""
    values = {"total_epochs": 20, "epoch": 7, "step": 70, "total_steps": 200, "elapsed_s": 3000} | fields
    if values.get("status") == "running":
        values |= {"heartbeat_at": timezone.now() + timedelta(hours=1), "attempt": 1}
    if values.get("status") == "queued":
        values |= {"epoch": 0, "step": 0, "elapsed_s": 0}
    config = config or asking(device="cpu")
    return TrainingRun.objects.create(
        owner=owner, dataset=dataset, name=name, task="classification", config=config, **values
    )


def past(owner: Any, dataset: Any, devices: list[Device], now: datetime) -> None:
    """A day of completed runs on each device, with nearly correct forecasts."""
    for device in devices:
        for number in range(6):
            start = now - timedelta(hours=23 - number * 3)
            end = start + timedelta(minutes=150)
            fields = {"device": device.torch_name, "epoch": 20, "elapsed_s": 9000.0, "finished_at": end}
            run = stored(owner, dataset, f"Past {number}", status="completed", started_at=start, **fields)
            hold(run, device, taken_at=start, released_at=end, slots=1)
            told = {"start_earliest": start, "start_latest": start, "finish_latest": end + timedelta(minutes=9)}
            told["finish_earliest"] = end - timedelta(minutes=number * 3 - 9)
            Forecast.objects.create(run=run, made_at=start, started_at=start, finished_at=end, basis=2, **told)
