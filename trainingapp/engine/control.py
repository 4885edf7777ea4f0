"""The commands that reach the trainer while it runs: lines on standard input (contract/commands.py) and signals."""

import logging
import os
import signal
import threading
from collections import deque
from types import FrameType
from typing import Literal

from pydantic import ValidationError

from trainingapp.contract.commands import Pause, Request, Stop, parse_command

logger = logging.getLogger(__name__)

Ending = Literal["pause", "stop", "interrupt"]
#: By precedence.
ENDINGS: tuple[Ending, ...] = ("stop", "pause", "interrupt")


class LineReader:
    """Whole lines from a file descriptor, read without Python's own buffering.

    sys.stdin is not used: a forked loader process closes it, and would wait forever for the lock that the reading
    thread held at the time of the fork.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""

    def read_line(self) -> bytes | None:
        """The next line without its line end, or None at the end of the file. An incomplete last line is dropped."""
        while b"\n" not in self._pending:
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                return None
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return line


class Control:
    """Collects commands from a thread and from signals; the loop reads them between two steps.

    The thread adds while the loop takes. No lock is needed: single operations on a set and a deque are atomic. A signal
    handler could not take one anyway, as it runs between two instructions of the loop.

    The end of standard input, SIGINT and SIGTERM mean "interrupt": save and exit, so that the run can be resumed.
    """

    def __init__(self) -> None:
        self._endings: set[Ending] = set()
        self._requests: deque[Request] = deque()

    def watch(self, lines: LineReader) -> None:
        """Follow `lines` in a daemon thread."""
        threading.Thread(target=self._follow, args=(lines,), name="control", daemon=True).start()

    def catch_signals(self) -> None:
        """Let SIGINT and SIGTERM interrupt the run between two steps. Main thread only."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def ending(self) -> Ending | None:
        """How the run is to end now, by precedence; None while it is to continue."""
        return next((name for name in ENDINGS if name in self._endings), None)

    def request(self, request: Request) -> None:
        """Add something to be done between two steps."""
        self._requests.append(request)

    def take_requests(self) -> list[Request]:
        """The requests since the last call, oldest first."""
        taken: list[Request] = []
        while self._requests:
            taken.append(self._requests.popleft())
        return taken

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._endings.add("interrupt")

    def _follow(self, lines: LineReader) -> None:
        while (line := lines.read_line()) is not None:
            if not line.strip():
                continue
            try:
                command = parse_command(line)
            except ValidationError:
                logger.warning("Unknown command on standard input: %r", line[:200])
                continue
            if isinstance(command, Pause | Stop):
                self._endings.add(command.command)
            else:
                self.request(command)
        self._endings.add("interrupt")
