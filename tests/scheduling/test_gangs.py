"""Runs on several devices of one host: one claim, a hold for each device, and all of them released at every end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from tests.helpers.threads import in_threads
from trainingapp.contract.events import Ended, Failed
from trainingapp.models import Dataset, Device, DeviceHold, Job, TrainingRun
from trainingapp.models.run import heartbeat_deadline
from trainingapp.scheduling.job_devices import take_gpu
from trainingapp.scheduling.scheduler import claim_next, next_by_device, why_waiting
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.outcome import End
from trainingapp.supervision.recovery import recover_run
from trainingapp.supervision.supervision import settle, write_config

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def queued(make: MAKE, name: str = "gang", **config: Any) -> TrainingRun:
    rank = float(TrainingRun.objects.count() + 1)
    wanted = asking(**{"accumulation_steps": 8, **config})
    return make("queued", name=name, queue_rank=rank, queued_at=timezone.now(), config=wanted)


def claim(host: str = "here") -> TrainingRun | None:
    return claim_next(host, f"{host}:1:2")


def free_gpus() -> list[int]:
    held = DeviceHold.objects.filter(released_at=None).values("device")
    return list(
        Device.objects.filter(kind="gpu").exclude(pk__in=held).order_by("index").values_list("index", flat=True)
    )


def test_a_claim_holds_each_of_its_gpus(make: MAKE) -> None:
    machine(slots=4, gpus=3)
    queued(make, device="cuda", device_count=2, min_free_memory_gb=3)
    run = claim()
    assert run is not None
    assert run.device == "cuda:0, cuda:1"
    held = DeviceHold.objects.order_by("device__index")
    assert [(each.device.index, each.slots, each.attempt, each.run) for each in held] == [
        (0, 1, 1, run),
        (1, 1, 1, run),
    ]
    assert {each.memory_bytes for each in held} == {3 << 30}, "of each GPU"


def test_it_waits_until_all_are_free_and_says_how_many_are(make: MAKE) -> None:
    host = machine(slots=8, gpus=2)
    busy = make("running", name="large", host="here", heartbeat_at=timezone.now())
    hold(busy, host.devices.get(kind="gpu", index=0))
    gang, small = queued(make, device="cuda", device_count=2), queued(make, "small", device="cuda")
    assert claim() is None, "the free one is kept for the gang"
    assert why_waiting(gang) == (
        "It needs 2 free GPUs of one kind on one host; here has 1. Free GPUs are reserved for this run. "
        "cuda:0 on here is used by “large”."
    )
    assert "cuda:1 on here is reserved for “gang”, which is ahead in the queue." in why_waiting(small)
    assert {waiting.name for waiting in next_by_device().values()} == {"gang"}
    busy.transition("completed")
    assert claim() == gang
    assert free_gpus() == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"device": "cuda", "device_count": 5}, "No host has 5 GPUs of one kind."),
        ({"device": "auto", "device_count": 5, "devices_at_least": 4}, "No host has 4 to 5 devices of one kind."),
        ({"device": "cpu", "device_count": 9}, "No host has 9 CPU slots."),
    ],
)
def test_one_that_fits_nowhere_blocks_nobody(make: MAKE, config: dict[str, Any], reason: str) -> None:
    host = machine(slots=4, gpus=3)
    Device.objects.filter(host=host, kind="gpu", index=2).update(name="Another")
    gang, small = queued(make, **config), queued(make, "small", device="cuda")
    assert claim() == small
    assert why_waiting(gang) == reason


def test_it_starts_with_fewer_where_it_may(make: MAKE) -> None:
    host = machine(slots=8, gpus=4)
    for index in (0, 1):
        hold(make("running", host="here"), host.devices.get(kind="gpu", index=index))
    queued(make, device="cuda", device_count=4, devices_at_least=2)
    run = claim()
    assert run is not None
    assert run.device == "cuda:2, cuda:3"


def test_each_gpu_needs_a_batch_of_each_step(make: MAKE) -> None:
    machine(slots=8, gpus=4)
    queued(make, device="cuda", device_count=4, accumulation_steps=2)
    run = claim()
    assert run is not None
    assert run.device == "cuda:0, cuda:1"


def test_slots_of_a_cpu_without_gpus(make: MAKE) -> None:
    machine(slots=3)
    queued(make, device="auto", device_count=2)
    second = queued(make, "second", device="cpu", device_count=3, devices_at_least=1)
    assert claim() is not None
    assert claim() == second
    slots = DeviceHold.objects.order_by("pk").values_list("slots", flat=True)
    assert list(slots) == [2, 1], "the second took what was left"


def test_the_trainer_gets_a_device_for_each_rank(make: MAKE) -> None:
    machine(slots=4, gpus=2)
    queued(make, device="cuda", device_count=2)
    queued(make, device="cpu", device_count=2)
    expected: list[dict[str, object]] = [
        {
            "device": "cuda:0",
            "device_uuid": "GPU-0",
            "devices": ["cuda:0", "cuda:1"],
            "device_uuids": ["GPU-0", "GPU-1"],
        },
        {"device": "cpu", "device_uuid": "", "devices": ["cpu", "cpu"]},
    ]
    for devices in expected:
        run = claim()
        assert run is not None
        run.folder.mkdir(parents=True)
        write_config(run)
        written = json.loads((run.folder / "config.json").read_text())
        assert {name: value for name, value in written.items() if name.startswith("device")} == devices
        run.transition("completed")


def ended(final: Ended | Failed | None, **end: Any) -> Callable[[TrainingRun], None]:
    def end_run(run: TrainingRun) -> None:
        settle(EventStore(run), End(final, exit_code=1, **end))

    return end_run


def lost(run: TrainingRun) -> None:
    """Its worker was killed, and another one finds that."""
    TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=heartbeat_deadline())
    recover_run(TrainingRun.objects.get(pk=run.pk))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ended(Ended(state="completed")), "completed"),
        (ended(Ended(state="paused")), "paused"),
        (ended(Ended(state="stopped")), "stopped"),
        (ended(Failed(error_class="bad_data", message="no image", lines=[])), "failed"),
        (ended(None), "queued"),
        (ended(None, is_shutting_down=True), "queued"),
        (lost, "queued"),
    ],
)
def test_every_end_releases_all_of_them(make: MAKE, end: Callable[[TrainingRun], None], status: str) -> None:
    machine(slots=4, gpus=2)
    queued(make, device="cuda", device_count=2)
    run = claim()
    assert run is not None
    assert free_gpus() == []
    end(run)
    run.refresh_from_db()
    assert run.status == status
    assert free_gpus() == [0, 1]
    assert not DeviceHold.objects.filter(released_at=None).exists()


def test_a_failed_device_counts_for_each_gpu_and_the_run_moves(make: MAKE) -> None:
    """Which of them failed is not known: the run gets others where there are enough."""
    machine(slots=4, gpus=2)
    machine("there", slots=4, gpus=2)
    gang = queued(make, device="cuda", device_count=2)
    assert claim() == gang
    gang.refresh_from_db()
    ended(Failed(error_class="device_error", message="CUDA error", lines=[]))(gang)
    assert set(DeviceHold.objects.values_list("error_class", flat=True)) == {"device_error"}
    TrainingRun.objects.update(not_before=None)
    assert claim() is None
    assert claim("there") == gang


def test_a_job_takes_one_gpu_to_check_a_gang(user: User) -> None:
    machine(gpus=2)
    config = asking(device="cuda", device_count=2, accumulation_steps=2)
    job = Job.objects.create(kind="preflight", owner=user, state="working", params={"config": config})
    assert take_gpu(job, "here") == {"device": "cuda:0", "device_uuid": "GPU-0"}


@pytest.mark.django_db(transaction=True)
def test_several_workers_of_one_host_give_no_part_of_a_gang(user: User, dataset: Dataset) -> None:
    machine(slots=8, gpus=5)
    config = asking(device="cuda", device_count=2, accumulation_steps=2)
    runs = [
        TrainingRun(name="r", owner=user, dataset=dataset, config=config, status="queued", queue_rank=rank)
        for rank in range(6)
    ]
    TrainingRun.objects.bulk_create(runs)

    def claim_all(worker: str) -> int:
        count = 0
        while claim_next("here", worker) is not None:
            count += 1
        return count

    counts = in_threads([lambda number=number: claim_all(f"here:{number}:1") for number in range(4)])
    assert sum(counts) == 2
    held = DeviceHold.objects.filter(released_at=None)
    assert len(set(held.values_list("device", flat=True))) == held.count() == 4
