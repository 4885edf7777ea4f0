"""Runs on several hosts: one claim of all devices, a share for each host, and what ends it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from tests.helpers.threads import in_threads
from tests.scheduling.test_gangs import claim, queued
from trainingapp.models import Dataset, DeviceHold, Host, RunShare, TrainingRun
from trainingapp.models.device import rank_devices
from trainingapp.scheduling.scheduler import claim_next, next_by_device, why_waiting
from trainingapp.supervision.supervision import write_config

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def linked(name: str, **size: int) -> Host:
    return machine(name, address=f"{name}.example.org", versions={"torch": "2.14.0"}, **size)


def together(make: MAKE, name: str = "gang", **config: Any) -> TrainingRun:
    return queued(make, name, **{"device": "cuda", "device_count": 4, "hosts_at_most": 2, **config})


def test_a_claim_takes_devices_of_both_hosts_or_none(make: MAKE, settings: Any, monkeypatch: Any) -> None:
    linked("here", slots=4, gpus=2)
    there = linked("there", slots=4, gpus=2)
    busy = make("running", name="large", host="there", heartbeat_at=timezone.now())
    hold(busy, there.devices.get(kind="gpu", index=1))
    gang, small = together(make), queued(make, "small", device="cuda")
    assert claim() is None
    assert claim("there") is None, "the free ones are kept for the gang"
    assert not RunShare.objects.exists()
    assert why_waiting(gang) == (
        "It needs 4 free GPUs of one kind on up to 2 hosts; 3 are free there. Free GPUs are reserved for this run. "
        "cuda:1 on there is used by “large”."
    )
    assert {waiting.name for waiting in next_by_device().values()} == {"gang"}
    busy.transition("completed")
    run = claim("there")
    assert run == gang
    assert (run.host, run.device) == ("there", "cuda:0 … here/cuda:1")
    shares = list(RunShare.objects.order_by("node_rank"))
    assert [(share.host, share.attempt, share.worker) for share in shares] == [
        ("there", 1, "there:1:2"),
        ("here", 1, ""),
    ]
    assert run.hosts == ["there", "here"]
    ranks = [(device.host.name, device.torch_name) for device in rank_devices(run.holds.all())]
    assert ranks == [("there", "cuda:0"), ("there", "cuda:1"), ("here", "cuda:0"), ("here", "cuda:1")]
    assert "is used by" in why_waiting(small)
    settings.CLUSTER_INTERFACE = "lo"
    run.folder.mkdir(parents=True)
    write_config(run)
    written = json.loads((run.folder / "config.json").read_text())
    assert written["hosts"] == ["there", "there", "here", "here"]
    assert (written["address"], written["interface"]) == ("127.0.0.1", "lo")
    assert written["devices"] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    run.transition("completed")
    assert not DeviceHold.objects.filter(released_at=None).exists()
    assert not RunShare.objects.filter(ended_at=None).exists()


def test_one_that_stays_on_one_host_has_no_shares(make: MAKE) -> None:
    linked("here", slots=4, gpus=2)
    linked("there", slots=4, gpus=2)
    assert together(make, device_count=4, hosts_at_most=1) is not None
    assert claim() is None
    TrainingRun.objects.all().delete()
    run = together(make, device_count=2)
    assert claim() == run
    assert not RunShare.objects.exists(), "one host has enough"
    run.refresh_from_db()
    assert run.hosts == ["here"]
    run.folder.mkdir(parents=True)
    write_config(run)
    assert "hosts" not in json.loads((run.folder / "config.json").read_text())


def test_it_starts_on_one_host_where_it_may(make: MAKE) -> None:
    linked("here", slots=4, gpus=2)
    linked("there", slots=4, gpus=2, away=True)
    gang = together(make, devices_at_least=2)
    assert claim() == gang
    assert not RunShare.objects.exists()


@pytest.mark.parametrize(
    ("addresses", "config", "reason"),
    [
        (("a", "b"), {"device_count": 5}, "No hosts that can train together have 5 GPUs of one kind on up to 2 hosts."),
        (
            ("a", ""),
            {"device_count": 4},
            "No hosts that can train together have 4 GPUs of one kind on up to 2 hosts. Hosts without the setting "
            "CLUSTER_INTERFACE are left out.",
        ),
    ],
)
def test_why_none_can_train_it(make: MAKE, addresses: tuple[str, str], config: dict[str, Any], reason: str) -> None:
    for name, address in zip(("here", "there"), addresses, strict=True):
        machine(name, slots=8, gpus=2, address=address)
    gang = together(make, accumulation_steps=8, **config)
    assert claim() is None
    assert why_waiting(gang) == reason


def test_a_gpu_that_cannot_be_used_is_named_and_blocks_nobody(make: MAKE) -> None:
    linked("here", slots=4, gpus=2)
    there = linked("there", slots=4, gpus=2)
    there.devices.filter(kind="gpu", index=1).update(quarantined_at=timezone.now(), quarantine_cause="manual")
    gang, small = together(make), queued(make, "small", device="cuda")
    assert claim() == small
    assert "2 are free there. cuda:1 on there cannot be used now." in why_waiting(gang)


def test_each_slot_on_another_host_needs_a_batch_of_each_step(make: MAKE) -> None:
    linked("here", slots=2)
    linked("there", slots=2)
    together(make, device="cpu", device_count=4, accumulation_steps=3)
    run = claim()
    assert run is not None
    assert sorted(DeviceHold.objects.values_list("slots", flat=True)) == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_workers_of_both_hosts_give_no_part_of_a_gang(user: User, dataset: Dataset) -> None:
    for name in ("one", "two", "three"):
        linked(name, slots=8, gpus=3)
    config = asking(device="cuda", device_count=4, accumulation_steps=4, hosts_at_most=2)
    runs = [
        TrainingRun(name="r", owner=user, dataset=dataset, config=config, status="queued", queue_rank=rank)
        for rank in range(6)
    ]
    TrainingRun.objects.bulk_create(runs)

    def claim_all(host: str, number: int) -> int:
        count = 0
        while claim_next(host, f"{host}:{number}:1") is not None:
            count += 1
        return count

    hosts = ["one", "two", "three"] * 2
    counts = in_threads([lambda host=host, pid=pid: claim_all(host, pid) for pid, host in enumerate(hosts)])
    assert sum(counts) == 2, "of nine GPUs"
    held = DeviceHold.objects.filter(released_at=None)
    assert len(set(held.values_list("device", flat=True))) == held.count() == 8
    assert RunShare.objects.count() == 4
