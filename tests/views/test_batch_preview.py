"""A training batch before the run exists: requested in the form, drawn by a job."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.tiny import make_dataset
from trainingapp.contract.config import config_fields
from trainingapp.models import Dataset, Job, TrainingRun

HTMX = {"HX-Request": "true"}


def values(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    fields = config_fields("classification")
    defaults = {name: field.default for name, field in fields.items() if field.kind != "switch"}
    return {**defaults, "dataset": dataset.pk, "priority": 0, **changes}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR, settings.DATASETS_DIR = tmp_path / "jobs", tmp_path / "datasets"
    no_worker(monkeypatch)


@pytest.mark.django_db(transaction=True)
def test_the_batch_is_drawn_and_shown(user_client: Client, user: Any) -> None:
    dataset = make_dataset(user)
    response = user_client.post(reverse("batch_preview_start"), values(dataset), headers=HTMX)
    assert b"hx-get" in response.content
    job = work_off()
    assert (job.kind, job.state) == ("batch_preview", "done"), job.message
    done = user_client.get(reverse("job", args=[job.pk]), headers=HTMX)
    assert b"hx-get" not in done.content
    address = reverse("job_image", args=[job.pk, "batch.webp"])
    assert address.encode() in done.content
    assert user_client.get(address).content.startswith(b"RIFF")
    assert user_client.get(reverse("job_image", args=[job.pk, "job.json"])).status_code == 404
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_error_is_shown(user_client: Client, dataset: Dataset) -> None:
    user_client.post(reverse("batch_preview_start"), values(dataset), headers=HTMX)
    job = work_off()  # the dataset of this test has no files
    page = user_client.get(reverse("job", args=[job.pk]), headers=HTMX)
    assert b"the file is missing" in page.content
    assert b"hx-get" not in page.content


@pytest.mark.django_db
def test_it_can_be_cancelled(user_client: Client, dataset: Dataset) -> None:
    user_client.post(reverse("batch_preview_start"), values(dataset), headers=HTMX)
    job = Job.objects.get()
    page = user_client.post(reverse("job_cancel", args=[job.pk]), headers=HTMX)
    assert b"Cancelled." in page.content


def test_wrong_values_are_named(user_client: Client, dataset: Dataset) -> None:
    for headers in (HTMX, {}):
        response = user_client.post(reverse("batch_preview_start"), values(dataset, epochs=0), headers=headers)
        assert response.status_code == 422
        assert b"Epochs: Must be at least 1." in response.content
    assert not Job.objects.exists()


def test_it_works_without_javascript(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(reverse("batch_preview_start"), values(dataset))
    assert response.headers["Location"] == reverse("job", args=[Job.objects.get().pk])


def test_other_users_cannot_see_it(client: Client, user_client: Client, staff_client: Client, dataset: Dataset) -> None:
    assert client.post(reverse("batch_preview_start"), values(dataset)).status_code == 302
    assert not Job.objects.exists()
    assert user_client.get(reverse("batch_preview_start")).status_code == 405
