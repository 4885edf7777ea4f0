"""Idle threads of a worker wait for messages instead of polling the queue."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainingapp.worker import consumer, wakeup_pipes
from trainingapp.worker.consumer import SqliteStudioHuey, _Storage
from trainingapp.worker.wakeup_pipes import pipe_for, wake_all

pytestmark = pytest.mark.any_database
#: A test that waits for longer than this has failed.
PATIENCE_S = 30.0


@pytest.fixture
def queue_file(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite3"


@pytest.fixture
def waiting(queue_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Storage]:
    """The queue of a worker that never looks by itself."""
    monkeypatch.setattr(consumer, "LOOK_S", 1e6)
    storage = _storage(queue_file)
    storage.listen()
    yield storage
    storage.end_waiting()


def _storage(queue_file: Path) -> _Storage:
    storage = SqliteStudioHuey("cvstudio", filename=str(queue_file)).storage
    assert isinstance(storage, _Storage)
    return storage


def _pipes(queue_file: Path) -> list[Path]:
    return sorted(queue_file.parent.glob("*.wakeup*"))


class Reader:
    """A thread that reads the queue as those of a worker do, until it has a message or `is_over`."""

    def __init__(self, storage: _Storage) -> None:
        self.found: list[bytes] = []
        self.is_over = False
        self.thread = threading.Thread(target=self._read, args=(storage,), daemon=True)
        self.thread.start()

    def _read(self, storage: _Storage) -> None:
        while not self.is_over and not self.found:
            if (data := storage.dequeue()) is not None:
                self.found.append(bytes(data))

    def ended(self) -> bool:
        self.thread.join(PATIENCE_S)
        return not self.thread.is_alive()


def test_a_message_wakes_a_waiting_thread(waiting: _Storage, queue_file: Path) -> None:
    reader = Reader(waiting)
    _storage(queue_file).enqueue(b"one")
    assert reader.ended()
    assert reader.found == [b"one"]


def test_a_message_of_another_process_wakes_it_too(waiting: _Storage, queue_file: Path) -> None:
    code = (
        "import sys, django; django.setup(); from trainingapp.worker.consumer import SqliteStudioHuey\n"
        "SqliteStudioHuey('cvstudio', filename=sys.argv[1]).storage.enqueue(b'two')"
    )
    reader = Reader(waiting)
    subprocess.run([sys.executable, "-c", code, str(queue_file)], check=True, timeout=PATIENCE_S * 2)
    assert reader.ended()
    assert reader.found == [b"two"]


def test_every_worker_is_woken_and_one_gets_the_message(waiting: _Storage, queue_file: Path) -> None:
    other = _storage(queue_file)
    other.listen()
    readers = [Reader(waiting), Reader(other)]
    waiting.enqueue(b"one")
    waiting.enqueue(b"two")
    assert all(reader.ended() for reader in readers)
    assert sorted(data for reader in readers for data in reader.found) == [b"one", b"two"]
    other.end_waiting()


def test_a_message_between_the_look_and_the_wait_is_not_missed(waiting: _Storage, queue_file: Path) -> None:
    pipe = waiting._pipe
    assert pipe
    seen = pipe.count
    wake_all(queue_file)
    pipe.wait(seen, 1e6)  # returns although the wake-up may have been before
    assert pipe.count > seen


def test_the_end_of_a_worker_ends_all_waiting_and_removes_the_pipe(waiting: _Storage, queue_file: Path) -> None:
    reader = Reader(waiting)
    assert len(_pipes(queue_file)) == 1
    reader.is_over = True
    waiting.end_waiting()
    assert reader.ended()
    assert not _pipes(queue_file)


def test_a_pipe_that_a_killed_worker_left_is_removed(queue_file: Path) -> None:
    os.mkfifo(queue_file.with_name(f"{queue_file.name}.gone.wakeup"))
    wake_all(queue_file)  # does not wait for a reader
    assert not _pipes(queue_file)


def test_a_full_pipe_delays_no_one(queue_file: Path) -> None:
    path = queue_file.with_name(f"{queue_file.name}.stopped.wakeup")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, bytes(4096)):
                pass
        wake_all(queue_file)
        assert path.exists()
    finally:
        os.close(reader)
        os.close(writer)


def test_the_queue_is_polled_where_there_are_no_pipes(queue_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, mode: int) -> None:
        raise OSError(errno.EPERM, "no pipes here")

    monkeypatch.setattr(wakeup_pipes.os, "mkfifo", refused)
    storage = _storage(queue_file)
    storage.listen()
    assert pipe_for(queue_file) is None
    assert not storage.blocking, "Huey waits between two looks itself"
    assert storage.dequeue() is None
    storage.enqueue(b"one")
    assert storage.dequeue() == b"one"
