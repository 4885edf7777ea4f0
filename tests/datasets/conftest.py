"""Fixtures: a studio with its files in the test folder, and imports into it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import Settings

    from tests.helpers.sources import Tree
    from trainingapp.models import Dataset


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: "Settings") -> Path:
    folder = tmp_path / "data"
    settings.DATA_DIR, settings.DATASETS_DIR, settings.UPLOADS_DIR = folder, folder / "datasets", folder / "uploads"
    settings.UPLOADS_DIR.mkdir(parents=True)
    return folder


@pytest.fixture
def new_dataset(other_user: "User") -> "Callable[..., Dataset]":
    """`new_dataset(source, upload=False)`: a dataset whose import has not started."""

    from trainingapp.models import Dataset

    def create(source: Path, *, upload: bool = False) -> Dataset:
        name = f"dataset {Dataset.objects.count()}"
        return Dataset.objects.create(name=name, owner=other_user, source=str(source), source_is_upload=upload)

    return create


@pytest.fixture
def import_tree(new_dataset: "Callable[..., Dataset]", tmp_path: Path) -> "Callable[[Tree], Dataset]":
    """Import a folder of these files."""

    from tests.helpers.sources import write_tree
    from trainingapp.datasets.importing.importer import run_import
    from trainingapp.models import Dataset

    def import_(tree: "Tree") -> Dataset:
        dataset = new_dataset(write_tree(tmp_path / f"source{Dataset.objects.count()}", tree))
        run_import(dataset)
        return dataset

    return import_


@pytest.fixture
def import_zip(new_dataset: "Callable[..., Dataset]", data_dir: Path) -> "Callable[[Tree | bytes], Dataset]":
    """Upload and import a zip of these files, or these bytes as the zip."""

    from tests.helpers.sources import write_zip
    from trainingapp.datasets.importing.importer import run_import

    def import_(content: "Tree | bytes") -> "Dataset":
        upload = data_dir / "uploads" / "upload.zip"
        if isinstance(content, bytes):
            upload.write_bytes(content)
        else:
            write_zip(upload, content)
        dataset = new_dataset(upload, upload=True)
        run_import(dataset)
        return dataset

    return import_
