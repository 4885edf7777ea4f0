"""A task that is registered from this folder alone works everywhere: the studio has no other list of tasks."""

import io
import os
import random
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from PIL import Image
from safetensors.torch import load_file

from tests.helpers.images import make_run_dir
from tests.helpers.jobs import engine, no_worker, work_off
from tests.helpers.trainers import EndAfter, Trainer, assert_same_result, change_order, last_status, train_here
from tests.tasks import grading
from trainingapp.api.openapi import query_names, schema_of
from trainingapp.contract.config import parse_config
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.tasks.registry import METRICS, TASKS, VARIABLE, register
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset, Job, TrainingRun
from trainingapp.runs.evaluations import read
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, supervise, worker_id
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db(transaction=True)

GRADES = ["1", "2", "3", "4"]
TINY = {"task": "grading", "model": "tiny_grader", "epochs": 2, "device": "cpu", "cpu_threads": 1, "log_every_steps": 1}


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The task in this process, as if it had started with the setting, and in all processes that it starts."""
    monkeypatch.setenv(VARIABLE, "tests.tasks.grading")
    before = dict(TASKS), dict(METRICS)
    register(grading.TASK)
    forget_processes_and_document()
    yield
    forget_processes_and_document()
    for table, content in zip((TASKS, METRICS), before, strict=True):
        table.clear()
        table.update(content)


def forget_processes_and_document() -> None:
    """The engine of jobs and the API document do not know of a change of the tasks after their start."""
    engine.drop()
    schema_of.cache_clear()
    query_names.cache_clear()


@pytest.fixture(autouse=True)
def studio_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR, settings.WEIGHTS_DIR = tmp_path / "jobs", tmp_path / "weights"
    settings.UPLOADS_DIR = tmp_path / "uploads"
    no_worker(monkeypatch)
    monkeypatch.setattr("trainingapp.worker.tasks.start_training", lambda: None)


def graded_image(grade: int, seed: int) -> Image.Image:
    """Noise that is brighter the higher the grade."""
    noise = np.random.default_rng(seed).integers(-30, 30, (32, 32, 3))
    return Image.fromarray(np.clip(60 * grade + 30 + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def graded(user: User, tmp_path: Path) -> Dataset:
    """Folders named for grades, imported as a user would."""
    for split, count in (("train", 8), ("val", 3)):
        for grade, name in enumerate(GRADES):
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                graded_image(grade, zlib.crc32(f"{split} {grade} {number}".encode())).save(folder / f"{number}.png")
    dataset = Dataset.objects.create(name="Graded", owner=user, source=str(tmp_path / "source"))
    run_import(dataset)
    dataset.refresh_from_db()
    assert dataset.status == "ready", dataset.report
    return dataset


@pytest.fixture
def trained(user_client: Client, graded: Dataset) -> TrainingRun:
    """A run that was ordered on the page and trained by a real trainer process."""
    page = user_client.get(reverse("run_new"), {"task": "grading"})
    form = page.context["form"]
    values = {name: form[name].value() for name in form.fields}
    values = {name: value for name, value in values.items() if value is not None and value is not False}
    response = user_client.post(
        reverse("run_new"), {**values, **TINY, "name": "Grades", "dataset": graded.pk, "start": "1"}
    )
    assert response.status_code == 302, response.context["form"].errors
    run = claim_next(HOST, worker_id())
    assert run is not None
    supervise(run)
    run.refresh_from_db()
    assert run.status == "completed", run.error_message
    return run


def work() -> Job:
    job = work_off()
    assert job.state == "done", job.message
    return job


# Registering


def test_a_process_that_starts_with_the_setting_knows_the_task() -> None:
    code = (
        "import sys; from trainingapp.contract.config import parse_config; from trainingapp.contract.tasks.registry"
        " import TASKS; print(*TASKS, parse_config({'task': 'grading'}).focus, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "classification",
        "detection",
        "segmentation",
        "instances",
        "grading",
        "1.0",
        "False",
    ]


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import trainingapp.contract.tasks.registry"
    env = {**os.environ, VARIABLE: "tests.tasks.missing"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "tests.tasks.missing" in done.stderr


def test_names_are_unique_and_metrics_consistent() -> None:
    with pytest.raises(ValueError, match="grading is registered twice"):
        register(grading.TASK)
    del TASKS["grading"]
    odd = replace(grading.TASK, metrics={**grading.TASK.metrics, "top1": Metric("Top", higher_is_better=False)})
    with pytest.raises(ValueError, match="define the metrics top1 differently"):
        register(odd)
    assert "grading" not in TASKS


def test_a_descriptor_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown metrics accuracy"):
        replace(grading.TASK, quality_chart=(("accuracy", "val"),))
    with pytest.raises(ValueError, match="the task of its configuration is 'grading'"):
        replace(grading.TASK, name="ranking")


# In the studio


def test_the_import_finds_that_labels_suffice(graded: Dataset) -> None:
    assert (graded.tasks, graded.classes) == (["classification", "grading"], GRADES)
    assert graded.images == {"train": 32, "val": 12}


def test_the_form_of_a_new_run_has_its_tab_and_its_fields(graded: Dataset, user_client: Client) -> None:
    response = user_client.get(reverse("run_new"), {"task": "grading"})
    page = response.content.decode()
    for text in ("bi-star-half", "A grade for each image", "Focus on large errors", "Within one grade", "tiny_grader"):
        assert text in page, text
    assert dict(response.context["form"].fields["dataset"].choices)[graded.pk] == "Graded"


def test_the_api_describes_and_checks_it(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    assert document["GradingConfig"]["properties"]["focus"]["maximum"] == 4
    assert "grading" in document["WeightsCreate"]["properties"]["task"]["enum"]
    config = parse_config({"task": "grading", "model": "small_grader"})
    assert (config.model_dump()["focus"], config.learning_rate) == (1.0, 0.002)


def test_it_trains_and_its_pages_show_it(trained: TrainingRun, user_client: Client) -> None:
    assert (trained.task, trained.epoch, trained.best_metric_name) == ("grading", 2, "mean_error")
    assert {"train/loss", "val/mean_error", "val/within_one"} <= trained.metrics.keys()
    page = user_client.get(reverse("run_detail", args=[trained.pk])).content.decode()
    for text in ("Grading", "Mean error in grades", "Within one grade"):
        assert text in page, text
    found = read(trained, 2)
    assert (found.kind, found.score, len(found.predictions)) == ("classes", "mean_error", 12)
    shown = {
        "metrics": "Within one grade",
        "confusion": 'class="matrix"',
        "notable": 'id="notable"',
        "images": 'class="guess',
    }
    for part, text in {**shown, "classes": "Per class"}.items():
        page = user_client.get(reverse("evaluation", args=[trained.pk]), {"show": part}).content.decode()
        assert text in page, part
    assert user_client.get(reverse("evaluation_csv", args=[trained.pk, 2, "classes"])).status_code == 200


def test_it_is_exported_and_predicts(trained: TrainingRun, user: User, user_client: Client) -> None:
    weights = weights_verbs.save_weights(trained, name="Grades", by=user)
    work()
    weights.refresh_from_db()
    weights_verbs.export_weights(weights, formats=["onnx", "pt2", "pt"], by=user)
    job = work()
    outcomes = job.result["formats"]
    assert all(outcome["is_good"] for outcome in outcomes.values()), outcomes
    assert outcomes["onnx"]["difference"] <= 1e-4
    with zipfile.ZipFile(job.folder / job.result["file"]) as archive:
        assert "a probability for each grade" in archive.read("README.md").decode()
        archive.extractall(job.folder / "out")
    state = torch.load(job.folder / "out" / "weights.pt", weights_only=True)
    assert all(torch.equal(state[name], tensor) for name, tensor in load_file(weights.path).items())
    image = job.folder / "bright.png"
    graded_image(3, 7).save(image)
    done = subprocess.run(
        [sys.executable, "predict.py", image], cwd=job.folder / "out", capture_output=True, text=True, check=True
    )
    assert '"classes": [{"class": "' in done.stdout

    file = io.BytesIO(image.read_bytes())
    job = weights_verbs.predict(weights, images=[("bright.png", file)], by=user)
    assert work().pk == job.pk
    page = user_client.get(reverse("job", args=[job.pk])).content.decode()
    assert page.count('class="guess guess-right"') == len(GRADES)
    job = weights_verbs.predict_dataset(weights, weights.dataset, split="val", by=user)
    measured = work()
    assert measured.result["values"].keys() == {"loss", "mean_error", "within_one"}
    assert user_client.get(reverse("job", args=[job.pk])).status_code == 200


# In the engine


@pytest.fixture
def run_dir(graded: Dataset, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **config: Any) -> Path:
        values = {**TINY, "epochs": 3, "augmentation": "medium", "autosave_minutes": 0, **config}
        return make_run_dir(tmp_path / name, graded.folder, **values)

    return make


@pytest.mark.long
def test_a_paused_run_equals_an_uninterrupted_one_bit_for_bit(run_dir: Callable[..., Path]) -> None:
    reference, paused = run_dir("straight"), run_dir("paused", num_workers=2)
    trainer = Trainer(reference, "--no-control")
    assert trainer.wait() == 0, trainer.log()
    looks = random.randint(1, 14)  # four steps, the end and two batches of validation in each of three epochs
    assert train_here(paused, EndAfter(looks)) == "paused", looks
    change_order(paused, num_workers=0)
    trainer = Trainer(paused, "--no-control")
    assert trainer.wait() == 0, trainer.log()
    assert last_status(paused)["state"] == "completed"
    assert_same_result(paused, reference)
