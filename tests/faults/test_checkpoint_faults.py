"""Faults of a run's folder while a checkpoint is saved: a valid checkpoint always exists, and no leftovers remain."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.saved import content, open_folder, save, stored_files
from tests.helpers.trainers import assert_bit_equal
from trainingapp.contract.errors import DiskFull, ReadOnly
from trainingapp.contract.storage.index import read_index
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.reading import damage
from trainingapp.contract.storage.sizes import all_parts
from trainingapp.engine.checkpoint import Form, load_checkpoint

FORMS: list[Form] = ["compact", "plain"]
PAGE = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"A tmpfs may not be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_but(folder: Path, free_bytes: int) -> None:
    """Leave so many bytes on the disk."""
    status = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - free_bytes))


def check_whole(run_dir: Path) -> int:
    """Every listed checkpoint has the expected contents, and nothing else exists; returns the newest epoch."""
    folder = run_dir / "checkpoints"
    entries = read_index(folder)
    for entry in entries:
        assert damage(folder / entry.file, entry.sha256) is None
        expected = content(entry.epoch, is_best=entry.epoch % 5 == 0)
        assert_bit_equal(load_checkpoint(folder / entry.file), expected)
    packs = Packs(folder)
    needed = {record for parts in all_parts(folder, packs).values() for record in parts}
    holders = {f"packs/{record.pack}" for name in needed if (record := packs.find(name))}
    assert stored_files(run_dir) == {"index.json", *(entry.file for entry in entries), *holders}
    return max(entry.epoch for entry in entries)


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_at_any_stage_loses_nothing(small_disk: Path, form: Form) -> None:
    """One page more is free each time: the save fails at every stage in turn, until it has what it needs."""
    run_dir = small_disk / "run"
    folder = open_folder(run_dir, form=form)
    save(folder, 1)
    save(folder, 2)
    before, failures = stored_files(run_dir), 0
    for free_pages in range(1, 200):
        fill_but(small_disk, free_pages * PAGE)
        folder = open_folder(run_dir, form=form)
        try:
            save(folder, 3)
        except DiskFull:
            failures += 1
        except OSError as error:  # the event alone did not fit: the checkpoint counts
            if error.errno != errno.ENOSPC:
                raise
        (small_disk / "filler").unlink()
        newest = check_whole(run_dir)
        if newest == 3:
            break
        assert stored_files(run_dir) == before
    assert newest == 3
    assert failures > 10, "it failed at many stages"


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_becomes_read_only_is_reported_and_loses_nothing(small_disk: Path, form: Form) -> None:
    run_dir = small_disk / "run"
    folder = open_folder(run_dir, form=form)
    save(folder, 1)
    checkpoints = run_dir / "checkpoints"
    subprocess.run(["mount", "--bind", checkpoints, checkpoints], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", checkpoints], check=True)
        with pytest.raises(ReadOnly, match="No checkpoint was lost"):
            save(folder, 2)
        assert check_whole(run_dir) == 1
    finally:
        subprocess.run(["umount", "-l", checkpoints], check=True)
    folder = open_folder(run_dir, form=form)
    save(folder, 2)
    assert check_whole(run_dir) == 2


class Saver:
    """A process that forks children which save until they are killed."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "tests.helpers.saver"]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
            )
        self.log = log

    def read(self) -> list[str]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return line.split()

    def kill_one(self, run_dir: Path, form: Form, after_s: float) -> int:
        """Have a child save, kill it so long after its first checkpoint; returns the newest that it spoke of."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"run_dir": str(run_dir), "form": form}) + "\n")
        child, newest = 0, 0
        while not (child and newest):
            word, number = self.read()
            child, newest = (int(number), newest) if word == "child" else (child, int(number))
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        while (words := self.read()) != ["gone"]:
            newest = int(words[1])
        return newest


@pytest.mark.parametrize(
    ("form", "kills"), [pytest.param("compact", 25, marks=pytest.mark.long), ("compact", 8), ("plain", 8)]
)
def test_a_kill_at_any_moment_leaves_a_valid_checkpoint(tmp_path: Path, form: Form, kills: int) -> None:
    moments = random.Random(7)
    saver = Saver(tmp_path / "saver.log")
    try:
        reached = 0
        for _ in range(kills):
            newest = saver.kill_one(tmp_path / "run", form, moments.uniform(0, 0.12))
            assert newest > reached
            folder = open_folder(tmp_path / "run", form=form)  # the next start
            found = folder.newest_valid()
            assert found, "no sound checkpoint is left"
            assert not folder.warnings
            reached = check_whole(tmp_path / "run")
            assert reached >= newest, "what was said to be saved is there"
    finally:
        saver.process.kill()
        saver.process.wait()
