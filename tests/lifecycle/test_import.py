"""Starting imports."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from trainingapp import lifecycle
from trainingapp.lifecycle import VerbError
from trainingapp.models import Dataset

pytestmark = pytest.mark.django_db


def test_an_import_waits_for_a_worker(admin: User, tmp_path: Path) -> None:
    found = lifecycle.start_import(owner=admin, name="pets", source=tmp_path, source_is_upload=False)
    stored = Dataset.objects.get()
    assert (stored.pk, stored.status, stored.source) == (found.pk, "importing", str(tmp_path))
    assert stored.heartbeat_at is None


def test_a_name_is_taken_once(admin: User, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(VerbError, match="already is a dataset"):
        lifecycle.start_import(owner=admin, name=" pets ", source=tmp_path, source_is_upload=False)
    assert Dataset.objects.count() == 1


def test_a_source_must_be_there(admin: User, tmp_path: Path) -> None:
    with pytest.raises(VerbError, match="does not exist"):
        lifecycle.start_import(owner=admin, name="pets", source=tmp_path / "none", source_is_upload=False)


def test_server_folders_are_for_administrators(user: User, admin: User, tmp_path: Path) -> None:
    assert lifecycle.may_import_from(admin, tmp_path)
    with pytest.raises(VerbError, match="may not be imported"):
        lifecycle.start_import(owner=user, name="pets", source=tmp_path, source_is_upload=False)


def test_listed_folders_are_for_everybody_and_no_others(user: User, admin: User, tmp_path: Path, settings: Any) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed / "pets", other):
        folder.mkdir(parents=True)
    (allowed / "way-out").symlink_to(other)
    settings.IMPORT_DIRS = [allowed]
    assert lifecycle.may_import_from(user, allowed / "pets")
    for way in (other, allowed / ".." / "other", allowed / "way-out"):
        assert not lifecycle.may_import_from(admin, way)
