"""What the form of a new run says about its schedule and its start while it is filled in."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.views.test_preflight import values
from trainingapp.models import Dataset, TrainingRun

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


def test_settings_that_are_not_valid_yet_are_no_error(user_client: Client, dataset: Dataset) -> None:
    assert "once all settings are valid" in outlook(user_client, values(dataset, epochs=0))
