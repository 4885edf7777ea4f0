"""What keeps a trainer that talks without end from filling the disk or the database.

trainer.log keeps its beginning and its end. Of lines of the log in events.jsonl so many are stored as a person can
read; where they come faster, those in between are counted and left out, and their bytes are given back to the disk.
"""

import ctypes
import errno
import logging
import os
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

logger = logging.getLogger(__name__)

#: Lines of the log that an attempt may store at once, and for each second after.
BURST_LINES = 2000
LINES_PER_S = 5.0
#: Once lines were left out, none is stored until so many may be.
RESUME_LINES = 100
#: Characters of one line that are stored.
LONGEST_MESSAGE = 8192

#: Flags of fallocate(2): give the bytes back to the disk and keep the size of the file.
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_BLOCK_BYTES = 4096


class Sieve:
    """Lets lines of the log pass at the pace at which they may be stored, by the times that they carry."""

    def __init__(self) -> None:
        self._tokens = float(BURST_LINES)
        self._time: float | None = None
        #: Lines left out since this was last told.
        self.dropped = 0
        #: Events of earlier attempts that came after the present one had begun.
        self.late = 0

    def passes(self, event: dict[str, Any]) -> bool:
        """Whether the event is to be stored; whatever is no line of the log always is."""
        if event["type"] != "log":
            return True
        now = float(event["time"])
        gained_s = max(0.0, now - self._time) if self._time is not None else 0.0
        self._time = now
        self._tokens = min(float(BURST_LINES), self._tokens + gained_s * LINES_PER_S)
        if self._tokens < (RESUME_LINES if self.dropped else 1):
            self.dropped += 1
            return False
        self._tokens -= 1
        return True

    def notice(self, like: dict[str, Any]) -> dict[str, Any]:
        """The one line that stands for those left out before the event `like`."""
        message = _("%(count)d lines were left out here: they came faster than a log is kept.")
        message = message % {"count": self.dropped}
        self.dropped = 0
        place = {name: like[name] for name in ("time", "attempt", "epoch", "step") if name in like}
        return {"type": "log", "level": "warning", "message": message, **place}


def shortened(event: dict[str, Any]) -> dict[str, Any]:
    """The event with the middle of an endless message left out."""
    message = event.get("message")
    if event["type"] != "log" or not isinstance(message, str) or len(message) <= LONGEST_MESSAGE:
        return event
    half = LONGEST_MESSAGE // 2
    return {**event, "message": f"{message[:half]} [...] {message[-half:]}"}


def trim_log(path: Path, most_bytes: int) -> int:
    """Leave out the middle of a log that is longer than `most_bytes`; returns how many bytes went.

    The process that writes it goes on: it appends, so each of its writes goes to what is the end then.
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


def give_back(path: Path, start: int, end: int) -> None:
    """Give the disk back what lies from byte `start` to `end` of a file; it reads as zeros, all else keeps its place.

    A file system that cannot do that keeps the bytes.
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
