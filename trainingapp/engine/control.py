"""What the trainer is told while it runs: JSON lines on standard input, and signals (no torch).

    {"command": "pause"}                             save and leave; so does "stop"
    {"command": "checkpoint", "id": 3}               save now
    {"command": "evaluate", "id": 4}                 validate at this very step
    {"command": "epochs", "id": 5, "epochs": 30}     have another number of epochs from here on

An order with an "id" is confirmed by an event with that number (see events.py).
"""

import json
import logging
import os
import signal
import threading
from collections import deque
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

logger = logging.getLogger(__name__)

Ending = Literal["pause", "stop", "interrupt"]
ENDINGS: tuple[Ending, ...] = ("stop", "pause", "interrupt")
REQUESTS = ("checkpoint", "evaluate", "epochs")


@dataclass(frozen=True)
class Request:
    """Something to do between two steps. `id` is 0 where nobody waits for a word; `epochs` is for "epochs" alone."""

    command: str
    id: int = 0
    epochs: int = 0


class LineReader:
    """Whole lines from a file descriptor, read without Python's own buffering.

    sys.stdin is left alone: a forked loader process closes it, and would wait for ever for a reading thread.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""

    def read_line(self) -> bytes | None:
        """The next line without its end, or None at the end of the file. A last line without an end is none."""
        while b"\n" not in self._pending:
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                return None
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return line


class Control:
    """Collects commands from a thread and from signals; the loop asks for them between two steps.

    A thread adds while the loop takes: a set and a deque do each of that at once.

    The end of standard input, SIGINT and SIGTERM mean "interrupt": save and leave, so that the run can go on later.
    """

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._requests: deque[Request] = deque()

    def watch(self, lines: LineReader) -> None:
        """Start to follow `lines` in a thread that ends with the process."""
        threading.Thread(target=self._follow, args=(lines,), name="control", daemon=True).start()

    def catch_signals(self) -> None:
        """Let SIGINT and SIGTERM interrupt the run between two steps. Main thread only."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def ending(self) -> Ending | None:
        """How the run is to be left now; stop goes before pause, and both before an interrupt."""
        return next((name for name in ENDINGS if name in self._wanted), None)

    def request(self, request: Request) -> None:
        """Ask for something to be done between two steps."""
        self._requests.append(request)

    def take_requests(self) -> list[Request]:
        """What was asked for since the last call, in that order."""
        taken: list[Request] = []
        while self._requests:
            taken.append(self._requests.popleft())
        return taken

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._wanted.add("interrupt")

    def _follow(self, lines: LineReader) -> None:
        while (line := lines.read_line()) is not None:
            values = _parsed(line)
            if values.get("command") in ENDINGS:
                self._wanted.add(str(values["command"]))
            elif (request := _request(values)) is not None:
                self.request(request)
            elif line.strip():
                logger.warning("Unknown command on standard input: %r", line[:200])
        self._wanted.add("interrupt")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _request(values: dict[str, Any]) -> Request | None:
    """The request in a line; None where it is none, or lacks what it needs."""
    command, number, epochs = values.get("command"), values.get("id", 0), values.get("epochs", 0)
    if command not in REQUESTS or type(number) is not int or type(epochs) is not int:
        return None
    return None if command == "epochs" and epochs < 1 else Request(str(command), number, epochs)
