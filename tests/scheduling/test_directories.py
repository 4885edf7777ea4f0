"""With an object store, hosts need not share directories: a run goes where its files are, or can be fetched."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.machines import asking, machine
from trainingapp.models import Checkpoint, Dataset, Host, HostDataset, TrainingRun
from trainingapp.scheduling.inventory import adopt_files
from trainingapp.scheduling.placement import PREFERRED_FOR, read_queue
from trainingapp.scheduling.scheduler import claim_next, why_waiting
from trainingapp.supervision.identity import data_dir_id, runs_dir_id

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def object_store(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR, settings.OBJECT_STORE_URL = tmp_path / "data", str(tmp_path / "store")


@pytest.fixture
def stored(dataset: Dataset) -> Dataset:
    """The dataset of the runs, which is in the object store and was imported on another host."""
    dataset.store_key, dataset.data_dir_id = "key", "elsewhere"
    dataset.save()
    return dataset


def here(**fields: Any) -> None:
    machine("here", data_dir_id=data_dir_id(), runs_dir_id=runs_dir_id(), **fields)


def claim() -> TrainingRun | None:
    return claim_next("here", "here:1:2")


def queued(make: MAKE, **fields: Any) -> TrainingRun:
    return make("queued", queued_at=timezone.now(), **{"config": asking(), **fields})


def checkpoint(run: TrainingRun) -> None:
    values = {"attempt": 1, "epoch": 1, "step": 1, "size_bytes": 1, "created_at": timezone.now()}
    Checkpoint.objects.create(run=run, file="epoch-1.pt", **values)


def test_a_stored_dataset_trains_anywhere(make: MAKE, stored: Dataset) -> None:
    here()
    run = queued(make)
    assert claim() == run
    run.refresh_from_db()
    assert run.runs_dir_id == runs_dir_id() != ""


def test_a_dataset_that_is_not_stored_waits_for_a_host_with_its_files(make: MAKE, stored: Dataset) -> None:
    Dataset.objects.update(store_key="")
    here()
    machine("barn", data_dir_id="elsewhere", slots=0)
    run = queued(make)
    assert claim() is None
    assert "barn" in why_waiting(run)
    Dataset.objects.update(data_dir_id=data_dir_id())
    assert claim() == run


def test_a_dataset_of_unknown_place_waits(make: MAKE, stored: Dataset) -> None:
    Dataset.objects.update(store_key="", data_dir_id="")
    here()
    run = queued(make)
    assert claim() is None
    assert "object store" in why_waiting(run)


def test_a_run_with_checkpoints_waits_for_their_disk(make: MAKE, stored: Dataset) -> None:
    here()
    machine("barn", runs_dir_id="disk of the barn", away=True)
    run = queued(make, attempt=1, runs_dir_id="disk of the barn")
    checkpoint(run)
    assert claim() is None
    assert "barn" in why_waiting(run)
    TrainingRun.objects.update(runs_dir_id=runs_dir_id())
    assert claim() == run


def test_a_run_without_checkpoints_begins_anywhere(make: MAKE, stored: Dataset) -> None:
    """What an earlier attempt wrote here is stored already; that on the other disk does not count here."""
    here()
    run = queued(make, attempt=1, runs_dir_id="disk of the barn", event_offset=900)
    run.folder.mkdir(parents=True)
    (run.folder / "events.jsonl").write_text("{}\n")
    assert claim() == run
    run.refresh_from_db()
    assert (run.runs_dir_id, run.event_offset) == (runs_dir_id(), 3)


@pytest.mark.parametrize("config", [{"start_from": "run/{source}/epoch-1.pt"}, {}])
def test_a_run_that_starts_from_a_checkpoint_waits_for_its_disk(
    make: MAKE, stored: Dataset, config: dict[str, str]
) -> None:
    here()
    source = make("completed", attempt=1, runs_dir_id="disk of the barn")
    values = {name: text.format(source=source.pk) for name, text in config.items()}
    fork: dict[str, Any] = {} if config else {"forked_from": source, "forked_checkpoint": "epoch-1.pt"}
    run = queued(make, config=asking(**values), **fork)
    assert claim() is None
    TrainingRun.objects.filter(pk=source.pk).update(runs_dir_id=runs_dir_id())
    assert claim() == run


def test_a_run_that_starts_from_a_stored_model_waits_for_its_data_dir(make: MAKE, stored: Dataset) -> None:
    here()
    run = queued(make, config=asking(start_from="weights/1"))
    assert claim() is None
    Dataset.objects.update(data_dir_id=data_dir_id())
    assert claim() == run


def test_a_host_with_the_dataset_is_preferred_for_a_moment(make: MAKE, stored: Dataset) -> None:
    here()
    barn = machine("barn", data_dir_id="of the barn", runs_dir_id="of the barn")
    HostDataset.objects.create(host=barn, key="key", used_at=timezone.now())
    run = queued(make)
    assert claim() is None
    assert claim_next("barn", "barn:1:2") == run
    TrainingRun.objects.update(status="queued", queued_at=timezone.now() - PREFERRED_FOR - timedelta(seconds=1))
    assert claim() == run


def test_the_host_of_the_import_is_preferred_as_well(make: MAKE, stored: Dataset) -> None:
    machine("barn", data_dir_id="elsewhere")
    here()
    queued(make)
    assert [waiting.copies for waiting in read_queue()] == [{"barn"}]


def test_a_full_host_with_the_dataset_is_not_waited_for(make: MAKE, stored: Dataset) -> None:
    here()
    barn = machine("barn", slots=0)
    HostDataset.objects.create(host=barn, key="key", used_at=timezone.now())
    run = queued(make)
    assert claim() == run


def test_several_hosts_need_common_directories(make: MAKE, stored: Dataset) -> None:
    here(address="10.0.0.1", slots=1)
    machine("barn", address="10.0.0.2", slots=1, data_dir_id="of the barn", runs_dir_id="of the barn")
    together = asking(device="cpu", device_count=2, hosts_at_most=2, accumulation_steps=2)
    run = queued(make, config=together)
    assert claim() is None
    Host.objects.filter(name="barn").update(data_dir_id=data_dir_id(), runs_dir_id=runs_dir_id())
    assert claim() == run


def test_files_that_are_older_than_the_setting_are_found(make: MAKE, dataset: Dataset, settings: Any) -> None:
    run, elsewhere = make("paused", attempt=1), make("paused", attempt=1)
    run.folder.mkdir(parents=True)
    dataset.folder.mkdir(parents=True)
    url, settings.OBJECT_STORE_URL = settings.OBJECT_STORE_URL, ""
    adopt_files()
    dataset.refresh_from_db()
    assert dataset.data_dir_id == ""
    settings.OBJECT_STORE_URL = url
    adopt_files()
    for row in (run, elsewhere, dataset):
        row.refresh_from_db()
    assert (run.runs_dir_id, elsewhere.runs_dir_id, dataset.data_dir_id) == (runs_dir_id(), "", data_dir_id())


def test_without_the_setting_nothing_is_bound(make: MAKE, stored: Dataset, settings: Any) -> None:
    settings.OBJECT_STORE_URL = ""
    machine("here")
    run = queued(make, attempt=1, runs_dir_id="disk of the barn", event_offset=900)
    checkpoint(run)
    assert claim() == run
    run.refresh_from_db()
    assert (run.runs_dir_id, run.event_offset) == ("disk of the barn", 900)
    assert (data_dir_id(), runs_dir_id()) == ("", "")
    assert not list(Path(settings.RUNS_DIR).glob(".directory_id*"))


def test_an_id_belongs_to_the_directory(tmp_path: Path, settings: Any) -> None:
    first = data_dir_id()
    assert len(first) == 32
    assert data_dir_id() == first
    settings.DATA_DIR = tmp_path / "other"
    assert data_dir_id() != first
    assert [path.name for path in (tmp_path / "other").iterdir()] == [".directory_id"]
