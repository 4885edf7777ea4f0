"""GPUs for jobs: a job that computes much uses one as long as no run needs it."""

from collections.abc import Iterator
from dataclasses import replace

from django.db import transaction
from django.utils import timezone

from trainingapp.models import Device, Host, Job
from trainingapp.scheduling.placement import DeviceSlot, Machine, Request, in_turn, read_cluster, read_queue


def take_gpu(job: Job, host: str) -> dict[str, str]:
    """Give the job a GPU of this host that no run has or waits for: {"device", "device_uuid"} for its parameters.

    A job about a run gets one that the run's configuration asks for, with the memory that it asks for. Nothing where
    there is none, or where the run trains on the CPU. The lock is that of the scheduler, so that a run cannot be given
    the same GPU.
    """
    release_gpu(job)
    # A job holds one GPU alone, also one that checks a run that would share it or train on several.
    request = replace(Request.of(job.params.get("config", {})), is_sharing=False, count=1, at_least=1)
    if request.kind == "cpu":
        return {}
    with transaction.atomic():
        if not Host.objects.select_for_update().filter(name=host).exists():
            return {}
        device = max(_free(host, request), key=lambda slot: slot.available_bytes, default=None)
        if device is None:
            return {}
        Device.objects.filter(pk=device.device_id).update(job=job)
        uuid = Device.objects.values_list("uuid", flat=True).get(pk=device.device_id)
    return {"device": device.torch_name, "device_uuid": uuid}


def release_gpu(job: Job) -> None:
    """Give back what the job, or an attempt at it whose worker was lost, has taken."""
    Device.objects.filter(job=job).update(job=None)


def _free(host: str, request: Request) -> Iterator[DeviceSlot]:
    cluster = read_cluster()
    for _turn in in_turn(cluster, read_queue(), timezone.now(), host):
        pass  # takes and reserves what queued runs are about to get, or wait for
    for machine in cluster.machines:
        if machine.name == host:
            yield from (device for device in machine.suited(request) if _is_free(machine, device, request))


def _is_free(machine: Machine, device: DeviceSlot, request: Request) -> bool:
    if device.kind != "gpu":
        return False
    obstacle = machine.obstacle(device, request)
    return obstacle is None or obstacle.why == "host_full"  # a limit of the number of runs
