"""What the form of a new run says about its schedule and its start while it is filled in."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.machines import machine
from tests.views.test_preflight import values
from trainingapp.models import Dataset, Device, Host, TrainingRun

pytestmark = pytest.mark.django_db


def outlook(client: Client, entries: dict[str, Any]) -> str:
    response = client.post(reverse("run_outlook"), entries, headers={"HX-Request": "true"})
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_schedule_is_drawn_for_the_settings(user_client: Client, dataset: Dataset) -> None:
    entries = values(dataset, learning_rate="0.5", epochs=10, scheduler="linear", warmup_epochs=0)
    text = outlook(user_client, entries)
    assert "highest 0.5" in text
    heights = [float(place.split(",")[1]) for place in re.findall('<polyline.*?points="(.+?)"', text)[0].split()]
    assert heights == sorted(heights)  # the rate falls: its line goes down
    constant = outlook(user_client, {**entries, "scheduler": "constant"})
    assert "highest 0.5, last 0.5" in constant
    assert not TrainingRun.objects.exists()


def test_the_start_follows_the_queue(user_client: Client, dataset: Dataset, make: Any) -> None:
    make("queued")
    text = outlook(user_client, values(dataset))
    assert re.search(r"Runs ahead in the queue</dt><dd>1</dd>", text)
    assert re.search(r"Would start</dt><dd>not known yet</dd>", text)  # no device has reported


@pytest.mark.parametrize(
    ("device", "num_workers", "reason"),
    [
        ("auto", "auto", "7 loader processes: of 16 cores, divided by 2 GPUs, one is left to the trainer"),
        ("cpu", "auto", "No loader processes: on a CPU"),
        ("auto", "3", None),
    ],
)
def test_the_loading_of_images_is_explained(
    user_client: Client, dataset: Dataset, device: str, num_workers: str, reason: str | None
) -> None:
    with_gpus(2, cores=16)
    text = outlook(user_client, values(dataset, device=device, num_workers=num_workers))
    assert (reason in text) if reason else ("Loading of images" not in text)


def with_gpus(count: int, *, cores: int) -> None:
    host = Host.objects.create(name="here", cpu_cores=cores, memory_bytes=1 << 36, seen_at=timezone.now())
    Device.objects.create(host=host, kind="cpu", memory_bytes=1 << 36)
    for index in range(count):
        Device.objects.create(host=host, kind="gpu", index=index, memory_bytes=1 << 34, usable_at=timezone.now())


def test_settings_that_are_not_valid_yet_are_no_error(user_client: Client, dataset: Dataset) -> None:
    assert "once all settings are valid" in outlook(user_client, values(dataset, epochs=0))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"device_count": 2, "accumulation_steps": 4, "batch_size": 2},
            "2 devices share the 4 batches",
        ),
        ({"device_count": 2, "batch_size": 3}, "too few batches (1) for 2 devices"),
        ({"device_count": 9, "accumulation_steps": 9}, "No host has 9 CPU slots."),
        ({}, ""),
    ],
)
def test_several_devices_are_explained(
    user_client: Client, dataset: Dataset, changes: dict[str, Any], text: str
) -> None:
    machine(slots=3)
    found = outlook(user_client, values(dataset, device="cpu", **changes))
    assert text in found
    assert ("<dt>Devices</dt>" in found) == bool(text)
