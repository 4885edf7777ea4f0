"""Datasets and uploads: single requests, resumable parts, folders; confirm, show, delete."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.api.conftest import Api, api_of, problem
from tests.helpers.annotated import coco_tree, csv_tree
from tests.helpers.annotated_pages import make_proposed, make_scenes
from tests.helpers.sources import two_classes, write_tree, write_zip
from trainingapp.datasets import uploads
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.models import Dataset, TrainingRun

pytestmark = pytest.mark.django_db


@pytest.fixture
def birds(tmp_path: Path) -> bytes:
    """A zip of two classes."""
    return write_zip(tmp_path / "birds.zip", two_classes()).read_bytes()


def upload(api: Api, content: bytes, name: str = "birds", content_type: str = "application/zip") -> Any:
    path = f"/api/v1/datasets/upload?name={name}"
    return api.client.post(path, content, content_type=content_type)


def kept(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


# List, look, delete


def test_datasets_are_listed_filtered_and_shown(api: Api, user: User, dataset: Dataset) -> None:
    scenes = make_scenes(user, "scenes")

    def listed(query: str) -> list[int]:
        return [item["id"] for item in api.get(f"datasets/?order=name&{query}").json()["items"]]

    assert listed("") == [dataset.pk, scenes.pk]
    assert listed("task=detection") == [scenes.pk]
    assert listed("q=PET&status=ready") == [dataset.pk]
    assert listed("status=refused") == []
    shown = api.get(f"datasets/{dataset.pk}").json()
    assert (shown["classes"], shown["images"], shown["owner"]) == (["blue", "red"], {"train": 8, "val": 4}, "ada")
    assert api.get(f"datasets/{scenes.pk}/statistics").json()["statistics"]["classes"]
    problem(api.get("datasets/4711"), 404)


def test_a_dataset_is_deleted_by_its_owner_when_no_run_uses_it(
    api: Api, other_api: Api, run: TrainingRun, dataset: Dataset
) -> None:
    path = f"datasets/{dataset.pk}"
    problem(other_api.delete(path), 403)
    problem(api.delete(path), 409, "not-possible")
    run.delete()
    assert api.delete(path).json() == {"bytes": 0, "files": 0}
    problem(api.delete(path), 404)


def test_a_private_dataset_is_not_found_by_other_users(other_api: Api, dataset: Dataset) -> None:
    Dataset.objects.update(visibility="private")
    for path in (f"datasets/{dataset.pk}", f"datasets/{dataset.pk}/statistics"):
        problem(other_api.get(path), 404)
    body = problem(other_api.post("training/", {"name": "mine", "dataset": dataset.pk}), 422)
    assert body["errors"][0]["pointer"] == "#/dataset"


# One request


def test_a_zip_is_uploaded_and_inspected(api: Api, birds: bytes, settings: Any) -> None:
    response = upload(api, birds)
    dataset = Dataset.objects.get()
    assert (response.status_code, response.headers["Location"]) == (201, f"/api/v1/datasets/{dataset.pk}")
    assert (dataset.status, dataset.source_is_upload, dataset.name) == ("inspecting", True, "birds")
    assert Path(dataset.source).read_bytes() == birds
    assert Path(dataset.source).parent == settings.UPLOADS_DIR


def test_an_upload_that_is_not_a_dataset_is_refused_and_removed(api: Api, settings: Any) -> None:
    body = problem(upload(api, b"not a zip"), 422, "not-a-dataset")
    assert body["errors"]
    assert kept(settings.UPLOADS_DIR) == []
    assert not Dataset.objects.exists()


def test_a_taken_name_is_a_conflict_and_nothing_is_stored(
    api: Api, birds: bytes, dataset: Dataset, settings: Any
) -> None:
    problem(upload(api, birds, name="pets"), 409, "not-possible")
    problem(upload(api, birds, name=""), 422)
    assert kept(settings.UPLOADS_DIR) == []


def test_an_upload_that_is_too_large_or_of_another_type_is_refused(api: Api, birds: bytes, settings: Any) -> None:
    problem(upload(api, birds, content_type="text/plain"), 415)
    settings.MAX_UPLOAD_BYTES = 100
    problem(upload(api, birds), 413)
    assert kept(settings.UPLOADS_DIR) == []


# Parts


def send(api: Api, upload_id: str, content: bytes, start: int, size: int) -> Any:
    range_ = f"bytes {start}-{start + len(content) - 1}/{size}"
    path = f"/api/v1/uploads/{upload_id}"
    return api.client.put(path, content, content_type="application/octet-stream", headers={"Content-Range": range_})


def begun(api: Api, size: int) -> str:
    upload_id: str = api.post("uploads/", {"size": size}).json()["id"]
    return upload_id


def test_an_upload_in_parts_becomes_a_dataset(api: Api, birds: bytes, settings: Any) -> None:
    size, half = len(birds), len(birds) // 2
    upload_id = begun(api, size)
    assert send(api, upload_id, birds[:half], 0, size).json()["received"] == half
    assert api.get(f"uploads/{upload_id}").json() == {
        "id": upload_id,
        "size": size,
        "received": half,
        "is_complete": False,
    }
    body = problem(api.post("datasets/", {"name": "birds", "upload": upload_id}), 422)
    assert body["errors"][0]["pointer"] == "#/upload"
    assert send(api, upload_id, birds[half:], half, size).json()["is_complete"]
    response = api.post("datasets/", {"name": "birds", "upload": upload_id})
    assert response.status_code == 201
    assert Path(Dataset.objects.get().source).read_bytes() == birds
    problem(api.get(f"uploads/{upload_id}"), 404)


def test_a_repeated_or_early_part_is_refused(api: Api) -> None:
    upload_id = begun(api, 10)
    send(api, upload_id, b"01234", 0, 10)
    for start in (0, 3, 7):
        body = problem(send(api, upload_id, b"xyz", start, 10), 409, "wrong-place")
        assert "5 bytes" in body["detail"]
    problem(send(api, upload_id, b"567890", 5, 10), 422)
    assert api.get(f"uploads/{upload_id}").json()["received"] == 5


def test_an_interrupted_part_can_be_continued(api: Api, settings: Any) -> None:
    upload_id = begun(api, 10)
    path, headers = f"/api/v1/uploads/{upload_id}", {"Content-Range": "bytes 0-9/10"}
    problem(api.client.put(path, b"0123", content_type="application/zip", headers=headers), 422)
    assert api.get(f"uploads/{upload_id}").json()["received"] == 4
    assert send(api, upload_id, b"456789", 4, 10).json()["is_complete"]


@pytest.mark.parametrize("range_", ["", "0-4/10", "bytes 4-0/10", "bytes 0-4/11", "bytes 0-4/*", "bytes ٠-4/10"])
def test_an_invalid_range_is_refused(api: Api, range_: str) -> None:
    upload_id = begun(api, 10)
    response = api.client.put(
        f"/api/v1/uploads/{upload_id}",
        b"01234",
        content_type="application/zip",
        headers={"Content-Range": range_.encode().decode("latin-1")},
    )
    assert problem(response, 422)["errors"][0]["parameter"] == "Content-Range"


def test_an_upload_belongs_to_its_owner(api: Api, other_api: Api, settings: Any) -> None:
    upload_id = begun(api, 10)
    problem(other_api.get(f"uploads/{upload_id}"), 404)
    problem(send(other_api, upload_id, b"0123456789", 0, 10), 404)
    problem(other_api.delete(f"uploads/{upload_id}"), 404)
    assert api.delete(f"uploads/{upload_id}").json() == {"bytes": 0, "files": 1}
    assert kept(settings.UPLOADS_DIR) == []


@pytest.mark.parametrize("upload_id", ["x", "*", "0" * 32, "..%2F..%2Fetc", "%2A" * 32])
def test_an_invalid_id_is_not_found(api: Api, upload_id: str) -> None:
    begun(api, 10)
    problem(api.get(f"uploads/{upload_id}"), 404)


def test_uploads_are_limited_in_size_and_age(api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem(api.post("uploads/", {"size": settings.MAX_UPLOAD_BYTES + 1}), 413)
    problem(api.post("uploads/", {"size": 0}), 422)
    upload_id = begun(api, 10)
    uploads.remove_old()
    assert api.get(f"uploads/{upload_id}").status_code == 200
    monkeypatch.setattr(uploads, "KEPT_S", -1.0)
    uploads.remove_old()
    problem(api.get(f"uploads/{upload_id}"), 404)


# Folders


def test_a_server_folder_is_imported_by_permitted_users(admin: User, api: Api, tmp_path: Path, settings: Any) -> None:
    folder = write_tree(tmp_path / "birds", two_classes())
    body = {"name": "birds", "folder": str(folder), "options": {"split": "stratified", "val_share": 0.25}}
    problem(api.post("datasets/", body), 409, "not-possible")
    assert api_of(admin).post("datasets/", body).json()["status"] == "importing"
    settings.IMPORT_DIRS = [tmp_path]
    assert api.post("datasets/", {**body, "name": "more"}).status_code == 201


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "#/upload"),
        ({"upload": "0" * 32, "folder": "/srv"}, "#/upload"),
        ({"folder": "birds"}, "#/folder"),
        ({"upload": "0" * 32}, "#/upload"),
        ({"folder": "/srv", "options": {"val_share": 2}}, "#/options/val_share"),
    ],
)
def test_errors_of_an_import_are_named(api: Api, fields: dict[str, Any], pointer: str) -> None:
    body = problem(api.post("datasets/", {"name": "birds", **fields}), 422)
    assert body["errors"][0]["pointer"] == pointer


# Confirm


def test_an_import_is_confirmed_once(api: Api, other_api: Api, user: User) -> None:
    dataset = make_proposed(user)
    path, options = f"datasets/{dataset.pk}/confirm", {"split": "stratified", "val_share": 0.5}
    problem(other_api.post(path, options), 403)
    problem(api.post(path, {"val_share": 1}), 422)
    assert api.post(path, options).json()["status"] == "importing"
    assert Dataset.objects.get().options["val_share"] == 0.5
    problem(api.post(path, options), 409, "not-possible")


# How the source was read


def test_a_source_is_read_again_with_other_choices(api: Api, other_api: Api, user: User, tmp_path: Path) -> None:
    tree = coco_tree() | {"labels.csv": csv_tree()["labels.csv"]}
    source = write_tree(tmp_path / "source", tree)
    dataset = Dataset.objects.create(name="pets", owner=user, source=str(source), status="inspecting")
    run_inspection(dataset)
    reading = api.get(f"datasets/{dataset.pk}").json()["reading"]
    assert reading["split_origin"] == "The splits come from the names of the folders: train, val."
    offers = {offer["field"]: (offer["used"], offer["choices"]) for offer in reading["offers"]}
    assert offers == {"format": ("coco", ["coco", "csv", "class_folders"]), "splits": ("folders", ["folders", "none"])}
    assert [(group["suffix"], group["first"]) for group in reading["unread"]] == [(".csv", ["labels.csv"])]
    path = f"datasets/{dataset.pk}/read-again"
    assert problem(other_api.post(path, {"format": "csv"}), 403)
    assert problem(api.post(path, {"colour": "red"}), 422)
    assert api.post(path, {"format": "csv"}).json()["status"] == "inspecting"
    assert problem(api.post(path, {"format": "csv"}), 409)
    dataset.refresh_from_db()
    run_inspection(dataset)
    assert api.get(f"datasets/{dataset.pk}").json()["reading"]["format"] == "csv"
    options = api.post(f"datasets/{dataset.pk}/confirm", {"on_error": "leave_out"}).json()["options"]
    assert options["reading"]["format"] == "csv", "the import reads what was reviewed"
