"""A batch before the run: asked for in the form, drawn by a worker's process."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.helpers.tiny import make_dataset
from trainingapp.contract.config import config_fields
from trainingapp.models import Dataset, TrainingRun
from trainingapp.supervision import batch_preview

HTMX = {"HX-Request": "true"}


def values(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    fields = config_fields("classification")
    defaults = {name: field.default for name, field in fields.items() if field.kind != "switch"}
    return {**defaults, "dataset": dataset.pk, "priority": 0, **changes}


@pytest.fixture
def files(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR, settings.DATASETS_DIR = tmp_path, tmp_path / "datasets"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that the worker is told; the test is the worker."""
    told: list[str] = []
    monkeypatch.setattr("trainingapp.runs.records.wakeups.draw_batch_preview", told.append)
    return told


@pytest.mark.django_db(transaction=True)
def test_the_batch_is_drawn_and_shown(files: None, user_client: Client, user: User, started: list[str]) -> None:
    dataset = make_dataset(user)
    response = user_client.post(reverse("batch_preview_start"), values(dataset), headers=HTMX)
    assert response.status_code == 200
    [preview_id] = started
    waiting = user_client.get(reverse("batch_preview", args=[preview_id]), headers=HTMX)
    assert b"hx-get" in waiting.content
    batch_preview.draw(preview_id)
    done = user_client.get(reverse("batch_preview", args=[preview_id]), headers=HTMX)
    assert b"hx-get" not in done.content
    assert reverse("batch_preview_image", args=[preview_id]).encode() in done.content
    image = user_client.get(reverse("batch_preview_image", args=[preview_id]))
    assert image.content.startswith(b"RIFF")
    assert not TrainingRun.objects.exists()
    plain = user_client.post(reverse("batch_preview_start"), values(dataset))
    assert plain.headers["Location"] == reverse("batch_preview", args=[started[-1]])


@pytest.mark.django_db(transaction=True)
def test_what_goes_wrong_is_said(files: None, user_client: Client, dataset: Dataset, started: list[str]) -> None:
    user_client.post(reverse("batch_preview_start"), values(dataset), headers=HTMX)
    batch_preview.draw(started[0])  # the dataset of this test has no files
    page = user_client.get(reverse("batch_preview", args=[started[0]]), headers=HTMX)
    assert b"the file is missing" in page.content
    assert b"hx-get" not in page.content


def test_wrong_values_are_named(user_client: Client, dataset: Dataset, started: list[str]) -> None:
    response = user_client.post(reverse("batch_preview_start"), values(dataset, epochs=0), headers=HTMX)
    assert response.status_code == 422
    assert b"Epochs: Must be at least 1." in response.content
    assert not started


def test_old_previews_go_away(files: None, tmp_path: Path) -> None:
    import os

    preview_id = batch_preview.prepare({}, tmp_path, 1)
    batch_preview.remove_old()
    assert batch_preview.look(preview_id, 1) is not None
    os.utime(tmp_path / "previews" / preview_id, (1, 1))
    batch_preview.remove_old()
    assert batch_preview.look(preview_id, 1) is None


def test_others_get_nothing(client: Client, user_client: Client, dataset: Dataset) -> None:
    assert client.post(reverse("batch_preview_start"), values(dataset)).status_code == 302
    assert user_client.get(reverse("batch_preview_start")).status_code == 405
    assert user_client.get(reverse("batch_preview", args=["0" * 32])).status_code == 404
