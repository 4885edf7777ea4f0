"""The verbs of checkpoints, and the maintenance by a worker."""

import fcntl
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from django.db import connection
from django.utils import timezone

from tests.helpers.saved import content, flip_a_bit, open_folder, save, stored_files
from tests.helpers.stored import stored
from tests.helpers.trainers import assert_bit_equal
from trainingapp.contract.retention import Policy, held_pins
from trainingapp.contract.storage.index import read_index
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.sizes import all_parts, own_bytes
from trainingapp.engine.checkpoint import load_checkpoint
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import checkpoint_files as housekeeping
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def files(run: TrainingRun) -> list[str]:
    return list(run.checkpoints.order_by("step").values_list("file", flat=True))


def disk_bytes(run: TrainingRun) -> int:
    return sum(path.stat().st_size for path in (run.folder / "checkpoints").rglob("*.p*"))


# Deleting


def test_deletion_frees_the_announced_bytes_and_leaves_the_others_intact(make: MAKE) -> None:
    run = stored(make("paused"))
    said = run_verbs.checkpoints_deletion(run, ["epoch_1.pt", "epoch_3.pt"])
    before = disk_bytes(run)
    assert run_verbs.delete_checkpoints(run, ["epoch_1.pt", "epoch_3.pt"], by="ada") == said
    assert before - disk_bytes(run) == said.freed_bytes > 0
    assert (
        files(run) == ["epoch_2.pt", "epoch_4.pt"] == [entry.file for entry in read_index(run.folder / "checkpoints")]
    )
    for number in (2, 4):
        assert_bit_equal(load_checkpoint(run.folder / "checkpoints" / f"epoch_{number}.pt"), content(number))
    logged = run.events.get(type=RunEvent.Type.LOG).data["message"]
    assert "epoch_1.pt, epoch_3.pt" in logged
    assert "ada" in logged
    folder = run.folder / "checkpoints"
    own = own_bytes(all_parts(folder, Packs(folder)))
    assert dict(run.checkpoints.values_list("file", "stored_bytes")) == own


def test_deleting_a_missing_checkpoint_is_no_error(make: MAKE) -> None:
    run = stored(make("paused"))
    run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    assert run_verbs.delete_checkpoints(run, ["epoch_1.pt", "epoch_9.pt"]).freed_bytes == 0
    assert run.events.filter(type=RunEvent.Type.LOG).count() == 1


def test_rows_without_files_are_removed_after_a_crash(make: MAKE) -> None:
    run = stored(make("completed"))
    from trainingapp.contract.storage.sizes import remove_checkpoints

    remove_checkpoints(run.folder / "checkpoints", ["epoch_2.pt"])
    run_verbs.delete_checkpoints(run, ["epoch_2.pt"])
    assert files(run) == ["epoch_1.pt", "epoch_3.pt", "epoch_4.pt"]


def test_the_newest_remaining_one_becomes_the_last(make: MAKE) -> None:
    run = stored(make("completed"))
    run_verbs.delete_checkpoints(run, ["epoch_4.pt"])
    assert run.checkpoints.get(is_last=True).file == "epoch_3.pt"


@pytest.mark.parametrize("status", ["paused", "failed", "stopped", "queued"])
def test_two_valid_ones_are_kept_of_a_resumable_run(make: MAKE, status: str) -> None:
    run = stored(make(status), 3)
    run.checkpoints.filter(file="epoch_3.pt").update(damage="is corrupted")
    with pytest.raises(VerbError, match="at least 2 valid"):
        run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    run_verbs.delete_checkpoints(run, ["epoch_3.pt"])
    assert files(run) == ["epoch_1.pt", "epoch_2.pt"], "a damaged one may always go"


def test_all_of_a_finished_run_may_be_deleted(make: MAKE) -> None:
    run = stored(make("completed"), 2)
    run_verbs.delete_checkpoints(run, files(run))
    assert stored_files(run.folder) == {"index.json"}


def test_checkpoints_of_a_running_run_are_not_deleted(make: MAKE) -> None:
    run = stored(make("running"))
    with pytest.raises(VerbError, match="Pause it before"):
        run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    with pytest.raises(VerbError, match="Pause it before"):
        run_verbs.clean_up(run, Policy(last=1))
    assert len(files(run)) == 4


