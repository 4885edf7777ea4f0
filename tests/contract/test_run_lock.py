"""The lock of a run's folder: a later attempt overtakes a trainer that does not exit, and that one writes nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainingapp.contract import run_directory
from trainingapp.contract.errors import StillRunning, Superseded
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.contract.run_directory import LOCK_FILE, check_attempt, check_config, run_lock


@pytest.fixture(autouse=True)
def no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "NOTICE_S", 0.0)


@pytest.fixture
def held_by_first(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run whose first attempt holds the lock and does not end."""
    with run_lock(tmp_path, 1):
        yield tmp_path


def test_a_later_attempt_takes_the_lock_of_one_that_does_not_end(held_by_first: Path) -> None:
    events = EventLog(held_by_first / EVENTS_FILE, 1, lambda: check_attempt(held_by_first, 1))
    events.log("before")
    with run_lock(held_by_first, 2, exit_s=0.0):
        assert (held_by_first / LOCK_FILE).read_text() == "2"
        before = (held_by_first / EVENTS_FILE).read_bytes()
        with pytest.raises(Superseded, match="Attempt 2 of this run has started"):
            events.log("after")
        assert (held_by_first / EVENTS_FILE).read_bytes() == before
        with pytest.raises(StillRunning), run_lock(held_by_first, 2, wait_s=0.0):
            pass
    with run_lock(held_by_first, 3, wait_s=0.0):
        check_attempt(held_by_first, 3)


def test_a_trainer_that_exits_in_time_is_not_overtaken(tmp_path: Path) -> None:
    has_ended, entered = threading.Event(), threading.Event()

    def first() -> None:
        with run_lock(tmp_path, 1):
            entered.set()
            has_ended.wait()
            check_attempt(tmp_path, 1)  # what it saves at its end

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    inode = (tmp_path / LOCK_FILE).stat().st_ino
    has_ended.set()
    with run_lock(tmp_path, 2, wait_s=600, exit_s=600):
        assert (tmp_path / LOCK_FILE).stat().st_ino == inode
    thread.join()


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_lock_of_the_same_or_a_later_attempt_is_left_alone(tmp_path: Path, attempt: int) -> None:
    with run_lock(tmp_path, 2):
        with pytest.raises(StillRunning), run_lock(tmp_path, attempt, wait_s=0.0, exit_s=0.0):
            pass
        assert (tmp_path / LOCK_FILE).read_text() == "2"


def test_the_studio_takes_the_lock_from_nobody_and_nobody_from_the_studio(tmp_path: Path) -> None:
    with run_lock(tmp_path, 1), pytest.raises(StillRunning), run_lock(tmp_path, 2, wait_s=0.0, by_studio=True):
        pass
    with (
        run_lock(tmp_path, 1, by_studio=True),
        pytest.raises(StillRunning),
        run_lock(tmp_path, 2, wait_s=0.0, exit_s=0.0),
    ):
        pass
    with run_lock(tmp_path, 2, wait_s=0.0):
        assert (tmp_path / LOCK_FILE).read_text() == "2"


def test_one_that_waits_for_a_file_which_is_replaced_meanwhile_gets_the_new_one(held_by_first: Path) -> None:
    waiting, got = threading.Event(), threading.Event()

    def third() -> None:
        waiting.set()
        with run_lock(held_by_first, 3, wait_s=600, exit_s=600):
            got.set()

    thread = threading.Thread(target=third)
    with run_lock(held_by_first, 2, exit_s=0.0):
        thread.start()
        waiting.wait()
        assert not got.is_set()
    thread.join()
    assert got.is_set()


def test_a_trainer_that_comes_late_finds_the_configuration_of_another_attempt(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"attempt": 3}')
    check_config(tmp_path, 3)
    check_config(tmp_path, 4)  # what an old worker has written late
    with pytest.raises(Superseded):
        check_config(tmp_path, 2)
