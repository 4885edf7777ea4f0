"""Each run writes files for TensorBoard: every point once, whatever was killed in between."""

import os
import signal
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.trainers import HARD, EndAfter, change_order, curves, events_of, index_of, train_here
from trainingapp.contract.commands import Evaluate
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.contract.run_directory import TENSORBOARD_DIR
from trainingapp.engine.tensorboard_writer import TensorBoardWriter


def read(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    reader = EventAccumulator(str(run_dir / TENSORBOARD_DIR))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in reader.Scalars(tag)] for tag in tags}


def expected(run_dir: Path, name: str, split: str) -> list[tuple[int, float]]:
    points = curves(run_dir)
    return sorted((step, values[name]) for (which, step), values in points.items() if which == split)


def assert_complete(run_dir: Path) -> None:
    found = read(run_dir)
    for name, split in (("loss", "train"), ("lr", "train"), ("top1", "train"), ("loss", "val"), ("top1", "val")):
        points = found[f"{name}/{split}"]
        wanted = expected(run_dir, name, split)
        assert [step for step, _value in points] == [step for step, _value in wanted], (name, split)
        assert [value for _step, value in points] == pytest.approx([value for _step, value in wanted], rel=1e-6)


def test_all_points_of_a_run_are_written(new_run) -> None:
    run_dir = new_run(**HARD)
    train_here(run_dir)
    assert_complete(run_dir)
    assert len(read(run_dir)["loss/train"]) == 18


@pytest.mark.long
def test_a_killed_run_has_each_point_once(new_run, start) -> None:
    run_dir = new_run(**HARD)
    trainer = start(run_dir)
    trainer.wait_for(lambda event: event["type"] == "checkpoint")
    trainer.wait_for(lambda event: event["type"] == "metrics" and event["step"] >= 9)
    os.kill(trainer.process.pid, signal.SIGKILL)
    trainer.wait()
    change_order(run_dir)
    assert start(run_dir).wait() == 0
    assert_complete(run_dir)


def test_a_paused_run_has_each_point_once(new_run) -> None:
    run_dir = new_run(**HARD)
    train_here(run_dir, EndAfter(9))
    assert index_of(run_dir)[-1]["reason"] == "pause"
    change_order(run_dir)
    train_here(run_dir)
    assert_complete(run_dir)


def test_without_the_package_the_run_continues_with_a_warning(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run_dir = new_run(epochs=1)
    assert train_here(run_dir) == "completed"
    assert not (run_dir / TENSORBOARD_DIR).exists()
    (line,) = [event["message"] for event in events_of(run_dir, "log") if "TensorBoard" in event["message"]]
    assert "tensorboard is not installed" in line


def test_an_unwritable_folder_gives_a_warning_only(new_run) -> None:
    run_dir = new_run(epochs=1)
    (run_dir / TENSORBOARD_DIR).write_text("a file where the folder should be")
    assert train_here(run_dir) == "completed"
    (event,) = [event for event in events_of(run_dir, "log") if "TensorBoard" in event["message"]]
    assert event["level"] == "warning"


def test_a_disk_that_fills_up_ends_the_files_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = EventLog(tmp_path / EVENTS_FILE, 1)
    board = TensorBoardWriter(tmp_path, 0, events)
    assert board._writer is not None
    monkeypatch.setattr(board._writer, "add_scalar", _full)
    board.add("train", {"loss": 1.0}, 1)
    board.add("train", {"loss": 1.0}, 2)
    board.flush()
    assert ["could not be written" in event["message"] for event in events_of(tmp_path, "log")] == [True]


def _full(*arguments: object) -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")


def test_a_requested_evaluation_is_a_point(new_run) -> None:
    from tests.engine.test_requests import Ask

    run_dir = new_run(epochs=1)
    train_here(run_dir, Ask({3: Evaluate(id=1)}))
    assert [step for step, _value in read(run_dir)["top1/val"]] == [3, 6]
