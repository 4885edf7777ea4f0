"""Checkpoints: their contents, retention, and the handling of corrupted ones."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
import torchvision

from tests.helpers.trainers import (
    HARD,
    EndAfter,
    assert_same_result,
    change_order,
    events_of,
    index_of,
    last_status,
    train_here,
)
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.sizes import all_parts, parts_of
from trainingapp.engine.__main__ import main
from trainingapp.engine.control import Control


def _warnings(run_dir: Path) -> str:
    return "\n".join(event["message"] for event in events_of(run_dir, "log") if event["level"] == "warning")


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("form", ["compact", "plain"])
def test_content_is_what_users_load(new_run, tmp_path: Path, form: str) -> None:
    run_dir = new_run(**{**HARD, "augmentation": "none"}, checkpoint_format=form)
    train_here(run_dir)
    path = run_dir / "checkpoints" / "epoch_3.pt"
    if form == "compact":
        assert main(["--export-checkpoint", str(path), "--to", str(tmp_path / "out.pt")]) == 0
        path = tmp_path / "out.pt"
    content = torch.load(path, weights_only=True)
    wanted = {"epoch", "model_state_dict", "optimizer_state_dict", "metrics", "is_best", "timestamp", "classes"}
    assert wanted <= content.keys()
    assert content["epoch"] == 3
    assert content["metrics"].keys() == {"loss", "top1", "top5", "macro_f1"}
    plain = torchvision.models.mobilenet_v3_small(num_classes=2)
    plain.load_state_dict(content["model_state_dict"])


def test_every_checkpoint_event_has_its_file_and_index_entry(straight_run: Path) -> None:
    events = events_of(straight_run, "checkpoint")
    assert [event["file"] for event in events] == ["epoch_1.pt", "epoch_2.pt", "epoch_3.pt"]
    folder = straight_run / "checkpoints"
    for event, entry in zip(events, index_of(straight_run), strict=True):
        assert (event["sha256"], event["size_bytes"]) == (entry["sha256"], entry["size_bytes"])
        parts = parts_of(folder, entry["file"], Packs(folder))
        assert sum(parts.values()) == entry["size_bytes"]
    on_disk = sum(path.stat().st_size for path in folder.rglob("*.p*"))
    assert sum(set_of_parts(folder).values()) == on_disk, "nothing lies there that no checkpoint needs"
    assert sum(entry["is_best"] for entry in index_of(straight_run)) == 1


def set_of_parts(folder: Path) -> dict[str, int]:
    return {name: size for parts in all_parts(folder, Packs(folder)).values() for name, size in parts.items()}


def test_best_is_the_first_with_the_highest_top1(straight_run: Path) -> None:
    points = [event for event in events_of(straight_run, "metrics") if event["split"] == "val"]
    best = max(points, key=lambda event: (event["values"]["top1"], -event["epoch"]))
    assert [entry["epoch"] for entry in index_of(straight_run) if entry["is_best"]] == [best["epoch"]]
    assert [event["epoch"] for event in points if event["is_best"]][-1] == best["epoch"]


@pytest.mark.parametrize(
    "damage", [_flip_a_bit, *(pytest.param(each, marks=pytest.mark.long) for each in (_truncate, Path.unlink))]
)
def test_a_corrupted_newest_checkpoint_is_set_aside_and_the_previous_one_used(
    new_run, straight_run: Path, damage
) -> None:
    run_dir = new_run(**HARD)
    train_here(run_dir, EndAfter(20))
    newest, before = index_of(run_dir)[-1]["file"], index_of(run_dir)[-2]["file"]
    damage(run_dir / "checkpoints" / newest)
    change_order(run_dir)
    train_here(run_dir)
    assert newest in _warnings(run_dir)
    assert [event for event in events_of(run_dir, "status") if event.get("resumed_from") == before]
    assert_same_result(run_dir, straight_run)


def test_without_a_valid_checkpoint_the_run_starts_over_with_a_message(new_run, straight_run: Path) -> None:
    run_dir = new_run(**HARD)
    train_here(run_dir, EndAfter(9))
    for entry in index_of(run_dir):
        _flip_a_bit(run_dir / "checkpoints" / entry["file"])
    change_order(run_dir)
    train_here(run_dir)
    assert "from the beginning" in _warnings(run_dir)
    assert_same_result(run_dir, straight_run)


def test_a_corrupted_index_is_rebuilt_from_the_events(new_run) -> None:
    run_dir = new_run(epochs=2)
    train_here(run_dir, EndAfter(11))  # into the second epoch: a best one and one within
    before = index_of(run_dir)
    assert len(before) == 2
    (run_dir / "checkpoints" / "index.json").write_text("[{")
    change_order(run_dir)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    assert "index.json is corrupted" in _warnings(run_dir)
    starts = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    assert starts[-1]["resumed_from"] == before[-1]["file"]
    assert [entry["file"] for entry in index_of(run_dir) if entry["is_best"]] == ["epoch_1.pt"]


def test_leftovers_of_a_kill_are_removed_and_missing_events_written(new_run) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir, EndAfter(3))
    leftover = run_dir / "checkpoints" / "epoch_1.pt.tmp"
    leftover.write_bytes(b"half")
    lines = (run_dir / "events.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "events.jsonl").write_text("".join(line for line in lines if '"checkpoint"' not in line))
    change_order(run_dir)
    train_here(run_dir)
    assert not leftover.exists()
    assert [event["file"] for event in events_of(run_dir, "checkpoint")] == ["step_3.pt", "epoch_1.pt"]


def test_newest_and_best_are_kept(new_run) -> None:
    run_dir = new_run(epochs=6, keep_checkpoints=2, learning_rate=1e-9, augmentation="none")
    train_here(run_dir)
    assert [entry["file"] for entry in index_of(run_dir)] == ["epoch_1.pt", "epoch_5.pt", "epoch_6.pt"]
    files = {path.name for path in (run_dir / "checkpoints").glob("*.pt")}
    assert files == {"epoch_1.pt", "epoch_5.pt", "epoch_6.pt"}
    removed = [name for event in events_of(run_dir, "checkpoint") for name in event["removed"]]
    assert removed == ["epoch_2.pt", "epoch_3.pt", "epoch_4.pt"]


def test_the_last_epoch_is_always_saved(new_run) -> None:
    run_dir = new_run(epochs=2, checkpoint_every_epochs=1000)
    train_here(run_dir)
    assert index_of(run_dir)[-1]["file"] == "epoch_2.pt"


def test_autosave_saves_within_the_epoch(new_run) -> None:
    run_dir = new_run(epochs=1, autosave_minutes=0.0001)
    train_here(run_dir)
    assert "autosave" in {event["reason"] for event in events_of(run_dir, "checkpoint")}


def test_early_stopping_completes_with_a_reason(new_run) -> None:
    run_dir = new_run(epochs=50, early_stopping_epochs=2, learning_rate=1e-9, augmentation="none")
    assert train_here(run_dir) == "completed"
    assert last_status(run_dir)["epoch"] == 3
    assert any("Stopped early" in event["message"] for event in events_of(run_dir, "log"))
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert last_status(run_dir)["epoch"] == 3


def test_batch_size_may_change_between_attempts(new_run) -> None:
    run_dir = new_run(epochs=2)
    train_here(run_dir, EndAfter(4))
    change_order(run_dir, batch_size=4)
    assert train_here(run_dir) == "completed"
    assert "now has 11 steps instead of 6" in _warnings(run_dir)
    assert last_status(run_dir)["step"] == 22


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 38 MB: two checkpoints fit, a third does not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=38m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"A tmpfs may not be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_fails_with_a_clear_error_and_no_loss(
    small_disk: Path, dataset_dir: Path, start, straight_run
) -> None:
    from tests.helpers.images import make_run_dir

    run_dir = make_run_dir(small_disk / "run", dataset_dir, **HARD)
    trainer = start(run_dir)
    assert trainer.wait() == 28, trainer.log()
    failed = last_status(run_dir)
    assert (failed["state"], failed["error_class"]) == ("failed", "disk_full")
    assert not list((run_dir / "checkpoints").glob("*.tmp"))
    assert [entry["file"] for entry in index_of(run_dir)] == ["epoch_1.pt", "epoch_2.pt"]
    subprocess.run(["mount", "-o", "remount,size=120m", small_disk], check=True)
    change_order(run_dir)
    assert train_here(run_dir, Control()) == "completed"
    assert_same_result(run_dir, straight_run)


def test_index_is_plain_json_in_the_order_of_saving(straight_run: Path) -> None:
    entries = json.loads((straight_run / "checkpoints" / "index.json").read_text())
    assert [entry["step"] for entry in entries] == [6, 12, 18]
