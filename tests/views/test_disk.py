"""The page of disk usage."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from trainingapp.models import Dataset, TrainingRun
from trainingapp.operations import disk_usage

MAKE = Callable[..., TrainingRun]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    settings.UPLOADS_DIR, settings.JOBS_DIR, settings.WEIGHTS_DIR = (
        tmp_path / name for name in ("uploads", "jobs", "weights")
    )
    return tmp_path


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_every_byte_is_attributed_once_to_its_owner(
    make: MAKE, dataset: Dataset, other_user: User, own_data: Path
) -> None:
    mine, other = make(), make("completed", owner=other_user)
    write(mine.folder / "checkpoints" / "epoch_1.pt", 1000)
    write(mine.folder / "config.json", 24)
    write(other.folder / "deep" / "er" / "file", 5000)
    image = write(dataset.folder / "images" / "a.png", 300)
    twin = own_data / "datasets" / "999" / "a.png"
    twin.parent.mkdir(parents=True)
    os.link(image, twin)
    write(own_data / "runs" / ".trash" / "7.abc" / "file", 70)
    write(own_data / "jobs" / "x" / "file", 11)
    found = disk_usage.measure()
    assert [(share.name, share.bytes, share.files) for share in found.runs] == [
        (other.name, 5000, 1),
        (mine.name, 1024, 2),
    ]
    assert {(share.name, share.bytes) for share in found.datasets} == {("pets", 300), ("999", 0)}
    assert {share.name: share.bytes for share in found.other} == {"trash": 70, "jobs": 11}
    assert found.used_bytes == 5000 + 1024 + 300 + 81
    by_user = {row["name"]: row["total"] for row in found.by_user()}
    assert by_user == {"grace": 5000, "ada": 1324, "": 0}


def test_the_page_shows_the_last_measurement_and_measures_on_request(staff_client: Client, make: MAKE) -> None:
    run = make()
    write(run.folder / "file", 2048)
    address = reverse("disk")
    assert run.get_absolute_url() in staff_client.get(address).content.decode()
    write(run.folder / "another", 5 * 1024 * 1024)
    # With its title, so that the free space of the real disk cannot look like it.
    measured = 'title="5244928">5.0'
    assert measured not in staff_client.get(address).content.decode()
    answer = staff_client.post(address, follow=True)
    assert measured in answer.content.decode()


def test_an_empty_studio_shows_an_empty_state(staff_client: Client) -> None:
    assert "use disk space yet" in staff_client.get(reverse("disk")).content.decode()


def test_an_interrupted_measurement_is_repeated(staff_client: Client, own_data: Path, make: MAKE) -> None:
    write(make().folder / "file", 10)
    (own_data / "disk_usage.json").write_text('{"runs"')
    assert staff_client.get(reverse("disk")).status_code == 200


def test_a_thousand_runs_need_few_queries(
    user: User, dataset: Dataset, staff_client: Client, django_assert_max_num_queries: Any
) -> None:
    runs = [
        TrainingRun(name=f"run {n}", owner=user, task="classification", dataset=dataset, config={}) for n in range(1000)
    ]
    for run in TrainingRun.objects.bulk_create(runs):
        write(run.folder / "file", 10)
    disk_usage.measure()
    with django_assert_max_num_queries(10):
        response = staff_client.get(reverse("disk"))
    assert "950 smaller items" in response.content.decode()
