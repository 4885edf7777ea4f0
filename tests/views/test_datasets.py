"""Pages of the datasets: list, import, report, images, deletion."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from tests.helpers.jobs import working_on
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES
from trainingapp.datasets.demo import preparing
from trainingapp.models import Dataset, TrainingRun
from trainingapp.views.datasets import grouped_report


def html(response: Any) -> str:
    return str(response.content.decode())


def image() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(data, "PNG")
    return data.getvalue()


def archive(*paths: str) -> SimpleUploadedFile:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for path in paths:
            file.writestr(path, image())
    return SimpleUploadedFile("birds.zip", data.getvalue())


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    settings.UPLOADS_DIR = settings.FILE_UPLOAD_TEMP_DIR = folder
    return folder


def error_of(response: Any, field: str) -> str:
    return html(response).split(f'id="id_{field}_error">')[1].split("</div>")[0]


def test_an_empty_list_explains_the_next_step(user_client: Client) -> None:
    assert "one folder for each class" in html(user_client.get(reverse("dataset_list")))


def test_a_zip_is_uploaded_and_inspected_by_a_worker(user_client: Client, user: User, uploads: Path) -> None:
    upload = archive("robin/1.png", "wren/1.png")
    response = user_client.post(reverse("dataset_import"), {"name": "Birds", "archive": upload})
    dataset = Dataset.objects.get()
    assert response.headers["Location"] == dataset.get_absolute_url()
    assert (dataset.status, dataset.owner, dataset.source_is_upload) == ("inspecting", user, True)
    assert zipfile.is_zipfile(dataset.source)
    assert Path(dataset.source).parent == uploads


def test_htmx_is_redirected_to_the_new_dataset(user_client: Client) -> None:
    upload = archive("robin/1.png", "wren/1.png")
    headers = {"HX-Request": "true"}
    response = user_client.post(reverse("dataset_import"), {"name": "Birds", "archive": upload}, headers=headers)
    assert response.headers["HX-Redirect"] == Dataset.objects.get().get_absolute_url()


@pytest.mark.parametrize(
    "upload",
    [
        SimpleUploadedFile("birds.zip", b"no zip at all"),
        archive(),
        archive("../../outside.png"),
    ],
    ids=["no zip", "empty", "path traversal"],
)
def test_an_invalid_zip_is_refused_at_its_field_and_removed(
    user_client: Client, uploads: Path, upload: SimpleUploadedFile
) -> None:
    upload.seek(0)
    response = user_client.post(reverse("dataset_import"), {"name": "Birds", "archive": upload})
    assert response.status_code == 422
    assert error_of(response, "archive").strip()
    assert not Dataset.objects.exists()
    assert not list(uploads.iterdir())


def test_a_file_larger_than_allowed_is_refused(user_client: Client, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 10
    response = user_client.post(reverse("dataset_import"), {"name": "Birds", "archive": archive("robin/1.png")})
    assert "larger than" in error_of(response, "archive")


def test_missing_values_are_reported_at_their_fields(user_client: Client) -> None:
    response = user_client.post(reverse("dataset_import"), {"name": ""})
    assert "required" in error_of(response, "name")
    assert "Choose an archive" in error_of(response, "archive")


def test_names_are_unique(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(reverse("dataset_import"), {"name": dataset.name, "archive": archive("a/1.png")})
    assert "already" in error_of(response, "name")


def test_an_administrator_imports_a_folder(staff_client: Client, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    staff_client.post(reverse("dataset_import"), {"name": "Birds", "folder": str(tmp_path / "birds")})
    dataset = Dataset.objects.get()
    assert (dataset.source, dataset.source_is_upload) == (str(tmp_path / "birds"), False)


def test_other_users_are_not_offered_server_folders(user_client: Client, tmp_path: Path) -> None:
    assert 'name="folder"' not in html(user_client.get(reverse("dataset_import")))
    response = user_client.post(reverse("dataset_import"), {"name": "Birds", "folder": str(tmp_path)})
    assert response.status_code == 422
    assert not Dataset.objects.exists()


def test_only_folders_of_the_setting_are_open_to_all_users(user_client: Client, tmp_path: Path, settings: Any) -> None:
    inside, outside = tmp_path / "open" / "birds", tmp_path / "closed"
    inside.mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "open" / "way_out").symlink_to(outside)
    settings.IMPORT_DIRS = [tmp_path / "open"]
    for path in (outside, tmp_path / "open" / ".." / "closed", tmp_path / "open" / "way_out"):
        response = user_client.post(reverse("dataset_import"), {"name": "Birds", "folder": str(path)})
        assert "may not be imported" in error_of(response, "folder")
    user_client.post(reverse("dataset_import"), {"name": "Birds", "folder": str(inside)})
    assert Dataset.objects.get().source == str(inside)


def test_an_import_shows_its_progress_and_polls(user_client: Client, dataset: Dataset) -> None:
    working_on(dataset, "importing", IMPORTING_IMAGES(), done=30, total=120)
    page = html(user_client.get(dataset.get_absolute_url()))
    assert "Reading and checking the images" in page
    assert "30 of 120" in page
    assert 'hx-trigger="every 700ms"' in page


def test_a_refused_import_shows_its_reason_and_can_be_dismissed(user_client: Client, dataset: Dataset) -> None:
    report = [{"level": "error", "code": "broken", "file": "train/wren/1.jpg", "message": "It is cut short."}]
    Dataset.objects.update(status="refused", report=report)
    page = html(user_client.get(dataset.get_absolute_url()))
    for words in ("train/wren/1.jpg", "It is cut short.", "Discard"):
        assert words in page
    user_client.post(reverse("dataset_delete", args=[dataset.pk]))
    assert not Dataset.objects.exists()


def test_the_report_is_grouped_errors_first() -> None:
    items = [{"level": "warning", "code": "w", "file": "a", "message": "Hm."}]
    items += [{"level": "error", "code": "e", "file": f"{number}", "message": "Bad."} for number in range(25)]
    groups = grouped_report(items)
    assert [(group["level"], group["count"], len(group["items"]), len(group["others"])) for group in groups] == [
        ("error", 25, 3, 22),
        ("warning", 1, 1, 0),
    ]


def test_images_are_shown_by_split_and_class(user_client: Client, tints: Dataset) -> None:
    everything = html(user_client.get(tints.get_absolute_url()))
    assert everything.count('class="image"') == 36
    some = html(user_client.get(tints.get_absolute_url(), {"split": "val", "class": "1"}))
    assert some.count('class="image"') == 6
    assert "images/val/red/" in some
    assert "images/val/blue/" not in some


@pytest.mark.parametrize("page", ["0", "99", "x", "-1"])
def test_a_page_number_out_of_range_is_harmless(user_client: Client, tints: Dataset, page: str) -> None:
    assert user_client.get(tints.get_absolute_url(), {"page": page, "class": "77"}).status_code == 200


def test_an_image_is_small_and_cacheable(user_client: Client, tints: Dataset) -> None:
    path = next(path.relative_to(tints.folder) for path in tints.folder.rglob("*.png"))
    response = user_client.get(reverse("dataset_image", args=[tints.pk, path]))
    assert response.headers["Content-Type"] == "image/webp"
    assert "private" in response.headers["Cache-Control"]
    assert Image.open(io.BytesIO(response.content)).size == (32, 32)


@pytest.mark.parametrize("path", ["dataset.json", "samples.jsonl", "images/none.png", "images/../dataset.json"])
def test_only_images_are_served(user_client: Client, tints: Dataset, path: str) -> None:
    assert user_client.get(f"/datasets/{tints.pk}/images/{path}").status_code == 404


def test_a_dataset_in_use_is_not_deleted_and_names_its_runs(user_client: Client, run: TrainingRun) -> None:
    address = reverse("dataset_delete", args=[run.dataset_id])
    page = html(user_client.get(address))
    assert run.name in page
    assert "btn-danger" not in page
    user_client.post(address)
    assert Dataset.objects.exists()


def test_the_deletion_page_shows_the_size(user_client: Client, tints: Dataset) -> None:
    address = reverse("dataset_delete", args=[tints.pk])
    assert "38 files" in html(user_client.get(address))
    user_client.post(address)
    assert not Dataset.objects.exists()
    assert not tints.folder.exists()


def test_only_the_owner_and_staff_can_delete(dataset: Dataset, other_user: User) -> None:
    client = Client()
    client.force_login(other_user)
    assert client.post(reverse("dataset_delete", args=[dataset.pk])).status_code == 403
    assert Dataset.objects.exists()


def test_counts_of_findings_have_thousands_separators(user_client: Client, user: User) -> None:
    finding = {"level": "warning", "code": "odd", "file": "a.png", "message": "Odd.", "count": 1}
    report = [{**finding, "file": f"{number}.png"} for number in range(20)] + [{**finding, "count": 1480}]
    dataset = Dataset.objects.create(name="birds", owner=user, source="/nowhere", status="refused", report=report)
    html = user_client.get(dataset.get_absolute_url()).content.decode()
    assert "× 1,500" in html
    assert "and 1,497 more" in html


@pytest.fixture
def own_data_dir(tmp_path: Path, settings: Any) -> Path:
    """A data directory whose marker of demo scenes no test beside this one creates or removes."""
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.mark.usefixtures("own_data_dir")
def test_pages_say_that_demo_scenes_are_being_prepared(user_client: Client, client: Client) -> None:
    with preparing():
        for address in ("dataset_list", "run_list"):
            assert "Preparing demo scenes." in user_client.get(reverse(address)).content.decode()
        client.logout()
        assert "Preparing demo scenes." not in client.get(reverse("login")).content.decode()
    assert "Preparing demo scenes." not in user_client.get(reverse("dataset_list")).content.decode()


def test_the_marker_of_a_killed_process_does_not_count(user_client: Client, own_data_dir: Path) -> None:
    for left in ("999999999", "", "x"):
        (own_data_dir / "demo.preparing").write_text(left)
        assert "Preparing demo scenes." not in user_client.get(reverse("dataset_list")).content.decode()
