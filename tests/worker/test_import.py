"""Starting imports."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.helpers.sources import two_classes, write_tree
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.import_rights import may_import_from
from trainingapp.datasets.options import ImportOptions
from trainingapp.jobs import lease
from trainingapp.models import Dataset, Job
from trainingapp.models.verbs import VerbError
from trainingapp.worker import tasks

pytestmark = pytest.mark.django_db


def test_an_import_waits_for_a_worker(admin: User, tmp_path: Path) -> None:
    found = dataset_verbs.start_import(owner=admin, name="pets", source=tmp_path, source_is_upload=False)
    stored = Dataset.objects.get()
    assert (stored.pk, stored.status, stored.source) == (found.pk, "inspecting", str(tmp_path))
    assert stored.job is not None
    assert (stored.job.kind, stored.job.state, stored.job.owner) == ("inspect_dataset", "waiting", admin)


def test_names_are_unique(admin: User, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(VerbError, match="already exists"):
        dataset_verbs.start_import(owner=admin, name=" pets ", source=tmp_path, source_is_upload=False)
    assert Dataset.objects.count() == 1


def test_a_source_must_exist(admin: User, tmp_path: Path) -> None:
    with pytest.raises(VerbError, match="does not exist"):
        dataset_verbs.start_import(owner=admin, name="pets", source=tmp_path / "none", source_is_upload=False)


def test_server_folders_are_for_administrators(user: User, admin: User, tmp_path: Path) -> None:
    assert may_import_from(admin, tmp_path)
    with pytest.raises(VerbError, match="cannot be imported"):
        dataset_verbs.start_import(owner=user, name="pets", source=tmp_path, source_is_upload=False)


def test_listed_folders_are_open_to_every_user(user: User, admin: User, tmp_path: Path, settings: Any) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed / "pets", other):
        folder.mkdir(parents=True)
    (allowed / "way-out").symlink_to(other)
    settings.IMPORT_DIRS = [allowed]
    assert may_import_from(user, allowed / "pets")
    for way in (other, allowed / ".." / "other", allowed / "way-out"):
        assert not may_import_from(admin, way)


def test_with_options_no_confirmation_is_needed(admin: User, tmp_path: Path) -> None:
    options = ImportOptions(split="stratified", seed=3)
    dataset_verbs.start_import(owner=admin, name="pets", source=tmp_path, source_is_upload=False, options=options)
    stored = Dataset.objects.get()
    assert (stored.status, ImportOptions.model_validate(stored.options)) == ("importing", options)


def test_a_proposal_is_confirmed_once(dataset: Dataset) -> None:
    Dataset.objects.update(status="proposed")
    options = ImportOptions(on_error="leave_out")
    dataset_verbs.confirm_import(dataset, options, by="ada")
    stored = Dataset.objects.get()
    assert (stored.status, stored.options["on_error"]) == ("importing", "leave_out")
    assert stored.job is not None
    assert (stored.job.kind, stored.job.state) == ("import_dataset", "waiting")
    with pytest.raises(VerbError, match="is not waiting"):
        dataset_verbs.confirm_import(dataset, options)


def test_a_ready_dataset_never_changes(dataset: Dataset) -> None:
    with pytest.raises(VerbError, match="is not waiting"):
        dataset_verbs.confirm_import(dataset, ImportOptions())
    assert Dataset.objects.get().status == "ready"


@pytest.mark.django_db(transaction=True)
def test_a_worker_inspects_and_then_imports(admin: User, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "pets", two_classes())
    found = dataset_verbs.start_import(owner=admin, name="pets", source=source, source_is_upload=False)
    tasks.do_jobs.call_local("import")
    found.refresh_from_db()
    assert (found.status, found.proposal["format"]) == ("proposed", "class_folders")
    dataset_verbs.confirm_import(found, ImportOptions(val_share=0.4))
    tasks.do_jobs.call_local("import")
    found.refresh_from_db()
    assert (found.status, found.count("val")) == ("ready", 4)


def test_a_dataset_in_inspection_is_not_deleted(admin: User, tmp_path: Path) -> None:
    found = dataset_verbs.start_import(owner=admin, name="pets", source=tmp_path, source_is_upload=False)
    job = Job.objects.get()
    assert lease.claim(job)
    with pytest.raises(VerbError, match="being imported"):
        dataset_verbs.delete_dataset(found)
