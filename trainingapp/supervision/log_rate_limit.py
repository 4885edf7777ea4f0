"""Limits for a trainer that logs without end: the disk space and the rows of its log.

trainer.log keeps its beginning and its end. Of the log lines in events.jsonl as many are stored as a person can read;
where there are more, those in between are counted and left out, and their bytes are returned to the file system.
"""

import ctypes
import errno
import logging
import os
from pathlib import Path
from typing import TypeVar

from trainingapp.contract.events import AnyEvent, Event, Log, message_fields
from trainingapp.contract.messages.runs import LINES_LEFT_OUT

logger = logging.getLogger(__name__)
AnEvent = TypeVar("AnEvent", bound=Event)

#: Log lines that an attempt may store at once, and for each second after.
BURST_LINES = 2000
LINES_PER_S = 5.0
#: Once lines were left out, none is stored until this many are allowed again: otherwise nearly every stored line would
#: be followed by a notice about lines left out.
RESUME_LINES = 100
#: Characters of one line that are stored.
LONGEST_MESSAGE = 8192

#: Flags of fallocate(2): return the bytes to the file system and keep the size of the file.
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_BLOCK_BYTES = 4096


class LogRateLimit:
    """A token bucket for log lines that uses their own times: a file that is stored late gives the same result."""

    def __init__(self) -> None:
        self._tokens = float(BURST_LINES)
        self._time_s: float | None = None
        #: Lines left out since the last notice.
        self.dropped = 0
        #: Events of earlier attempts after the start of the present attempt.
        self.late_events = 0

    def allows(self, event: AnyEvent) -> bool:
        """Whether the event is to be stored; only log lines are ever left out."""
        if not isinstance(event, Log):
            return True
        gained_s = max(0.0, event.time - self._time_s) if self._time_s is not None else 0.0
        self._time_s = event.time
        self._tokens = min(float(BURST_LINES), self._tokens + gained_s * LINES_PER_S)
        if self._tokens < (RESUME_LINES if self.dropped else 1):
            self.dropped += 1
            return False
        self._tokens -= 1
        return True

    def notice(self, following: AnyEvent) -> Log:
        """The one line that replaces those left out before the event `following`."""
        message = LINES_LEFT_OUT(count=self.dropped)
        self.dropped = 0
        position = following.model_dump(include={"time", "attempt", "epoch", "step"}, exclude_unset=True)
        return Log(level="warning", **message_fields(message), **position)


def shortened(event: AnEvent) -> AnEvent:
    """The event; a log message longer than LONGEST_MESSAGE is reduced to its beginning and its end."""
    if not isinstance(event, Log) or len(event.message) <= LONGEST_MESSAGE:
        return event
    half = LONGEST_MESSAGE // 2
    message = f"{event.message[:half]} [...] {event.message[-half:]}"
    return event.model_copy(update={"message": message, "code": "", "params": {}})


def trim_log(path: Path, most_bytes: int) -> int:
    """Remove the middle of a log that is longer than `most_bytes`; returns the number of bytes removed.

    The process that writes it is not stopped: it has opened the file for appending (O_APPEND), so each of its writes
    goes to the present end of the file.
    """
    kept_bytes = most_bytes // 8
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= most_bytes:
                return 0
            file.seek(size - kept_bytes)
            end = file.read(kept_bytes).partition(b"\n")[2]
            file.truncate(kept_bytes)
    except FileNotFoundError:
        return 0
    cut = size - kept_bytes - len(end)
    with path.open("ab") as file:
        file.write(
            b"\n[... %d bytes were left out here: the log is kept to %d MB ...]\n" % (cut, most_bytes >> 20) + end
        )
    return cut


def punch_hole(path: Path, start: int, end: int) -> None:
    """Return the bytes from `start` to `end` of a file to the file system; they read as zeros, and no offset changes.

    Only whole blocks are returned. A file system that cannot do that keeps the bytes.
    """
    start, end = -(-start // _BLOCK_BYTES) * _BLOCK_BYTES, end // _BLOCK_BYTES * _BLOCK_BYTES
    if end <= start:
        return
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    descriptor = os.open(path, os.O_RDWR)
    try:
        if fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
            logger.debug("No hole in %s: %s", path, errno.errorcode.get(ctypes.get_errno()))
    finally:
        os.close(descriptor)
