"""Names of version 0.1 are accepted for one release."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from tests.api.conftest import Api
from tests.helpers.library import make_entry
from trainingapp.models import Dataset, Job, TrainingRun


@pytest.fixture(autouse=True)
def folders(tmp_path: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEIGHTS_DIR, settings.JOBS_DIR = tmp_path / "weights", tmp_path / "jobs"
    monkeypatch.setattr("trainingapp.worker.tasks.do_jobs", lambda lane: None)  # no worker: the job stays waiting


def test_a_run_is_created_with_a_recipe(api: Api, dataset: Dataset) -> None:
    config = {"recipe": "classification", "epochs": 3}
    created = api.post("training/", {"name": "old script", "dataset": dataset.pk, "config": config})
    assert created.status_code == 201, created.content
    run = TrainingRun.objects.get(pk=created.json()["id"])
    assert (run.task, run.config["task"], "recipe" in run.config) == ("classification", "classification", False)


@pytest.mark.parametrize("path", ["training/", "datasets/", "weights/"])
def test_lists_are_filtered_by_recipe(api: Api, dataset: Dataset, path: str) -> None:
    assert api.get(f"{path}?recipe=segmentation").json()["items"] == []
    assert api.get(f"{path}?recipe=nonsense").status_code == 422
    assert api.get(f"{path}?recipes=classification").status_code == 422


def test_images_are_sent_as_pictures(api: Api, user: User) -> None:
    entry = make_entry(user, "classification", name="birds")
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(content, "PNG")
    pictures = [SimpleUploadedFile(f"{number}.png", content.getvalue()) for number in range(2)]
    sent = api.client.post(f"/api/v1/weights/{entry.pk}/predict", {"pictures": pictures})
    assert sent.status_code == 202, sent.content
    assert [image["name"] for image in Job.objects.get().params["images"]] == ["0.png", "1.png"]