def test_checkpoints_are_not_deleted_while_the_trainer_ends(make: MAKE) -> None:
    run = stored(make("paused"))
    with (run.folder / "trainer.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(VerbError, match="Pause it before"):
            run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    assert len(files(run)) == 3


def test_a_corrupted_index_is_reported(make: MAKE) -> None:
    run = stored(make("paused"))
    (run.folder / "checkpoints" / "index.json").write_text("[{")
    with pytest.raises(VerbError, match="is corrupted"):
        run_verbs.delete_checkpoints(run, ["epoch_1.pt"])
    assert len(files(run)) == 4


@pytest.mark.django_db(transaction=True)
def test_concurrent_deletions_are_consistent(make: MAKE) -> None:
    run = stored(make("completed"))
    results: list[object] = []

    def delete(names: list[str]) -> None:
        try:
            results.append(run_verbs.delete_checkpoints(TrainingRun.objects.get(pk=run.pk), names))
        except VerbError as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=delete, args=(names,)) for names in (["epoch_1.pt", "epoch_2.pt"],) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert files(run) == ["epoch_3.pt", "epoch_4.pt"]
    for number in (3, 4):
        assert_bit_equal(load_checkpoint(run.folder / "checkpoints" / f"epoch_{number}.pt"), content(number))


# Keeping by hand


def test_a_pinned_checkpoint_is_neither_deleted_nor_cleaned_up(make: MAKE) -> None:
    run = stored(make("completed"))
    run_verbs.pin_checkpoint(run.checkpoints.get(file="epoch_2.pt"))
    run_verbs.pin_checkpoint(run.checkpoints.get(file="epoch_2.pt"))
    with pytest.raises(VerbError, match="pinned"):
        run_verbs.delete_checkpoints(run, ["epoch_2.pt"])
    run_verbs.clean_up(run, Policy(last=1))
    assert files(run) == ["epoch_1.pt", "epoch_2.pt", "epoch_4.pt"]
    run_verbs.pin_checkpoint(run.checkpoints.get(file="epoch_2.pt"), is_pinned=False)
    run_verbs.clean_up(run, Policy(last=1))
    assert files(run) == ["epoch_1.pt", "epoch_4.pt"]


def test_a_trainer_keeps_pinned_checkpoints(make: MAKE) -> None:
    run = stored(make("running"), 3, last=2)
    assert files(run) == ["epoch_1.pt", "epoch_2.pt", "epoch_3.pt"]
    run_verbs.pin_checkpoint(run.checkpoints.get(file="epoch_2.pt"))
    folder = open_folder(run.folder, last=2)
    for epoch in (4, 5, 6):
        save(folder, epoch)
    left = [entry.file for entry in read_index(run.folder / "checkpoints")]
    assert left == ["epoch_1.pt", "epoch_2.pt", "epoch_5.pt", "epoch_6.pt"]


def test_a_missing_checkpoint_cannot_be_pinned(make: MAKE) -> None:
    run = stored(make("running"))
    checkpoint = run.checkpoints.get(file="epoch_2.pt")
    checkpoint.path.unlink()
    with pytest.raises(VerbError, match="no longer exists"):
        run_verbs.pin_checkpoint(checkpoint)
    with held_pins(run.folder) as pins:
        assert not pins


# Cleaning up


def test_a_clean_up_deletes_what_its_preview_shows(make: MAKE) -> None:
    run = stored(make("paused"), 6, best=2)
    plan = run_verbs.plan_clean_up(run, Policy(last=2))
    assert plan.choice.removed == ["epoch_1.pt", "epoch_3.pt", "epoch_4.pt"]
    before = disk_bytes(run)
    assert run_verbs.clean_up(run, Policy(last=2)).freed_bytes == plan.removal.freed_bytes == before - disk_bytes(run)
    assert files(run) == ["epoch_2.pt", "epoch_5.pt", "epoch_6.pt"]
    assert not run_verbs.plan_clean_up(run, Policy(last=2)).choice.removed


def test_a_worker_applies_the_age_limit(make: MAKE) -> None:
    old, fresh, busy = stored(make("completed")), stored(make("completed")), stored(make("running"))
    for run, days in ((old, 1.0), (fresh, 0.0), (busy, 1.0)):
        run.config["keep_days"] = days
        run.save(update_fields=["config"])
    housekeeping.apply_ages()
    assert files(old) == ["epoch_1.pt", "epoch_4.pt"], "the best and the newest stay"
    assert len(files(fresh)) == len(files(busy)) == 4
    housekeeping.apply_ages()
    assert old.events.filter(type=RunEvent.Type.LOG).count() == 1


# Comparing with hashes


