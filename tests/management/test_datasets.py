"""manage.py datasets."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.helpers.jobs import no_worker
from trainingapp.models import Dataset, Job, TrainingRun

pytestmark = pytest.mark.django_db


def datasets(*arguments: object) -> str:
    output = StringIO()
    call_command("datasets", *map(str, arguments), stdout=output)
    return output.getvalue()


def test_list_and_show(dataset: Dataset) -> None:
    assert "pets" in datasets("list")
    (listed,) = json.loads(datasets("list", "--json"))
    assert (listed["id"], listed["images"]) == (dataset.pk, {"train": 8, "val": 4})
    assert json.loads(datasets("list", "--json", "--status", "refused")) == []
    assert json.loads(datasets("show", "pets", "--json"))["counts"] == dataset.counts
    assert "name: pets" in datasets("show", dataset.pk)
    with pytest.raises(CommandError, match="There is no dataset cats"):
        datasets("show", "cats")


def test_statistics_and_share(dataset: Dataset) -> None:
    dataset.statistics = {"images": {"train": 8, "val": 4}}
    dataset.save()
    assert json.loads(datasets("statistics", "pets", "--json")) == dataset.statistics
    assert "train: 8" in datasets("statistics", "pets")
    assert "its owner and administrators" in datasets("share", "pets", "--with", "private")
    dataset.refresh_from_db()
    assert dataset.visibility == "private"


def test_a_refused_dataset_is_reported_with_an_exit_code(dataset: Dataset) -> None:
    item = {"level": "error", "code": "empty", "file": "a.zip", "message": "a.zip holds nothing."}
    Dataset.objects.update(status="refused", report=[item])
    with pytest.raises(CommandError, match="was refused"):
        datasets("report", "pets")


def test_delete_asks_and_is_refused_while_runs_use_it(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "n")
    datasets("delete", "pets")
    assert "would be deleted" in datasets("delete", "pets", "--dry-run")
    with pytest.raises(CommandError, match="uses this dataset"):
        datasets("delete", "pets", "--yes")
    run.delete()
    datasets("delete", "pets", "--yes")
    assert not Dataset.objects.exists()


def test_store(dataset: Dataset, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    no_worker(monkeypatch)
    with pytest.raises(CommandError, match="OBJECT_STORE_URL"):
        datasets("store", "pets")
    settings.OBJECT_STORE_URL = "/mnt/store"
    assert datasets("store", "pets") == "A worker stores “pets”.\n"
    assert Job.objects.get().kind == Job.Kind.STORE_DATASET
    with pytest.raises(CommandError, match="being stored already"):
        datasets("store", dataset.pk)
