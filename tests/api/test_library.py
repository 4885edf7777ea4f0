"""Models: upload, change, predict; and pinned checkpoints."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from safetensors.numpy import save

from tests.api.conftest import Api, problem
from tests.helpers.library import make_entry
from tests.helpers.stored import stored
from trainingapp.models import AuditEntry, Dataset, Job, TrainingRun, Weights

pytestmark = pytest.mark.django_db
MAKE = Callable[..., TrainingRun]
ABOUT = {
    "name": "mine",
    "task": "classification",
    "architecture": "resnet18",
    "image_size": 64,
    "classes": ["cat", "dog"],
}
FILE = save({})


@pytest.fixture(autouse=True)
def folders_of_the_library(tmp_path: Path, settings: Any) -> None:
    settings.WEIGHTS_DIR, settings.JOBS_DIR = tmp_path / "weights", tmp_path / "jobs"


@pytest.fixture
def weights(user: User) -> Weights:
    return make_entry(user)


def uploaded(api: Api, content: bytes = FILE, content_type: str = "application/octet-stream", **changes: Any) -> Any:
    query = urlencode({**ABOUT, **changes}, doseq=True)
    return api.client.post(f"/api/v1/weights/upload?{query}", content, content_type=content_type)


def left_over(settings: Any) -> list[Path]:
    return list(settings.UPLOADS_DIR.iterdir())


# Uploading


def test_a_file_is_uploaded_and_checked_by_a_worker(api: Api, settings: Any, user: User) -> None:
    response = uploaded(api, licence="CC0", note="from elsewhere", normalisation="plain")
    body = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"/api/v1/weights/{body['id']}")
    assert (body["name"], body["version"], body["state"], body["source"]) == ("mine", 1, "pending", "upload")
    assert (body["classes"], body["licence"], body["image_size"]) == (["cat", "dog"], "CC0", 64)
    row = Weights.objects.get()
    assert row.job is not None
    assert (row.job.kind, row.owner) == ("check_weights", user)
    assert (row.job.folder / "upload.safetensors").read_bytes() == FILE
    assert not left_over(settings)


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        (b"no weights at all", {}, "not a safetensors file"),
        (b"\x1f\x8b compressed", {"format": "pt"}, "gzip"),
        (b"GGUF....", {"format": "pt"}, "GGUF"),
        (FILE, {"classes": ["one"]}, "Name the classes"),
        (FILE, {"classes": ["one", "one"]}, "same name"),
    ],
)
def test_a_refused_upload_has_a_reason_and_leaves_nothing(
    api: Api, settings: Any, content: bytes, changes: dict[str, Any], words: str
) -> None:
    assert words in problem(uploaded(api, content, **changes), 422, "not-weights")["detail"]
    assert not Weights.objects.exists()
    assert not left_over(settings)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"architecture": "resnet1"}, "architecture"),
        ({"image_size": 100}, "image_size"),
        ({"image_size": 4096}, "image_size"),
        ({"task": "regression"}, "task"),
        ({"normalisation": "none"}, "normalisation"),
        ({"format": "h5"}, "format"),
        ({"name": ""}, "name"),
        ({"licence": "x" * 201}, "licence"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, changes: dict[str, Any], name: str) -> None:
    assert problem(uploaded(api, **changes), 422)["errors"][0]["parameter"] == name


def test_forms_and_large_files_are_refused(api: Api, settings: Any) -> None:
    problem(uploaded(api, b"a=b", "application/x-www-form-urlencoded"), 415)
    settings.MAX_UPLOAD_BYTES = 3
    problem(uploaded(api), 413)
    assert not left_over(settings)


def test_the_same_key_uploads_once(api: Api) -> None:
    query = urlencode(ABOUT, doseq=True)
    for _time in range(2):
        response = api.client.post(
            f"/api/v1/weights/upload?{query}",
            FILE,
            content_type="application/octet-stream",
            headers={"Idempotency-Key": "mine-1"},
        )
        assert response.status_code == 201
    assert response.headers["Idempotent-Replayed"] == "true"
    assert Weights.objects.count() == 1


def test_an_upload_in_parts_is_used_once(api: Api, settings: Any) -> None:
    upload = api.post("uploads/", {"size": len(FILE)}).json()
    body = {**ABOUT, "upload": upload["id"]}
    assert problem(api.post("weights/", body), 422)["errors"][0]["pointer"] == "#/upload"
    headers = {"Content-Range": f"bytes 0-{len(FILE) - 1}/{len(FILE)}"}
    part = api.client.put(
        f"/api/v1/uploads/{upload['id']}", FILE, content_type="application/octet-stream", headers=headers
    )
    assert part.json()["is_complete"]
    assert api.post("weights/", body).status_code == 201
    problem(api.post("weights/", body), 422)
    assert not left_over(settings)
    assert problem(api.post("weights/", {**body, "architecture": "x"}), 422)["errors"][0]["pointer"] == "#/architecture"


# Changing


def test_the_description_of_a_model_is_changed(api: Api, weights: Weights) -> None:
    etag = api.get(f"weights/{weights.pk}").headers["ETag"]
    response = api.put(f"weights/{weights.pk}", {"note": "good", "licence": "CC0"}, If_Match=etag)
    assert (response.json()["note"], response.json()["licence"], response.json()["name"]) == ("good", "CC0", "tints")
    assert response.headers["ETag"] != etag
    renamed = api.put(f"weights/{weights.pk}", {"name": "birds"}, If_Match=response.headers["ETag"]).json()
    assert (renamed["name"], renamed["version"], renamed["note"]) == ("birds", 1, "good")
    assert AuditEntry.objects.filter(verb="change", kind="weights", source="api").count() == 2


def test_two_editors_do_not_overwrite_each_other(api: Api, weights: Weights) -> None:
    path = f"weights/{weights.pk}"
    etag = api.get(path).headers["ETag"]
    assert api.put(path, {"note": "first"}, If_Match=etag).status_code == 200
    refused = api.put(path, {"note": "second"}, If_Match=etag)
    problem(refused, 412)
    assert refused.headers["ETag"] == api.get(path).headers["ETag"]
    problem(api.put(path, {"note": "second"}), 428)
    for tag in (etag.strip('"'), f"{etag}x", '""', '"x"'):
        problem(api.put(path, {"note": "second"}, If_Match=tag), 412)
    assert api.put(path, {"note": "second"}, If_Match="*").json()["note"] == "second"


@pytest.mark.parametrize("body", [{"owner": "x"}, {"note": 3}, {"licence": "x" * 201}, {"name": ""}])
def test_other_fields_cannot_be_changed(api: Api, weights: Weights, body: dict[str, Any]) -> None:
    problem(api.put(f"weights/{weights.pk}", body, If_Match="*"), 422)


# Predicting


def image(name: str = "a.png") -> SimpleUploadedFile:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(content, "PNG")
    return SimpleUploadedFile(name, content.getvalue(), "image/png")


def test_images_become_a_job_with_a_result(api: Api, weights: Weights, user: User) -> None:
    response = api.client.post(f"/api/v1/weights/{weights.pk}/predict", {"images": [image("a.png"), image("b")]})
    body = response.json()
    assert (response.status_code, body["kind"], body["state"], body["total"]) == (202, "predict", "waiting", 2)
    job = Job.objects.get(pk=body["id"])
    assert [one["name"] for one in job.params["images"]] == ["a.png", "b"]
    assert job.owner == user
    problem(api.get(f"jobs/{job.pk}/files/predictions.json"), 404)
    (job.folder / "predictions.json").write_text(json.dumps({"images": []}))
    Job.objects.filter(pk=job.pk).update(state="done", result={"images": 2, "problems": 0})
    assert api.get(f"jobs/{job.pk}").json()["result"] == {"images": 2, "problems": 0}
    assert api.get(f"jobs/{job.pk}/files/predictions.json").status_code == 200


def test_a_file_that_is_not_an_image_is_refused(api: Api, weights: Weights) -> None:
    path = f"/api/v1/weights/{weights.pk}/predict"
    no_image = SimpleUploadedFile("a.png", b"text")
    assert "not a supported image" in problem(api.client.post(path, {"images": no_image}), 409)["detail"]
    assert problem(api.client.post(path, {}), 422)["errors"][0]["parameter"] == "images"
    many = {"images": [image() for _number in range(51)]}
    assert "At most 50" in problem(api.client.post(path, many), 409)["detail"]
    broken = api.client.post(path, b"no form", content_type="multipart/form-data; boundary=x")
    assert broken.status_code in (400, 422)
    nameless = api.client.post(path, b"no form", content_type="multipart/form-data")
    assert nameless.status_code == 400
    assert not Job.objects.exists()


def test_a_model_that_cannot_predict_is_refused(api: Api, weights: Weights) -> None:
    Weights.objects.update(state="pending")
    problem(api.client.post(f"/api/v1/weights/{weights.pk}/predict", {"images": image()}), 409, "not-possible")


def test_a_dataset_or_a_folder_becomes_a_job(
    api: Api, weights: Weights, tints: Dataset, tmp_path: Path, settings: Any
) -> None:
    path = f"weights/{weights.pk}/predict-many"
    body = api.post(path, {"dataset": tints.pk, "split": "all"}).json()
    assert (body["kind"], body["state"]) == ("predict_many", "waiting")
    problem(api.post(path, {"folder": str(tmp_path)}), 409)  # it may not be read
    settings.IMPORT_DIRS = [tmp_path]
    assert api.post(path, {"folder": str(tmp_path)}).status_code == 202
    for wrong in ({}, {"dataset": tints.pk, "folder": "/srv"}, {"dataset": 4711}, {"dataset": tints.pk, "split": "x"}):
        problem(api.post(path, wrong), 422)


def test_a_private_dataset_is_not_found(other_api: Api, weights: Weights, tints: Dataset) -> None:
    Dataset.objects.filter(pk=tints.pk).update(visibility="private")
    wrong = problem(other_api.post(f"weights/{weights.pk}/predict-many", {"dataset": tints.pk}), 422)
    assert wrong["errors"][0]["pointer"] == "#/dataset"


# Checkpoints


def test_a_checkpoint_is_pinned_and_unpinned(api: Api, make: MAKE) -> None:
    run = stored(make("stopped"))
    path = f"training/{run.pk}/checkpoints/epoch_2.pt"
    for is_pinned in (True, True, False):
        assert api.put(path, {"is_pinned": is_pinned}).json()["is_pinned"] is is_pinned
        assert api.get(path).json()["is_pinned"] is is_pinned
    assert [entry.verb for entry in AuditEntry.objects.filter(kind="checkpoint").order_by("pk")] == ["pin", "unpin"]
    api.put(path, {"is_pinned": True})
    assert "pinned" in problem(api.delete(path), 409)["detail"]
    for wrong in ({}, {"is_pinned": "yes"}, {"is_best": True}):
        problem(api.put(path, wrong), 422)
    problem(api.put(f"training/{run.pk}/checkpoints/epoch_9.pt", {"is_pinned": True}), 404)