def test_corruption_is_detected_marked_and_logged_and_so_is_its_end(make: MAKE) -> None:
    run = stored(make("paused"))
    clone = make("pending")
    clone.config["start_from"] = f"run/{run.pk}/epoch_4.pt"
    clone.save(update_fields=["config"])
    pack = sorted((run.folder / "checkpoints" / "packs").iterdir())[-1]
    whole = pack.read_bytes()
    flip_a_bit(pack, 4000)
    assert housekeeping.scrub_some() == 1
    damaged = run.checkpoints.get(file="epoch_4.pt")
    assert "does not match" in damaged.damage
    assert damaged.damage_data["code"] == "damage_pack_hash"
    assert run.checkpoints.filter(damage="").count() == 3
    assert not run.checkpoints.filter(checked_at=None).exists()
    event = run.events.get(type=RunEvent.Type.LOG)
    assert event.level == "error"
    assert f"“{clone.name}”" in event.data["message"]
    assert run_verbs.verify_checkpoint(damaged)
    assert run.events.filter(type=RunEvent.Type.LOG).count() == 1, "told once"
    pack.write_bytes(whole)
    assert run_verbs.verify_checkpoint(run.checkpoints.get(file="epoch_4.pt")) == ""
    assert "valid again" in run.events.filter(type=RunEvent.Type.LOG).last().data["message"]


def test_only_due_checkpoints_are_verified_the_oldest_check_first(make: MAKE, settings: Any) -> None:
    run = stored(make("paused"))
    now = timezone.now()
    run.checkpoints.filter(file="epoch_1.pt").update(checked_at=now - timedelta(days=2))
    run.checkpoints.filter(file="epoch_2.pt").update(checked_at=now - timedelta(days=30))
    assert [row.file for row in housekeeping.due_checkpoints()] == ["epoch_3.pt", "epoch_4.pt", "epoch_2.pt"]
    housekeeping.scrub_some(most_s=0)
    assert run.checkpoints.filter(checked_at__gte=now).count() == 1, "one at least, then its time is over"
    settings.SCRUB_DAYS = 0
    assert housekeeping.scrub_some() == 0
    assert run.checkpoints.filter(checked_at__gte=now).count() == 1


def test_a_checkpoint_that_the_trainer_just_removed_is_not_called_corrupted(make: MAKE) -> None:
    run = stored(make("running"), 3, last=2)
    save(open_folder(run.folder, last=2), 4)
    assert housekeeping.scrub_some() == 0
    assert not run.checkpoints.exclude(damage="").exists()
    assert run.checkpoints.filter(file="epoch_2.pt").exists(), "its supervisor will say so"


def test_a_missing_checkpoint_of_an_idle_run_is_reported(make: MAKE) -> None:
    run = stored(make("completed"))
    run.checkpoints.get(file="epoch_2.pt").path.unlink()
    assert housekeeping.scrub_some() == 1
    assert run.checkpoints.get(file="epoch_2.pt").damage == "is missing"


# Copies


@pytest.mark.parametrize("form", ["compact", "plain"])
def test_a_copy_can_be_loaded_by_torch(make: MAKE, tmp_path: Path, form: str) -> None:
    run = stored(make("paused"), 2, form=form)
    size = run_verbs.copy_checkpoint(run.checkpoints.get(file="epoch_2.pt"), tmp_path / "copy.pt")
    assert size == (tmp_path / "copy.pt").stat().st_size
    assert_bit_equal(torch.load(tmp_path / "copy.pt", weights_only=True), content(2))


def test_copying_a_corrupted_or_missing_checkpoint_is_refused(make: MAKE, tmp_path: Path) -> None:
    run = stored(make("paused"))
    flip_a_bit(sorted((run.folder / "checkpoints" / "packs").iterdir())[-1], 4000)
    with pytest.raises(VerbError, match="does not match"):
        run_verbs.copy_checkpoint(run.checkpoints.get(file="epoch_4.pt"), tmp_path / "copy.pt")
    run.checkpoints.get(file="epoch_1.pt").path.unlink()
    with pytest.raises(VerbError, match="no longer exists"):
        run_verbs.copy_checkpoint(run.checkpoints.get(file="epoch_1.pt"), tmp_path / "copy.pt")
    assert not list(tmp_path.glob("copy*"))


def test_copying_to_an_unwritable_place_is_refused(make: MAKE, tmp_path: Path) -> None:
    run = stored(make("paused"))
    with pytest.raises(VerbError, match="cannot be written"):
        run_verbs.copy_checkpoint(run.checkpoints.get(file="epoch_1.pt"), tmp_path / "nowhere" / "copy.pt")
