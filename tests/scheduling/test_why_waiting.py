"""Every queued run has a reason why it waits."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from trainingapp.models import Device, Host, TrainingRun
from trainingapp.scheduling.placement import GB
from trainingapp.scheduling.scheduler import claim_next, next_by_device, reasons, why_waiting

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def queued(make: MAKE, name: str = "waiting", **config: Any) -> TrainingRun:
    rank = float(TrainingRun.objects.count())
    return make("queued", name=name, queue_rank=rank, queued_at=timezone.now(), config=asking(**config))


def running(make: MAKE, name: str, device: Device, **fields: Any) -> TrainingRun:
    run = make("running", name=name, host=device.host.name, heartbeat_at=timezone.now())
    hold(run, device, **fields)
    return run


def test_only_a_queued_run_waits(make: MAKE) -> None:
    assert [why_waiting(make(status)) for status in ("pending", "running", "completed")] == ["", "", ""]


def test_without_a_worker_the_reason_explains_how_to_start_one(make: MAKE) -> None:
    run = queued(make)
    assert why_waiting(run) == "No worker is running. Start one with “manage.py studio”."
    machine(away=True)
    assert "No worker is running" in why_waiting(run)


def test_an_available_device_is_named(make: MAKE) -> None:
    machine()
    assert why_waiting(queued(make)) == "A device is available: a worker starts the run shortly."


def test_it_names_the_runs_that_hold_the_device(make: MAKE) -> None:
    host = machine(slots=2)
    for name in ("night", "birds"):
        running(make, name, host.devices.get())
    assert why_waiting(queued(make)) == "No free slot: the CPU of here is used by “night”, “birds”."


def test_it_names_the_gpu_and_its_run(make: MAKE) -> None:
    host = machine(slots=4, gpus=2)
    running(make, "large", host.devices.get(kind="gpu", index=1))
    assert why_waiting(queued(make, device="cuda:1")) == "cuda:1 on here is used by “large”."


def test_many_devices_are_counted(make: MAKE) -> None:
    host = machine(slots=9, gpus=5)
    for device in host.devices.filter(kind="gpu"):
        running(make, f"run {device.index}", device)
    reason = why_waiting(queued(make, device="cuda"))
    assert "cuda:2 on here is used by “run 2”." in reason
    assert reason.endswith("2 more devices are not available.")


def test_it_names_the_run_for_which_a_slot_is_reserved(make: MAKE) -> None:
    host = machine(slots=2)
    running(make, "night", host.devices.get())
    large, small = queued(make, "large", device="cpu", device_count=2), queued(make, "small", device="cpu")
    assert why_waiting(large) == (
        "It needs 2 free slots of one CPU; here has 1. Too few free slots: the CPU of here is used by “night”. Free "
        "slots are reserved for this run."
    )
    assert why_waiting(small) == "cpu on here is reserved for “large”, which is ahead in the queue."


def test_it_names_the_missing_memory(make: MAKE) -> None:
    machine(gpus=1)
    Device.objects.filter(kind="gpu").update(memory_free_bytes=17 * GB)
    reason = why_waiting(queued(make, device="cuda", min_free_memory_gb=20))
    assert reason.replace("\xa0", " ") == "cuda:0 on here lacks 3.0 GB of free memory."


def test_it_names_what_other_programs_take(make: MAKE) -> None:
    machine(gpus=1)
    Device.objects.filter(kind="gpu").update(foreign=[{"pid": 1, "name": "x", "memory_bytes": 6 * GB}])
    reason = why_waiting(queued(make, device="cuda"))
    assert reason.replace("\xa0", " ") == (
        "Other programs use cuda:0 on here (6.0 GB of its memory): x (1). End them, or state the required free memory "
        "of the run: it then uses the GPU beside them."
    )


def test_the_limit_of_a_host(make: MAKE) -> None:
    host = machine(slots=1, gpus=1)
    running(make, "on the GPU", host.devices.get(kind="gpu"))
    assert why_waiting(queued(make, device="cpu")) == "here trains 1 run, which is its limit."


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"device": "cuda"}, "a GPU"),
        ({"device": "cuda:3"}, "cuda:3"),
        ({"device": "cpu", "device_count": 9}, "9 CPU slots"),
        ({"device": "cpu", "min_free_memory_gb": 999}, "1 CPU slot with 999 GB of free memory"),
    ],
)
def test_a_device_that_no_host_has_is_named(make: MAKE, config: dict[str, Any], what: str) -> None:
    machine()
    assert why_waiting(queued(make, **config)) == f"No host has {what}."


def test_a_device_that_only_an_absent_host_has(make: MAKE) -> None:
    machine()
    machine("attic", gpus=1, away=True)
    reason = why_waiting(queued(make, device="cuda"))
    assert reason == "Only attic has what it requires, and no worker is running there."


def test_a_host_that_was_there_for_a_while_only_is_not_expected_again(make: MAKE) -> None:
    machine()
    machine("barn", gpus=1, state="left", is_temporary=True)
    assert why_waiting(queued(make, device="cuda")) == "No host has a GPU."


def test_the_time_before_which_it_does_not_start(make: MAKE) -> None:
    machine()
    run = queued(make)
    when = timezone.now() + timedelta(minutes=2)
    TrainingRun.objects.filter(pk=run.pk).update(not_before=when)
    run.refresh_from_db()
    assert why_waiting(run).startswith("It does not start before ")


def test_the_limit_of_a_user(make: MAKE, settings: Any) -> None:
    settings.MAX_RUNS_PER_USER = 1
    host = machine(slots=4)
    running(make, "mine", host.devices.get())
    assert why_waiting(queued(make)) == "Its owner has 1 running run, the limit for one user."


def test_every_queued_run_has_a_reason_or_is_claimed(make: MAKE) -> None:
    machine(slots=2, gpus=1)
    for wish in ({"device": "cpu"}, {"device": "cuda"}, {"device": "cuda"}, {"device": "cpu"}, {"device": "cuda:7"}):
        queued(make, **wish)
    found = reasons()
    assert len(found) == 5
    assert all(found.values())
    promised = [pk for pk, reason in found.items() if "starts the run shortly" in reason]
    claimed = []
    while run := claim_next("here", "here:1:2"):
        claimed.append(run.pk)
    assert claimed == promised


def test_the_next_run_of_each_device(make: MAKE) -> None:
    host = machine(slots=2, gpus=1)
    processor, gpu = host.devices.get(kind="cpu"), host.devices.get(kind="gpu")
    running(make, "night", gpu)
    first, second = queued(make, "first", device="cuda"), queued(make, "second", device="cpu")
    assert {key: run.pk for key, run in next_by_device().items()} == {gpu.pk: first.pk, processor.pk: second.pk}
    Host.objects.all().delete()
    assert next_by_device() == {}
