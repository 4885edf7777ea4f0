"""The queue: order, available devices, and one worker for each run."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from tests.helpers.threads import in_threads
from trainingapp.models import Dataset, Device, DeviceHold, Host, TrainingRun
from trainingapp.scheduling.placement import GB
from trainingapp.scheduling.scheduler import claim_next, has_run_for, is_waiting

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def claim(host: str = "here") -> TrainingRun | None:
    return claim_next(host, f"{host}:1:2")


def queued(make: MAKE, name: str = "try", **config: Any) -> TrainingRun:
    """A queued run that requests such a device; later ones are behind earlier ones."""
    rank = float(TrainingRun.objects.count() + 1)
    return make("queued", name=name, queue_rank=rank, queued_at=timezone.now(), config=asking(**config))


def test_the_order_is_priority_then_rank_then_age_then_number(make: MAKE) -> None:
    machine(slots=9)
    now = timezone.now()
    fourth = make("queued", queued_at=now, queue_rank=2)
    fifth = make("queued", queued_at=now, queue_rank=2)
    third = make("queued", queued_at=now - timedelta(hours=1), queue_rank=2)
    second = make("queued", queued_at=now, queue_rank=1)
    first = make("queued", queued_at=now, priority=1, queue_rank=7)
    last = make("queued", queued_at=now - timedelta(days=1), priority=-1, queue_rank=0)
    for expected in (first, second, third, fourth, fifth, last):
        assert claim() == expected
    assert claim() is None
    assert not is_waiting()


@pytest.mark.parametrize("state", ["leaving", "left"])
def test_a_host_whose_worker_is_leaving_delays_no_run(make: MAKE, state: str) -> None:
    """It would get the run, since it has more memory, and never claims it."""
    machine("barn", memory_gb=80, gpus=1, state=state)
    machine(gpus=1)
    run = queued(make, device="cuda")
    assert has_run_for("here")
    assert claim() == run
    assert not has_run_for("here")


def test_a_claim_stores_the_worker_and_the_device(make: MAKE) -> None:
    machine()
    make("queued", attempt=2, config=asking(device="cpu", device_count=2, min_free_memory_gb=3))
    assert claim() is not None
    run = TrainingRun.objects.get()
    assert (run.status, run.attempt, run.host, run.worker) == ("running", 3, "here", "here:1:2")
    assert (run.device, run.phase, run.is_silent) == ("cpu", "starting", False)
    assert run.heartbeat_at is not None
    assert run.started_at is not None
    held = DeviceHold.objects.get()
    assert (held.run, held.device.kind, held.slots, held.attempt) == (run, "cpu", 2, 3)
    assert (held.memory_bytes, held.is_shared, held.run_name) == (3 * GB, False, run.name)
    assert (held.taken_at, held.released_at) == (run.heartbeat_at, None)


def test_an_unknown_host_is_inspected_first(make: MAKE, settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 3
    make("queued")
    assert claim("new") is not None
    assert Host.objects.get().slots == 3
    assert Device.objects.get().kind == "cpu"


def test_only_queued_runs_are_claimed(make: MAKE) -> None:
    machine(slots=9)
    for status in set(TrainingRun.Status.values) - {"queued"}:
        make(status)
    assert claim() is None


def test_a_run_that_may_not_start_yet_does_not_block_others(make: MAKE) -> None:
    machine()
    later = make("queued", queue_rank=1, not_before=timezone.now() + timedelta(minutes=5))
    now = queued(make)
    assert claim() == now
    assert claim() is None
    assert not is_waiting()
    TrainingRun.objects.filter(pk=later.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    assert is_waiting()
    assert claim() == later
    assert TrainingRun.objects.get(pk=later.pk).not_before is None


def test_no_more_runs_than_slots(make: MAKE) -> None:
    machine(slots=2)
    for _ in range(3):
        queued(make, device="cpu")
    assert [claim() is not None for _ in range(3)] == [True, True, False]


def test_a_run_may_take_several_slots(make: MAKE) -> None:
    machine(slots=3)
    large, small = queued(make, device="cpu", device_count=2), queued(make, device="cpu")
    queued(make, device="cpu")
    assert [claim(), claim(), claim()] == [large, small, None]


@pytest.mark.parametrize(
    ("gpus", "device", "given"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (0, "cuda", None),
        (2, "auto", "cuda:0"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cuda:2", None),
    ],
)
def test_the_device_is_a_requested_one(make: MAKE, gpus: int, device: str, given: str | None) -> None:
    machine(gpus=gpus)
    queued(make, device=device)
    run = claim()
    assert (run and run.device) == given


def test_a_gpu_has_one_run_and_the_next_takes_another(make: MAKE) -> None:
    machine(slots=9, gpus=2)
    for _ in range(3):
        queued(make)
    devices = {run.device for run in (claim(), claim()) if run}
    assert devices == {"cuda:0", "cuda:1"}
    assert claim() is None


def test_a_missing_gpu_is_not_assigned(make: MAKE) -> None:
    machine(gpus=1)
    Device.objects.filter(kind="gpu").update(is_present=False)
    queued(make, device="cuda")
    assert claim() is None


def test_a_run_waits_for_its_minimum_of_free_memory(make: MAKE) -> None:
    machine(slots=9, gpus=2, memory_gb=24)
    Device.objects.filter(kind="gpu", index=0).update(memory_free_bytes=9 * GB)
    queued(make, min_free_memory_gb=10)
    queued(make, min_free_memory_gb=10)
    run = claim()
    assert run is not None
    assert run.device == "cuda:1"
    assert claim() is None
    Device.objects.filter(kind="gpu", index=0).update(memory_free_bytes=10 * GB)
    assert claim() is not None


def test_without_a_minimum_a_gpu_used_by_other_programs_is_not_assigned(make: MAKE) -> None:
    machine(gpus=1)
    foreign = [{"pid": 4711, "name": "python", "memory_bytes": 5 * GB}]
    Device.objects.filter(kind="gpu").update(foreign=foreign, memory_free_bytes=19 * GB)
    queued(make)
    modest = queued(make, min_free_memory_gb=8)
    assert claim() == modest, "it said what it needs, and that is there"
    TrainingRun.objects.filter(pk=modest.pk).delete()
    desktop = [{"pid": 1, "name": "Xorg", "memory_bytes": GB // 2}]
    Device.objects.filter(kind="gpu").update(foreign=desktop)
    assert claim() is not None


def test_small_runs_share_a_gpu_if_all_allow_it_and_memory_suffices(make: MAKE) -> None:
    machine(slots=9, gpus=1, memory_gb=24)
    wish = {"device": "cuda", "share_device": True, "min_free_memory_gb": 10}
    first, second = queued(make, **wish), queued(make, **wish)
    queued(make, **wish)
    assert [claim(), claim(), claim()] == [first, second, None], "10 + 10 of 24 GB are set aside"
    assert set(DeviceHold.objects.values_list("is_shared", "memory_bytes")) == {(True, 10 * GB)}


def test_a_run_that_does_not_share_waits_for_an_empty_gpu_and_keeps_it(make: MAKE) -> None:
    machine(slots=9, gpus=1)
    alone = queued(make, device="cuda")
    queued(make, device="cuda", share_device=True, min_free_memory_gb=1)
    assert [claim(), claim()] == [alone, None]


def test_a_gpu_without_sharing_is_not_shared(make: MAKE) -> None:
    machine(slots=9, gpus=1)
    Device.objects.update(is_shareable=False)
    for _ in range(2):
        queued(make, device="cuda", share_device=True, min_free_memory_gb=1)
    assert claim() is not None
    assert claim() is None


def test_a_large_run_is_not_starved_by_small_runs(make: MAKE) -> None:
    """Slots that become free are reserved for it; otherwise the small runs would take each of them."""
    machine(slots=2)
    small = [queued(make, f"small {number}", device="cpu") for number in range(2)]
    large = queued(make, "large", device="cpu", device_count=2)
    late = [queued(make, f"late {number}", device="cpu") for number in range(2)]
    assert [claim(), claim(), claim()] == [*small, None]
    small[0].refresh_from_db()
    small[0].transition("completed")
    assert claim() is None, "the free slot is kept for the large run"
    small[1].refresh_from_db()
    small[1].transition("completed")
    assert claim() == large
    large.refresh_from_db()
    large.transition("completed")
    assert [claim(), claim()] == late


def test_other_devices_remain_available_to_later_runs(make: MAKE) -> None:
    machine(slots=9, gpus=1)
    running = make("running", host="here")
    hold(running, Device.objects.get(kind="gpu"))
    queued(make, "waits for the GPU", device="cuda")
    passing = queued(make, "needs none", device="cpu")
    assert claim() == passing


def test_sharing_runs_do_not_block_a_run_that_needs_the_whole_gpu(make: MAKE) -> None:
    machine(slots=9, gpus=1)
    wish = {"device": "cuda", "share_device": True, "min_free_memory_gb": 1}
    first = queued(make, **wish)
    assert claim() == first
    whole = queued(make, "whole", device="cuda")
    queued(make, **wish)
    assert claim() is None, "nobody joins any more"
    first.refresh_from_db()
    first.transition("completed")
    assert claim() == whole


def test_nothing_is_reserved_for_a_run_that_waits_for_other_programs(make: MAKE) -> None:
    """The studio does not know when those end: a device would be idle for an unknown time."""
    machine(gpus=1)
    foreign = [{"pid": 4711, "name": "python", "memory_bytes": 20 * GB}]
    Device.objects.filter(kind="gpu").update(foreign=foreign, memory_free_bytes=4 * GB)
    queued(make, device="cuda", min_free_memory_gb=12)
    small = queued(make, device="cuda", min_free_memory_gb=2)
    assert claim() == small


def test_a_run_that_fits_another_host_does_not_block_this_one(make: MAKE) -> None:
    machine("here", slots=1)
    machine("there", slots=4)
    queued(make, "large", device="cpu", device_count=3)
    small = queued(make, "small", device="cpu")
    assert claim("here") == small
    large = claim("there")
    assert large is not None
    assert (large.name, large.host) == ("large", "there")


def test_nothing_is_reserved_on_an_absent_host(make: MAKE) -> None:
    machine("here", slots=1)
    machine("gone", slots=4, away=True)
    queued(make, device="cpu", device_count=3)
    small = queued(make, device="cpu")
    assert claim("here") == small


def test_the_runs_of_a_user_are_limited(make: MAKE, settings: Any, other_user: User) -> None:
    settings.MAX_RUNS_PER_USER = 1
    machine(slots=9)
    mine = [queued(make, device="cpu") for _ in range(2)]
    theirs = queued(make, device="cpu")
    TrainingRun.objects.filter(pk=theirs.pk).update(owner=other_user)
    assert [claim(), claim(), claim()] == [mine[0], theirs, None]
    settings.MAX_RUNS_PER_USER = 0
    assert claim() == mine[1]


@pytest.mark.django_db(transaction=True)
def test_two_concurrent_hosts_respect_the_limit_of_a_user(make: MAKE, settings: Any) -> None:
    settings.MAX_RUNS_PER_USER = 2
    hosts = ["one", "two", "three"]
    for host in hosts:
        machine(host, slots=3)
    for _ in range(9):
        queued(make, device="cpu")

    def claim_all(host: str) -> int:
        count = 0
        while claim(host) is not None:
            count += 1
        return count

    counts = in_threads([lambda host=host: claim_all(host) for host in hosts])
    assert all(isinstance(count, int) for count in counts), counts
    assert TrainingRun.objects.filter(status="running").count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_workers_of_one_host_never_assign_a_device_twice(user: User, dataset: Dataset) -> None:
    host = machine(slots=8, gpus=4)
    runs = [
        TrainingRun(name="r", owner=user, dataset=dataset, config=asking(device="cuda"), status="queued")
        for _ in range(12)
    ]
    TrainingRun.objects.bulk_create(runs)

    def claim_all(worker: str) -> list[str]:
        claimed = []
        while (run := claim_next("here", worker)) is not None:
            claimed.append(run.device)
        return claimed

    results = in_threads([lambda number=number: claim_all(f"here:{number}:1") for number in range(4)])
    given = [device for result in results for device in result]
    assert sorted(given) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert DeviceHold.objects.filter(device__host=host, released_at=None).count() == 4
