"""A dataset is copied into the object store when its import ends, or on request."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.api.conftest import api_of
from tests.helpers.jobs import no_worker, work_off
from tests.helpers.object_store import contents, fetched
from tests.helpers.tiny import make_dataset, write_dataset
from trainingapp.datasets import verbs
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.storing import store_jobs
from trainingapp.jobs.kinds import Lane
from trainingapp.jobs.lease import claim_job
from trainingapp.models import AuditEntry, Dataset, Job
from trainingapp.models.verbs import VerbError
from trainingapp.object_store.store import ObjectStore
from trainingapp.supervision.identity import data_dir_id

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR, settings.JOBS_DIR, settings.DATASETS_DIR = tmp_path, tmp_path / "jobs", tmp_path / "datasets"
    settings.DATASETS_DIR.mkdir()
    no_worker(monkeypatch)


@pytest.fixture
def object_store(tmp_path: Path, settings: Any) -> ObjectStore:
    (tmp_path / "store").mkdir()
    settings.OBJECT_STORE_URL = str(tmp_path / "store")
    return ObjectStore(settings.OBJECT_STORE_URL)


def imported(user: User, folder: Path) -> Dataset:
    write_dataset(folder / "source")
    source = folder / "source" / "images"
    dataset = verbs.start_import(
        owner=user, name="tints", source=source, source_is_upload=False, options=ImportOptions(), from_shell=True
    )
    work_off(Lane.IMPORT)
    dataset.refresh_from_db()
    return dataset


def test_an_import_is_stored(user: User, tmp_path: Path, object_store: ObjectStore) -> None:
    dataset = imported(user, tmp_path)
    assert (dataset.data_dir_id, dataset.store_key) == (data_dir_id(), "")
    job = work_off(Lane.STORE)
    assert job.is_done, job.message
    assert job.done == job.total == 36
    dataset.refresh_from_db()
    copy = fetched(object_store, dataset.store_key, dataset.store_sha256, tmp_path / "copies")
    ours = contents(dataset.folder)
    assert {name: ours[name] for name in contents(copy)} == contents(copy)


def test_without_an_object_store_nothing_is_requested(user: User, tmp_path: Path) -> None:
    dataset = imported(user, tmp_path)
    assert dataset.data_dir_id == ""
    assert claim_job(Lane.STORE) is None
    with pytest.raises(VerbError, match="OBJECT_STORE_URL"):
        verbs.store_dataset(dataset)


def test_the_button_stores_and_later_compares(user_client: Client, user: User, object_store: ObjectStore) -> None:
    dataset = make_dataset(user)
    page = user_client.get(dataset.get_absolute_url()).content.decode()
    assert "Only hosts with its files can train on it" in page
    address = reverse("dataset_store", args=[dataset.pk])
    assert user_client.post(address).status_code == 302
    assert user_client.post(address).status_code == 302  # it is being stored already
    assert store_jobs(dataset).count() == 1
    asked = {"HX-Request": "true", "HX-Target": "dataset-store"}  # as the panel does while the job works
    waiting = user_client.get(dataset.get_absolute_url(), headers=asked).content.decode()
    assert f'action="{address}"' not in waiting
    assert 'hx-trigger="every 2s"' in waiting
    assert "<html" not in waiting
    assert work_off(Lane.STORE).is_done
    dataset.refresh_from_db()
    stored = user_client.get(dataset.get_absolute_url(), headers=asked).content.decode()
    assert "Check the stored copy" in stored
    assert "every 2s" not in stored
    assert "Check the stored copy" in user_client.get(dataset.get_absolute_url()).content.decode()
    part = next((Path(object_store.url) / "datasets" / dataset.store_key).glob("part-*.tar"))
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"?")
    user_client.post(address)
    assert work_off(Lane.STORE).is_done
    assert part.read_bytes() == content
    assert AuditEntry.objects.filter(verb="store").count() == 2


def test_the_api_stores(user: User, object_store: ObjectStore) -> None:
    dataset = make_dataset(user)
    api = api_of(user)
    found = api.post(f"datasets/{dataset.pk}/store").json()
    job = store_jobs(dataset).get()
    assert (found["is_stored"], found["store_job"]) == (False, str(job.pk))
    work_off(Lane.STORE)
    assert api.get(f"datasets/{dataset.pk}").json()["is_stored"] is True


def test_a_store_that_refuses_fails_the_job(user: User, object_store: ObjectStore, monkeypatch: Any) -> None:
    monkeypatch.setattr("trainingapp.object_store.store.PATIENCE_S", ())
    Path(object_store.url).rmdir()
    dataset = make_dataset(user)
    verbs.store_dataset(dataset)
    job = work_off(Lane.STORE)
    assert job.is_failed
    assert "does not exist" in job.message
    dataset.refresh_from_db()
    assert dataset.store_key == ""


def test_jobs_are_done_where_their_files_are(user: User, object_store: ObjectStore, settings: Any) -> None:
    verbs.store_dataset(make_dataset(user))
    ours, settings.DATA_DIR = settings.DATA_DIR, settings.DATA_DIR / "another host"
    assert claim_job() is None
    settings.DATA_DIR = ours
    job = claim_job()
    assert job is not None
    assert job.kind == Job.Kind.STORE_DATASET
