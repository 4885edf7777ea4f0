"""The copies of datasets that a host keeps."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.machines import machine
from trainingapp.models import Dataset, HostDataset, TrainingRun
from trainingapp.object_store.download import key_lock
from trainingapp.supervision import HOST, dataset_copies, supervise, worker_id
from trainingapp.supervision.dataset_copies import is_here, make_room

pytestmark = pytest.mark.django_db
MB = 1_000_000


@pytest.fixture
def copies(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three copies of 10 MB, the oldest first, and a limit of 35 MB."""
    settings.OBJECT_STORE_URL, settings.CACHE_DIR, settings.CACHE_BYTES = "/store", tmp_path / "cache", 35 * MB
    monkeypatch.setattr(dataset_copies, "SPARE_BYTES", 0)
    host, folder = machine(HOST), tmp_path / "cache" / "datasets"
    for age, key in enumerate(("c", "b", "a")):
        (folder / key).mkdir(parents=True)
        used_at = timezone.now() - timedelta(hours=age)
        HostDataset.objects.create(host=host, key=key, size_bytes=10 * MB, used_at=used_at)
    return folder


def names(folder: Path) -> list[str]:
    assert set(HostDataset.objects.values_list("key", flat=True)) == {
        path.name for path in folder.iterdir() if not path.name.startswith(".")
    }
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize(("needed", "left"), [(5, "abc"), (6, "bc"), (15, "bc"), (16, "c"), (40, "")])
def test_the_least_recently_used_copies_are_removed(copies: Path, needed: int, left: str) -> None:
    make_room(needed * MB)
    assert names(copies) == list(left)


def test_without_a_limit_the_disk_decides(copies: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CACHE_BYTES = 0
    make_room(10 * MB)
    assert names(copies) == ["a", "b", "c"]
    monkeypatch.setattr(dataset_copies, "SPARE_BYTES", 1 << 60)  # no disk has that
    make_room(10 * MB)
    assert names(copies) == []


def test_a_copy_that_a_run_has_or_a_process_fetches_stays(
    copies: Path, make: Callable[..., TrainingRun], dataset: Dataset
) -> None:
    Dataset.objects.update(store_key="a")
    run = make("running", host=HOST)
    with key_lock(copies, "b"):
        make_room(40 * MB)
    assert names(copies) == ["a", "b"]
    TrainingRun.objects.filter(pk=run.pk).update(status="completed")
    make_room(40 * MB)
    assert names(copies) == []


def test_files_that_are_here_are_not_fetched(tints: Dataset, copies: Path, settings: Any) -> None:
    assert is_here(tints)
    (tints.folder / "dataset.json").unlink()
    assert not is_here(tints)
    settings.OBJECT_STORE_URL = ""
    assert is_here(tints)


def test_downloads_that_nobody_continues_are_removed(copies: Path) -> None:
    for key, age_h in (("old", 25), ("held", 25), ("new", 1)):
        done = copies / f".fetching-{key}" / ".parts"
        done.mkdir(parents=True)
        os.utime(done, (time.time() - age_h * 3600,) * 2)
    with key_lock(copies, "held"):
        make_room(0)
    assert sorted(path.name for path in copies.glob(".fetching-*")) == [".fetching-held", ".fetching-new"]


@pytest.mark.parametrize(
    ("key", "recoveries", "expected"),
    [
        ("", 0, ("queued", 30)),
        ("missing", 0, ("queued", 30)),
        ("missing", 2, ("queued", 120)),
        ("missing", 3, ("failed", 0)),
    ],
)
def test_a_dataset_that_cannot_be_fetched_is_tried_again(
    copies: Path,
    make: Callable[..., TrainingRun],
    dataset: Dataset,
    settings: Any,
    key: str,
    recoveries: int,
    expected: Any,
) -> None:
    settings.OBJECT_STORE_URL = str(copies.parent)
    Dataset.objects.update(store_key=key)
    held = {"attempt": 1, "worker": worker_id(), "host": HOST, "heartbeat_at": timezone.now()}
    run = make("running", recoveries=recoveries, **held)
    before = timezone.now()
    supervise(run)
    run.refresh_from_db()
    wait_s = round((run.not_before - before).total_seconds(), -1) if run.not_before else 0
    assert (run.status, wait_s) == expected
    assert run.error_class == "dataset_unavailable"
    assert "The dataset is not available here." in run.error_message
    assert run.spent_s < 1
