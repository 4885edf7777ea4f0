"""Deleting runs and datasets: rows and files, both or neither."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.helpers.jobs import lose_worker, working_on
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.models import Dataset, RunEvent, TrainingRun, trash
from trainingapp.models.verbs import DeletionSize, VerbError
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def fill(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "epoch_1.pt").write_bytes(b"x" * 1000)
    (folder / "config.json").write_bytes(b"{}")


@pytest.mark.parametrize("status", ["pending", "paused", "completed", "failed", "stopped"])
def test_a_run_is_deleted_with_its_files_and_events(make: MAKE, status: str) -> None:
    run = make(status)
    fill(run.folder)
    folder = run.folder
    assert run_verbs.deletion_size(run) == DeletionSize(bytes=1002, files=2)
    assert run_verbs.delete_run(run) == DeletionSize(bytes=1002, files=2)
    assert not TrainingRun.objects.exists()
    assert not RunEvent.objects.exists()
    assert not folder.exists()
    assert not list((folder.parent / trash.TRASH).iterdir())


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_running_run_is_not_deleted(make: MAKE, status: str) -> None:
    run = make(status)
    fill(run.folder)
    with pytest.raises(VerbError, match="queued or running"):
        run_verbs.delete_run(run)
    assert TrainingRun.objects.exists()
    assert run_verbs.deletion_size(run).files == 2


@pytest.fixture
def stuck(make: MAKE) -> Iterator[TrainingRun]:
    """A run whose checkpoints are on a read-only file system."""
    run = make("completed")
    fill(run.folder)
    checkpoints = run.folder / "checkpoints"
    if subprocess.run(["mount", "--bind", checkpoints, checkpoints], check=False).returncode:
        pytest.skip("nothing may be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", checkpoints], check=True)
    yield run
    for path in (run.folder.parent).rglob("checkpoints"):
        subprocess.run(["umount", "-l", path], check=True)


def test_files_that_could_not_be_removed_are_named(stuck: TrainingRun) -> None:
    with pytest.raises(VerbError, match=r"1 files with 1000 bytes .*checkpoints/epoch_1\.pt"):
        run_verbs.delete_run(stuck)
    assert not TrainingRun.objects.exists()


def test_a_run_that_was_never_started_has_no_files(run: TrainingRun) -> None:
    assert run_verbs.delete_run(run) == DeletionSize(bytes=0, files=0)


def test_files_are_restored_when_the_row_cannot_be_deleted(run: TrainingRun) -> None:
    fill(run.folder)
    away = trash.trash_name(run.folder)

    def fail() -> None:
        with trash.moved(run.folder, away):
            assert not run.folder.exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert run_verbs.deletion_size(run).files == 2


def test_a_crash_in_the_middle_is_finished_at_the_next_start(make: MAKE) -> None:
    kept, gone = make(), make("completed")
    for run in (kept, gone):
        fill(run.folder)
        (away := trash.trash_name(run.folder)).parent.mkdir(exist_ok=True)
        run.folder.rename(away)
    gone_folder = gone.folder
    gone.delete()
    trash.sweep()
    assert run_verbs.deletion_size(kept).files == 2, "its row is still there: so are its files"
    assert not gone_folder.exists()
    assert not list((kept.folder.parent / trash.TRASH).iterdir())


def test_a_dataset_is_deleted_with_its_files_and_its_upload(user: User, dataset: Dataset, tmp_path: Path) -> None:
    upload = tmp_path / "pets.zip"
    upload.write_bytes(b"zip")
    Dataset.objects.update(source=str(upload), source_is_upload=True)
    dataset.refresh_from_db()
    fill(dataset.folder)
    folder = dataset.folder
    assert dataset_verbs.dataset_deletion_size(dataset) == dataset_verbs.delete_dataset(dataset)
    assert not folder.exists()
    assert not upload.exists()
    assert not Dataset.objects.exists()


def test_the_source_folder_of_a_dataset_is_not_touched(dataset: Dataset, tmp_path: Path) -> None:
    Dataset.objects.update(source=str(tmp_path))
    dataset.refresh_from_db()
    dataset_verbs.delete_dataset(dataset)
    assert tmp_path.exists()


def test_a_dataset_in_use_is_not_deleted_and_names_the_runs(dataset: Dataset, make: MAKE) -> None:
    run_verbs.update_run(make(), name="first")
    run_verbs.update_run(make("completed"), name="second")
    with pytest.raises(VerbError, match="first, second"):
        dataset_verbs.delete_dataset(dataset)
    assert Dataset.objects.exists()


def test_a_dataset_in_import_is_not_deleted_while_its_worker_runs(dataset: Dataset) -> None:
    job = working_on(dataset, "importing", IMPORTING_IMAGES())
    with pytest.raises(VerbError, match="being imported"):
        dataset_verbs.delete_dataset(dataset)
    lose_worker(job)
    dataset_verbs.delete_dataset(dataset)
    assert not Dataset.objects.exists()
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert connection.is_usable()
