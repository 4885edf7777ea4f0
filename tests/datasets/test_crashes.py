"""The next attempt recovers from the remains of a killed import."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests.helpers.sources import files_under, image, two_classes, write_tree, write_zip
from trainingapp.contract.dataset_index import read_index
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset

pytestmark = pytest.mark.database

#: Imports dataset argv[1]; after ten images prints a line on standard output and waits to be killed.
IMPORTER = """
import sys, time, django
django.setup()
from django.conf import settings
from django.db import connection
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset

def stop_at_ten(done, total):
    if done == 10:
        print("ten", flush=True)
        time.sleep(600)

run_import(Dataset.objects.get(pk=int(sys.argv[1])), on_progress=stop_at_ten)
"""


@pytest.fixture
def studio(tmp_path: Path, studio_env: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Run Python code in the studio of this test, which has a separate database."""

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        env = {**studio_env, "DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    return start


SETUP = """
import sys, django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from trainingapp.models import Dataset
call_command("migrate", verbosity=0)
owner = User.objects.create_superuser("root")
print(Dataset.objects.create(name="x", owner=owner, source=sys.argv[1], source_is_upload=True).pk)
"""

FINISH = """
import sys, django
django.setup()
from trainingapp.datasets.importing.importer import run_import
from trainingapp.models import Dataset
dataset = Dataset.objects.get(pk=int(sys.argv[1]))
run_import(dataset)
print(dataset.status)
"""


@pytest.mark.long
def test_killed_in_the_middle(studio: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    upload = write_zip(data_dir / "uploads" / "x.zip", two_classes(each=30))
    number = studio(SETUP, upload).communicate()[0].strip()
    with studio(IMPORTER, number) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "ten\n"
        assert studio(FINISH, number).communicate()[0] == "importing\n"  # a second worker does not process the dataset
        killed.send_signal(signal.SIGKILL)
    assert [path.name for path in (data_dir / "datasets").iterdir()] == [f".import-{number}"]
    assert studio(FINISH, number).communicate()[0] == "ready\n"
    assert [path.name for path in (data_dir / "datasets").iterdir()] == [number]
    assert not upload.exists()
    assert len(read_index(data_dir / "datasets" / number).samples) == 60


def test_killed_between_rename_and_row(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", two_classes()))
    write_tree(dataset.folder, {"images/old.png": image(1), "dataset.json": b"{}"})
    run_import(dataset)
    assert dataset.status == "ready"
    assert not (dataset.folder / "images" / "old.png").exists()


def test_killed_between_row_and_upload(other_user: User, data_dir: Path) -> None:
    upload = write_zip(data_dir / "uploads" / "x.zip", two_classes())
    dataset = Dataset.objects.create(
        name="x", owner=other_user, source=str(upload), source_is_upload=True, status=Dataset.Status.REFUSED
    )
    run_import(dataset)
    assert files_under(data_dir) == []


def test_a_source_elsewhere_is_never_removed(other_user: User, tmp_path: Path) -> None:
    """Files outside UPLOADS_DIR are never removed, whatever the row contains."""
    path = write_zip(tmp_path / "mine.zip", two_classes())
    dataset = Dataset.objects.create(name="x", owner=other_user, source=os.fspath(path), source_is_upload=True)
    run_import(dataset)
    assert (dataset.status, path.exists()) == ("ready", True)
