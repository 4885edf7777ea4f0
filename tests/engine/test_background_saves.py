"""Saves in the background: durable in time whatever else runs, and reported as saved only then."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.saved import content, open_folder, save
from tests.helpers.studio import wait_for
from tests.helpers.trainers import assert_bit_equal, events_of, train_here
from trainingapp.contract.events import CheckpointSaved, EventLog
from trainingapp.engine import background_save
from trainingapp.engine.background_save import BackgroundWriter, Pace
from trainingapp.engine.checkpoint import CheckpointFolder, load_checkpoint

#: A test that waits for longer than this has failed.
PATIENCE_S = 60.0
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")


@pytest.fixture
def endless_rests(monkeypatch) -> None:
    """Rests that would last longer than any test: whoever waits for one never ends."""
    monkeypatch.setattr(background_save, "REST", 1e9)


def _alone(slow_s: float) -> Pace:
    pace = Pace(0, alone=True)
    pace.slow_s = slow_s
    return pace


class Work:
    """Pieces of work that note which of them are done, and with which priority."""

    def __init__(self, pieces: int = 5) -> None:
        self.done = threading.Event()
        self.first = threading.Event()
        self.niceness: list[int] = []
        self._pieces = pieces

    def pieces(self) -> Iterator[None]:
        for _ in range(self._pieces):
            self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            threading.Event().wait(0.001)  # the rest after a piece is a multiple of its time
            self.first.set()
            yield
        self.done.set()


def test_rests_end_when_the_deadline_requires_it(endless_rests) -> None:
    work = Work()
    BackgroundWriter().begin(work.pieces(), _alone(slow_s=0.05))
    assert work.done.wait(PATIENCE_S)


def test_a_second_save_is_not_delayed_by_the_rests_of_the_first(endless_rests) -> None:
    writer, first, second = BackgroundWriter(), Work(), Work()
    writer.begin(first.pieces(), _alone(slow_s=1e6))
    assert first.first.wait(PATIENCE_S)
    assert not first.done.is_set(), "it rests"
    writer.finish()
    assert first.done.is_set()
    writer.begin(second.pieces(), Pace(0, alone=False))
    assert second.done.wait(PATIENCE_S)


@ON_LINUX
def test_low_priority_is_used_only_while_the_run_is_alone(monkeypatch) -> None:
    monkeypatch.setattr(background_save, "REST", 0.0)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    alone, beside = Work(), Work()
    BackgroundWriter().begin(alone.pieces(), _alone(slow_s=1e6))
    BackgroundWriter().begin(beside.pieces(), Pace(0, alone=False))
    assert alone.done.wait(PATIENCE_S)
    assert beside.done.wait(PATIENCE_S)
    assert set(alone.niceness) == {min(19, own + background_save.NICENESS)}
    assert set(beside.niceness) == {own}


def test_the_error_of_a_save_is_kept_until_the_next() -> None:
    def failing() -> Iterator[None]:
        yield
        raise OSError("no disk")

    writer, work = BackgroundWriter(), Work()
    writer.begin(failing(), Pace(0, alone=False))
    writer.finish()
    assert str(writer.failure) == "no disk"
    assert not writer.is_writing
    writer.begin(work.pieces(), Pace(0, alone=False))
    writer.finish()
    assert writer.failure is None


def test_a_save_has_five_seconds_or_three_times_a_plain_one() -> None:
    assert Pace(100_000_000, alone=True).promised_s == 5.0
    assert Pace(10_000_000_000, alone=True).promised_s == 30.0


@pytest.mark.parametrize("size", [0, 10**8, 4 * 10**8, 10**9, 10**10])
def test_the_slow_part_leaves_enough_time_to_write_everything(size: int) -> None:
    pace = Pace(size, alone=True)
    assert pace.slow_s <= pace.promised_s - size / background_save.LEAST_BYTES_PER_S or pace.slow_s == 0
    assert Pace(size, alone=False).slow_s == 0


def test_a_save_is_late_when_its_pace_does_not_suffice() -> None:
    pace = Pace(400_000_000, alone=False, began_at=0.0)
    assert not pace.is_late(now=0.0), "nothing is measured yet"
    pace.bytes_left = 300_000_000
    assert not pace.is_late(now=1.0), "100 MB/s are enough for 300 MB in 3 s"
    pace.bytes_left = 250_000_000
    assert pace.is_late(now=2.0), "75 MB/s are too little for 250 MB in 2 s"


def test_a_late_save_is_stored_uncompressed_and_restored_bit_for_bit(tmp_path: Path, monkeypatch) -> None:
    numbers = torch.full((1 << 20,), 0.5)
    saved = {**content(1), "numbers": numbers}
    folder = open_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "is_late", lambda self: True)
        folder.save(saved, file="epoch_1.pt", reason="epoch")
        folder.drain()
    path = tmp_path / "checkpoints" / "epoch_1.pt"
    assert_bit_equal(load_checkpoint(path), saved)
    pack = tmp_path / "checkpoints" / "packs" / "000001.pack"
    assert pack.stat().st_size > numbers.nbytes
    folder.save({**content(2), "numbers": numbers}, file="epoch_2.pt", reason="epoch")
    folder.drain()
    assert (pack.with_name("000002.pack")).stat().st_size < 200_000, "what did not change is shared"


@ON_LINUX
@pytest.mark.parametrize("form", ["compact", "plain"])
def test_the_event_is_written_when_everything_is_on_the_disk(tmp_path: Path, monkeypatch, form: Any) -> None:
    flushed: set[str] = set()
    at_event: list[tuple[set[str], bool]] = []
    folder = open_folder(tmp_path, form=form)
    fsync, write = os.fsync, EventLog.write

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def noted_write(log: EventLog, event: Any, **place: int) -> None:
        if isinstance(event, CheckpointSaved):
            at_event.append((set(flushed), (tmp_path / "checkpoints" / event.file).exists()))
        write(log, event, **place)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(EventLog, "write", noted_write)
    save(folder, 1)
    files = {"epoch_1.pt.tmp", "index.json.tmp", "checkpoints"}
    ((before, is_there),) = at_event
    assert is_there
    assert before >= (files | {"000001.pack.tmp", "packs"} if form == "compact" else files)


def test_progress_names_the_checkpoint_until_it_is_on_the_disk(new_run, monkeypatch) -> None:
    """The disk takes the first checkpoint only when the next epoch has begun."""
    run_dir = new_run(epochs=3)
    take_in = CheckpointFolder._take_in

    def late(folder: CheckpointFolder, new: Any, *arguments: Any) -> list[str]:
        if new.file == "epoch_1.pt":
            wait_for(lambda: any(event.get("saving") for event in events_of(run_dir, "progress")))
        return take_in(folder, new, *arguments)

    monkeypatch.setattr(CheckpointFolder, "_take_in", late)
    assert train_here(run_dir) == "completed"
    events = events_of(run_dir)
    saved_at = {event["file"]: place for place, event in enumerate(events) if event["type"] == "checkpoint"}
    progress = {place: event.get("saving", "") for place, event in enumerate(events) if event["type"] == "progress"}
    assert "epoch_1.pt" in progress.values()
    for place, file in progress.items():  # one may have been begun when the event of the checkpoint was written
        assert not file or place <= saved_at[file] + 1, "on the disk already"
    assert progress[max(progress)] in ("", "epoch_3.pt")
