"""Pages of the models: what they show, permissions, and errors for invalid input."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from PIL import Image
from safetensors.torch import save_file

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.library import make_entry
from tests.helpers.tiny import make_run
from tests.weights.test_weights import state_of
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun, Weights
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def library_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    settings.WEIGHTS_DIR = tmp_path / "weights"
    no_worker(monkeypatch)


@pytest.fixture
def entry(user: User) -> Weights:
    return make_entry(user)


@pytest.fixture
def saved(run: TrainingRun) -> Checkpoint:
    return Checkpoint.objects.create(
        run=run, file="epoch_1.pt", attempt=1, epoch=1, step=9, reason="epoch", size_bytes=1, sha256="",
        metrics={"top1": 0.9}, is_best=True, is_last=True, created_at=timezone.now(),
    )  # fmt: skip


def image(size: tuple[int, int] = (40, 30)) -> SimpleUploadedFile:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return SimpleUploadedFile("red.png", file.getvalue(), "image/png")


PAGES = ["weights_detail", "weights_export", "weights_try", "weights_download", "weights_edit", "weights_delete"]


@pytest.mark.parametrize("name", PAGES)
def test_anonymous_users_see_nothing(client: Client, entry: Weights, name: str) -> None:
    response = client.get(reverse(name, args=[entry.pk]))
    assert (response.status_code, response["Location"].startswith("/login/")) == (302, True)


@pytest.mark.parametrize(("name", "status"), list(zip(PAGES, (200,) * 4 + (403,) * 2, strict=True)))
def test_other_users_may_use_but_not_change_a_model(
    client: Client, other_user: User, entry: Weights, name: str, status: int
) -> None:
    client.force_login(other_user)
    assert client.get(reverse(name, args=[entry.pk])).status_code == status
    if status == 403:
        assert client.post(reverse(name, args=[entry.pk]), {"name": "taken"}).status_code == 403
        entry.refresh_from_db()
        assert entry.name == "tints"


def test_an_empty_list_explains_the_next_step(user_client: Client) -> None:
    html = user_client.get("/weights/").content.decode()
    assert "No models yet" in html
    assert reverse("weights_upload") in html


def test_the_list_is_a_tree_that_can_be_searched(user_client: Client, user: User) -> None:
    parent = make_entry(user, name="birds", metrics={"top1": 0.9})
    make_entry(user, name="aaa", parent=parent)
    make_entry(user, "detection", name="zebras")
    html = user_client.get("/weights/").content.decode()
    assert html.index("birds") < html.index("aaa")
    assert "tree-1" in html
    assert "from birds v1" in html
    assert "90.0 %" in html
    part = user_client.get("/weights/?task=detection", headers={"HX-Request": "true", "HX-Target": "weights"})
    text = part.content.decode()
    assert ("zebras" in text, "birds" in text, "<html" in text) == (True, False, False)
    assert "No matching models" in user_client.get("/weights/?q=nothing").content.decode()


def test_a_checkpoint_is_saved_from_the_page_of_its_run(user_client: Client, saved: Checkpoint) -> None:
    page = reverse("weights_save", args=[saved.run_id])
    assert page in user_client.get(saved.run.get_absolute_url()).content.decode()
    assert "epoch_1.pt, epoch 1 (best)" in user_client.get(page).content.decode()
    wrong = user_client.post(page, {"file": "epoch_1.pt", "name": ""})
    assert (wrong.status_code, "This field is required" in wrong.content.decode()) == (422, True)
    assert user_client.post(page, {"file": "epoch_9.pt", "name": "Pets"}).status_code == 422
    response = user_client.post(page, {"file": "epoch_1.pt", "name": "Pets", "note": "", "licence": "CC0"})
    weights = Weights.objects.get()
    assert response["Location"] == weights.get_absolute_url()
    assert (weights.licence, weights.state) == ("CC0", "pending")
    html = user_client.get(weights.get_absolute_url()).content.decode()
    assert "A worker is writing the file" in html
    assert "every 1500ms" in html


def test_a_run_without_a_checkpoint_shows_an_empty_state(user_client: Client, run: TrainingRun) -> None:
    assert "No checkpoint to save" in user_client.get(reverse("weights_save", args=[run.pk])).content.decode()


def test_a_run_of_another_user_cannot_be_saved(client: Client, other_user: User, saved: Checkpoint) -> None:
    client.force_login(other_user)
    page = reverse("weights_save", args=[saved.run_id])
    assert client.post(page, {"file": "epoch_1.pt", "name": "Pets"}).status_code == 403
    assert not Weights.objects.exists()


UPLOAD = {
    "name": "mine",
    "task": "classification",
    "architecture": "mobilenet_v3_small",
    "image_size": "32",
    "normalisation": "imagenet",
    "classes": "blue\nred\n",
}


def test_an_upload_becomes_a_model(user_client: Client, tmp_path: Path) -> None:
    save_file(state_of(), tmp_path / "w.safetensors")
    file = SimpleUploadedFile("w.safetensors", (tmp_path / "w.safetensors").read_bytes())
    response = user_client.post("/weights/upload/", {**UPLOAD, "file": file})
    weights = Weights.objects.get()
    assert response["Location"] == weights.get_absolute_url()
    work_off()
    html = user_client.get(weights.get_absolute_url()).content.decode()
    assert "Matching weights" in html
    assert "Try" in html


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "nothing"}, "Unknown architecture for this task"),
        ({"classes": "one"}, "Too few classes for this task (at least 2)"),
        ({"classes": "one\none"}, "Two classes have the same name"),
        ({"image_size": "33"}, "Must be a multiple of 32"),
        ({"name": ""}, "This field is required"),
        ({}, "header is missing"),
    ],
)
def test_an_invalid_upload_names_the_field(
    user_client: Client, settings: Any, changes: dict[str, str], words: str
) -> None:
    before = set(Path(settings.UPLOADS_DIR).iterdir())
    file = SimpleUploadedFile("w.safetensors", b"no such thing at all")
    response = user_client.post("/weights/upload/", {**UPLOAD, **changes, "file": file})
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not Weights.objects.exists()
    response.close()
    assert set(Path(settings.UPLOADS_DIR).iterdir()) == before


def test_name_note_and_licence_can_be_changed(user_client: Client, entry: Weights) -> None:
    page = reverse("weights_edit", args=[entry.pk])
    user_client.post(page, {"name": "dyes", "note": "two\nlines", "licence": "CC0"})
    entry.refresh_from_db()
    assert (entry.name, entry.licence) == ("dyes", "CC0")
    assert "two<br>lines" in user_client.get(entry.get_absolute_url()).content.decode()
    assert user_client.post(page, {"name": "", "note": "", "licence": ""}).status_code == 422


def test_the_deletion_page_shows_exact_bytes_and_uses(user_client: Client, user: User, entry: Weights) -> None:
    child = make_entry(user, name="child", parent=entry)
    page = reverse("weights_delete", args=[entry.pk])
    html = user_client.get(page).content.decode()
    assert f" {entry.size_bytes:,} bytes)" in html
    assert child.get_absolute_url() in html
    assert user_client.post(page)["Location"] == "/weights/"
    assert (Weights.objects.get(), entry.folder.exists()) == (child, False)


def test_models_in_use_are_not_deleted(user_client: Client, user: User, entry: Weights, tints: Dataset) -> None:
    make_run(user, tints, "waiting", start_from=entry.start_name)
    page = reverse("weights_delete", args=[entry.pk])
    assert "will start from this model" in user_client.get(page).content.decode()
    user_client.post(page)
    assert entry.path.exists()


def test_the_file_can_be_downloaded(user_client: Client, entry: Weights) -> None:
    response = user_client.get(reverse("weights_download", args=[entry.pk]))
    assert response["X-Checksum-SHA256"] == entry.sha256
    assert response["Content-Disposition"] == 'attachment; filename="tints-v1.safetensors"'
    assert int(response["Content-Length"]) == entry.size_bytes


def test_a_run_can_start_from_a_model(user_client: Client, entry: Weights, tints: Dataset) -> None:
    html = user_client.get(f"/runs/new/?task=classification&weights={entry.pk}").content.decode()
    assert f'<option value="weights/{entry.pk}" selected>' in html
    assert "Model: tints v1 (mobilenet_v3_small)" in html
    assert '<option value="mobilenet_v3_small" selected>' in html


def test_an_export_is_polled_and_downloaded(user_client: Client, other_user: User, entry: Weights) -> None:
    page = reverse("weights_export", args=[entry.pk])
    assert user_client.post(page, {}).status_code == 422
    assert user_client.post(page, {"formats": ["gif"]}).status_code == 422
    followed = user_client.post(page, {"formats": ["pt", "safetensors"]})["Location"]
    assert "Waiting for a worker" in user_client.get(followed).content.decode()
    job = work_off()
    html = user_client.get(followed).content.decode()
    assert "identical bit by bit" in html
    assert "because the dataset no longer exists" in html
    file = reverse("job_file", args=[job.pk, "export.zip"])
    assert file in html
    response = user_client.get(file)
    assert (response.status_code, response["X-Checksum-SHA256"]) == (200, job.result["sha256"])
    stranger = Client()
    stranger.force_login(other_user)
    assert stranger.get(file).status_code == 404
    assert "Exports compared with PyTorch" in user_client.get(entry.get_absolute_url()).content.decode()


def test_an_export_is_found_again_on_the_pages_of_its_model(
    user_client: Client, other_user: User, entry: Weights
) -> None:
    page = reverse("weights_export", args=[entry.pk])
    user_client.post(page, {"formats": ["pt", "safetensors"]})
    waiting = user_client.get(entry.get_absolute_url()).content.decode()
    assert "Your exports" in waiting
    assert "export.zip" not in waiting
    job = work_off()
    file = reverse("job_file", args=[job.pk, "export.zip"])
    for address in (entry.get_absolute_url(), page):
        html = user_client.get(address).content.decode()
        assert file in html
        assert f"{page}?job={job.pk}" in html
    stranger = Client()
    stranger.force_login(other_user)
    assert "Your exports" not in stranger.get(entry.get_absolute_url()).content.decode()


def test_export_options_are_passed_to_the_job(user_client: Client, entry: Weights) -> None:
    page = reverse("weights_export", args=[entry.pk])
    assert "Non-maximum suppression inside the model" not in user_client.get(page).content.decode()
    chosen = {"formats": ["onnx"], "batch": "dynamic", "size": "dynamic", "opset": "13", "half": "on"}
    assert user_client.post(page, chosen).status_code == 302
    options = {"batch": "dynamic", "size": "dynamic", "opset": 13, "half": True, "nms": False}
    assert Job.objects.get(kind=Job.Kind.EXPORT).params["options"] == options
    work_off()
    html = user_client.get(entry.get_absolute_url()).content.decode()
    assert "dynamic batch size · dynamic height and width · opset 13 · weights in half precision" in html
    assert "Compared with PyTorch with the same rounded weights." in html
    assert user_client.post(page, {"formats": ["onnx"], "opset": "24"}).status_code == 422


def test_a_detector_offers_nms_for_single_images(user_client: Client, user: User) -> None:
    page = reverse("weights_export", args=[make_entry(user, "detection").pk])
    html = user_client.get(page).content.decode()
    assert "Non-maximum suppression inside the model" in html
    assert '<option value="20">' in html
    assert '<option value="21">' not in html
    refused = user_client.post(page, {"formats": ["onnx"], "nms": "on", "batch": "dynamic"})
    assert (refused.status_code, "one image at a time" in refused.content.decode()) == (422, True)
    assert not Job.objects.filter(kind=Job.Kind.EXPORT).exists()
    assert user_client.post(page, {"formats": ["onnx"], "nms": "on"}).status_code == 302
    assert Job.objects.get(kind=Job.Kind.EXPORT).params["options"]["nms"] is True


@pytest.mark.parametrize(
    "task",
    [
        "detection",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("classification", "segmentation", "instances")),
    ],
)
def test_images_are_predicted(user_client: Client, user: User, other_user: User, task: str) -> None:
    entry = make_entry(user, task, name=task)
    page = reverse("weights_try", args=[entry.pk])
    assert user_client.get(page).status_code == 200
    response = user_client.post(page, {"images": [image(), image()]})
    job = Job.objects.get()
    assert response["Location"] == reverse("job", args=[job.pk])
    work_off()
    html = user_client.get(response["Location"]).content.decode()
    assert "2 images" in html
    assert "red.png" in html
    data = user_client.get(reverse("job_boxes", args=[job.pk])).json()
    assert (data["classes"], len(data["images"])) == (entry.classes, 2)
    shown = user_client.get(reverse("job_image", args=[job.pk, "shown/0.webp"]))
    assert (shown.status_code, shown["Content-Type"]) == (200, "image/webp")
    if task == "segmentation":
        mask = user_client.get(reverse("job_image", args=[job.pk, "masks/0.png"]))
        with Image.open(io.BytesIO(mask.content)) as drawn:
            assert (drawn.mode, drawn.size) == ("RGB", (64, 48))
    kept = user_client.get(reverse("job_file", args=[job.pk, "predictions.json"]))
    assert int(kept["Content-Length"]) == (job.folder / "predictions.json").stat().st_size
    assert json.loads((job.folder / "predictions.json").read_text())["weights"]["name"] == task
    stranger = Client()
    stranger.force_login(other_user)
    for address in (reverse("job", args=[job.pk]), reverse("job_boxes", args=[job.pk])):
        assert stranger.get(address).status_code == 404
    for path in ("job.json", "../job.json", "shown/9.webp", "images/0", "log.txt"):
        assert user_client.get(f"/jobs/{job.pk}/images/{path}").status_code == 404


def test_invalid_images_are_refused_with_a_reason(user_client: Client, entry: Weights) -> None:
    page = reverse("weights_try", args=[entry.pk])
    response = user_client.post(page, {"images": [SimpleUploadedFile("a.txt", b"hello")]})
    assert response.status_code == 422
    assert "a.txt is not a supported image" in response.content.decode()
    part = user_client.post(page, headers={"HX-Request": "true"})
    assert (part.status_code, "at least one image" in part.content.decode()) == (422, True)


def test_a_dataset_is_predicted(user_client: Client, entry: Weights, tints: Dataset) -> None:
    page = reverse("weights_predict_many", args=[entry.pk])
    assert "Choose a dataset" in user_client.post(page, {}).content.decode()
    response = user_client.post(page, {"dataset": tints.pk, "split": "val"})
    work_off()
    html = user_client.get(response["Location"]).content.decode()
    assert "12 images of tints were predicted" in html
    assert "Top-1" in html


def test_a_model_that_is_not_ready_offers_no_predictions(user_client: Client, entry: Weights) -> None:
    Weights.objects.filter(pk=entry.pk).update(report={"is_whole": False})
    html = user_client.get(entry.get_absolute_url()).content.decode()
    assert reverse("weights_try", args=[entry.pk]) not in html
    assert user_client.post(reverse("weights_try", args=[entry.pk]), {"images": [image()]}).status_code == 422
    assert user_client.post(reverse("weights_export", args=[entry.pk]), {"formats": ["pt"]}).status_code == 422
    assert not weights_verbs.weights_uses(entry).runs
