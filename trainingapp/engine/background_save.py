"""Saves in the background: slowly at first, then as fast as the machine allows, so that each is durable in time.

A save is promised to be on the disk within max(5 s, 3 x a plain synchronous save), and the steps right after it must
not become slower. While the run is alone on its cores, a thread of low priority therefore works in short pieces and
rests after each one. It has a part of the promised time for that; then a thread of ordinary priority does what is left
without rests. Beside other processes it does so from the beginning: a thread of low priority would hardly get a core.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator

from trainingapp.contract.storage.durable import DURABLE_RATIO, DURABLE_WITHIN_S

#: What a plain synchronous save writes per second on a good local disk. On a slower one, the save may take longer too.
PLAIN_BYTES_PER_S = 1e9
#: What the ordinary thread does per second at least, also beside other processes.
LEAST_BYTES_PER_S = 150e6
#: The longest time for which the thread of low priority works alone: some steps of a small network.
SLOW_S = 2.0
#: The part of the promised time in which the tensors should be written; flushing them to the disk needs the rest.
WRITTEN_BY = 0.8
#: Seconds of work after which the pace of a save is known.
MEASURED_S = 0.5
#: Added to the nice value of the thread of low priority, so that the loop gets a core first.
NICENESS = 10
#: Its rest after each piece, as a multiple of the time that the piece took.
REST = 8.0


class Pace:
    """How much time a save of `total_bytes` has. `bytes_left` counts down while it is written."""

    def __init__(self, total_bytes: int, *, alone: bool, began_at: float | None = None) -> None:
        self.bytes_left = total_bytes
        self.began_at = time.monotonic() if began_at is None else began_at
        self.promised_s = max(DURABLE_WITHIN_S, DURABLE_RATIO * total_bytes / PLAIN_BYTES_PER_S)
        spare_s = self.promised_s - total_bytes / LEAST_BYTES_PER_S
        #: How long the thread of low priority works alone.
        self.slow_s = max(0.0, min(SLOW_S, spare_s)) if alone else 0.0
        self._measured_from: tuple[float, int] | None = None

    def slow_left_s(self, now: float | None = None) -> float:
        return self.began_at + self.slow_s - (time.monotonic() if now is None else now)

    def is_late(self, now: float | None = None) -> bool:
        """Whether the pace so far is too slow for what is left. It is measured from the end of the slow part on."""
        now = time.monotonic() if now is None else now
        if self.slow_left_s(now) > 0:
            return False
        if self._measured_from is None:
            self._measured_from = now, self.bytes_left
        since, bytes_then = self._measured_from
        if now - since < MEASURED_S:
            return False
        rate = (bytes_then - self.bytes_left) / (now - since)
        return self.bytes_left > rate * (self.began_at + WRITTEN_BY * self.promised_s - now)


class BackgroundWriter:
    """At most one save in progress, done piece by piece by two threads; a caller that waits for it does the rest."""

    def __init__(self) -> None:
        self._save: _Save | None = None
        self._queues: list[queue.SimpleQueue[_Save]] = []
        for work in (_work_slowly, _work_fast):
            saves: queue.SimpleQueue[_Save] = queue.SimpleQueue()
            self._queues.append(saves)
            threading.Thread(target=work, args=(saves,), name="checkpoints", daemon=True).start()

    @property
    def failure(self) -> Exception | None:
        """What went wrong in the last save."""
        return None if self._save is None else self._save.failure

    @property
    def is_writing(self) -> bool:
        return self._save is not None and not self._save.is_over

    def begin(self, pieces: Iterator[None], pace: Pace) -> None:
        """Have the pieces done. The save before must be finished."""
        assert not self.is_writing
        self._save = _Save(pieces, pace)
        for saves in self._queues:
            saves.put(self._save)

    def finish(self) -> None:
        """Do what is left, in the caller's thread: a pause must not wait for a thread that does not get a core."""
        if self._save is not None:
            self._save.finish()


class _Save:
    """One save. Its pieces are done in order, each by the thread that has the turn."""

    def __init__(self, pieces: Iterator[None], pace: Pace) -> None:
        self.failure: Exception | None = None
        self.is_over = False
        self._pieces, self._pace = pieces, pace
        self._turn = threading.Lock()
        self._hurried = threading.Event()

    def work_slowly(self) -> None:
        """Do pieces with rests between them, until the slow part is over or another thread takes over."""
        while not self._hurried.is_set() and (left_s := self._pace.slow_left_s()) > 0 and self._step():
            worked_s = left_s - self._pace.slow_left_s()
            self._hurried.wait(min(REST * worked_s, max(0.0, self._pace.slow_left_s())))

    def work_fast(self) -> None:
        """Wait for the end of the slow part, then do the rest."""
        self._hurried.wait(max(0.0, self._pace.slow_left_s()))
        self.finish()

    def finish(self) -> None:
        """Do what is left, by turns with the threads that are at work on it."""
        self._hurried.set()
        while self._step():
            pass

    def _step(self) -> bool:
        """Do one piece; returns whether there may be another."""
        with self._turn:
            if self.is_over:
                return False
            try:
                next(self._pieces)
                return True
            except StopIteration:
                pass
            except Exception as error:  # noqa: BLE001 - raised again by raise_failure, in the loop
                self.failure = error
            self.is_over = True
            self._hurried.set()
            return False


def _work_slowly(saves: queue.SimpleQueue[_Save]) -> None:
    if sys.platform == "linux":  # elsewhere the priority belongs to the process, not to a thread
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness + NICENESS)
    while True:
        saves.get().work_slowly()


def _work_fast(saves: queue.SimpleQueue[_Save]) -> None:
    while True:
        saves.get().work_fast()
