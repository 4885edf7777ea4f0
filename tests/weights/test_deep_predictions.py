"""A model converts images of more than 8 bits by the scale of its dataset, wherever it predicts."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from django.test import Client
from PIL import Image
from safetensors import safe_open

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.library import make_entry
from tests.helpers.sources import write_tree
from tests.helpers.tiffs import tiff
from tests.helpers.tiny import make_run
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.messages.engine_jobs import CONVERSION_DIFFERS
from trainingapp.contract.storage.reading import open_checkpoint
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset, Weights
from trainingapp.models.verbs import VerbError
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, supervise, worker_id
from trainingapp.weights import verbs as weights_verbs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]
SIDE = 32
SCALE = {"low": 0, "high": 1023, "bits": 10}
TEN_BITS = {"integers": SCALE, "floats": None, "bands": None}


@pytest.fixture(autouse=True)
def library_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    settings.WEIGHTS_DIR = tmp_path / "weights"
    settings.DATASETS_DIR = tmp_path / "datasets"
    no_worker(monkeypatch)
    monkeypatch.setattr("trainingapp.worker.tasks.start_training", lambda: None)


def dark(label: int, number: int) -> bytes:
    """A PNG of 16 bits per pixel, with stripes in one of two directions: values up to 1,000, upper 8 bits 0 to 3."""
    rng = np.random.default_rng(10 * number + label)
    stripes = np.where(np.arange(SIDE) // 4 % 2, 900, 100)[:, None] + rng.integers(-90, 100, (SIDE, SIDE))
    values = stripes if label else stripes.T
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    names = {"down": 0, "across": 1}
    return write_tree(
        tmp_path / "source",
        {f"{name}/{number}.png": dark(label, number) for name, label in names.items() for number in range(8)},
    )


@pytest.fixture
def imported(user: User, source: Path) -> Dataset:
    dataset = Dataset.objects.create(name="dark", owner=user, source=str(source))
    run_import(dataset)
    assert dataset.is_ready, dataset.report
    return dataset


@pytest.fixture
def model(user: User, imported: Dataset) -> Weights:
    """A model that a real trainer has trained on the deep images."""
    settings = {"model": "timm/resnet10t", "image_size": 32, "batch_size": 4, "epochs": 3, "warmup_epochs": 0}
    run = make_run(user, imported, "Stripes", start=True, **settings, device="cpu", cpu_threads=1)
    claimed = claim_next(HOST, worker_id())
    assert claimed is not None
    supervise(claimed)
    run.refresh_from_db()
    assert run.status == "completed", run.error_message
    checkpoint = run.checkpoints.get(is_last=True)  # the best one may be of the first epoch
    assert open_checkpoint(checkpoint.path).content["conversion"] == TEN_BITS
    weights = weights_verbs.save_weights(run, file=checkpoint.file, name="Stripes", by=user)
    assert work_off().state == "done"
    weights.refresh_from_db()
    return weights


def shares(line: dict[str, Any]) -> dict[int, float]:
    return dict(line["classes"])


def tried(weights: Weights, by: User, *paths: Path) -> list[dict[str, Any]]:
    """What "Try it" finds in these images."""
    with ExitStack() as files:
        weights_verbs.predict(
            weights, images=[(path.name, files.enter_context(path.open("rb"))) for path in paths], by=by
        )
    job = work_off()
    assert job.state == "done", job.message
    found: list[dict[str, Any]] = json.loads((job.folder / "predictions.json").read_text())["images"]
    return found


def pairs(dataset: Dataset, source: Path) -> list[tuple[Path, Path]]:
    """(original, stored) of each image."""
    found = []
    for sample in read_index(dataset.folder).samples:
        stored = dataset.folder / sample.path
        name = stored.name.removesuffix(".png") if stored.name.endswith(".png.png") else stored.name
        found.append((source / stored.parent.name / name, stored))
    assert all(original.is_file() for original, _stored in found)
    return found


@pytest.mark.long
def test_an_original_file_is_predicted_as_the_stored_image_by_all_paths(
    model: Weights, imported: Dataset, source: Path, user: User, admin: User, client: Client, tmp_path: Path
) -> None:
    assert imported.reading["conversion"] == TEN_BITS
    assert model.conversion == model.card()["conversion"] == TEN_BITS
    with safe_open(model.path, "pt") as file:
        assert json.loads(file.metadata()["card"])["conversion"] == TEN_BITS
    client.force_login(user)
    assert "0 becomes 0, 1023 becomes 255" in client.get(model.get_absolute_url()).content.decode()

    # Try it. The scale matters: without it, the same network finds something else.
    original, stored = pairs(imported, source)[0]
    one, other = tried(model, user, original, stored)
    assert shares(one) == shares(other)
    Weights.objects.filter(pk=model.pk).update(conversion={})
    [without] = tried(Weights.objects.get(pk=model.pk), user, original)
    assert shares(without) != shares(one)
    assert "Images of more than 8 bits" not in client.get(model.get_absolute_url()).content.decode()

    # A folder of originals is predicted and measured as the dataset.
    lines, values = predicted_many(lambda: weights_verbs.predict_folder(model, source, by=admin, from_shell=True))
    expected = predicted_many(lambda: weights_verbs.predict_dataset(model, imported, split="all", by=admin))
    assert len(lines) == 16
    assert lines == expected[0]
    assert values == pytest.approx(expected[1], abs=1e-5)

    # The script of an export, in a folder of its own.
    weights_verbs.export_weights(model, formats=["onnx"], by=user)
    job = work_off()
    assert job.state == "done", job.message
    with zipfile.ZipFile(job.folder / "export.zip") as archive:
        assert {"predict.py", "deep_images.py", "tiff_bands.py"} <= set(archive.namelist())
        assert "the upper 8 of 10 bits are used" in archive.read("README.md").decode()
        assert not any(b"trainingapp" in archive.read(name) for name in archive.namelist() if name.endswith(".py"))
        archive.extractall(tmp_path / "out")
    command = [sys.executable, "predict.py", original, stored, "--out", "drawn"]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["classes"] for line in done.stdout.splitlines()]
    assert found[0] == found[1]
    by_class = {model.classes.index(row["class"]): row["probability"] for row in found[0]}
    assert by_class == pytest.approx(shares(one), abs=1e-3)
    with Image.open(tmp_path / "out" / "drawn" / "0.png") as image:
        assert np.asarray(image).max() > 200


def predicted_many(ask: Callable[[], object]) -> tuple[list[str], dict[str, float]]:
    """The predictions in the order of their texts, and the metrics."""
    ask()
    job = work_off()
    assert job.state == "done", job.message
    assert "notice" not in job.result
    lines = [json.loads(line) for line in (job.folder / "predictions.jsonl").read_text().splitlines()]
    return sorted(str(shares(line)) for line in lines), job.result["values"]


def test_a_dataset_of_another_scale_is_predicted_with_a_notice(user: User, imported: Dataset) -> None:
    other = make_entry(user, classes=imported.classes, conversion=TEN_BITS | {"integers": {**SCALE, "bits": 12}})
    weights_verbs.predict_dataset(other, imported, split="val", by=user)
    job = work_off()
    assert job.state == "done", job.message
    assert job.result["notice"] == str(CONVERSION_DIFFERS())
    assert job.result["values"]


def test_a_model_of_chosen_bands_takes_tiffs_that_pillow_does_not_open(user: User, tmp_path: Path) -> None:
    """The bands 5, 2 and 0 of six; the stored image of the dataset is such an RGB image."""
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE, 6)).astype("u2")
    whole, chosen = tmp_path / "bands.tif", tmp_path / "chosen.png"
    whole.write_bytes(tiff(values, packed=True))
    Image.fromarray((values[..., [5, 2, 0]] >> 4).astype(np.uint8)).save(chosen)
    twelve = {"low": 0, "high": 4095, "bits": 12}
    weights = make_entry(user, conversion={"integers": twelve, "floats": None, "bands": [5, 2, 0]})
    one, other = tried(weights, user, whole, chosen)
    assert shares(one) == shares(other)
    few = tmp_path / "few.tif"
    few.write_bytes(tiff(values[..., :5]))
    [problem] = tried(weights, user, few)
    assert "there is no band 5" in problem["problem"]
    weights = make_entry(user)
    with pytest.raises(VerbError, match=r"bands.tif is not a supported image"):
        tried(weights, user, whole)


def test_a_model_without_a_scale_uses_the_upper_bits(user: User, tmp_path: Path) -> None:
    deep, upper = tmp_path / "deep.png", tmp_path / "upper.png"
    deep.write_bytes(dark(0, 0))
    with Image.open(deep) as image:
        Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).save(upper)
    one, other = tried(make_entry(user), user, deep, upper)
    assert shares(one) == shares(other)
    assert torch.tensor(list(shares(one).values())).sum() == pytest.approx(1, abs=1e-3)
