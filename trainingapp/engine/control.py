"""What the trainer is told while it runs: JSON lines on standard input, and signals (no torch)."""

import json
import logging
import os
import signal
import threading
from types import FrameType
from typing import Any, Literal

logger = logging.getLogger(__name__)

Ending = Literal["pause", "stop", "interrupt"]
COMMANDS = ("pause", "stop", "checkpoint")


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

    The end of standard input, SIGINT and SIGTERM mean "interrupt": save and leave, so that the run can go on later.
    """

    def __init__(self) -> None:
        self._wanted: set[str] = set()

    def watch(self, lines: LineReader) -> None:
        """Start to follow `lines` in a thread that ends with the process."""
        threading.Thread(target=self._follow, args=(lines,), name="control", daemon=True).start()

    def catch_signals(self) -> None:
        """Let SIGINT and SIGTERM interrupt the run between two steps. Main thread only."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def ending(self) -> Ending | None:
        """How the run is to be left now; stop goes before pause, and both before an interrupt."""
        endings: tuple[Ending, ...] = ("stop", "pause", "interrupt")
        return next((name for name in endings if name in self._wanted), None)

    def take_checkpoint_request(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        if "checkpoint" in self._wanted:
            self._wanted.discard("checkpoint")
            return True
        return False

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._wanted.add("interrupt")

    def _follow(self, lines: LineReader) -> None:
        while (line := lines.read_line()) is not None:
            command = _parsed(line).get("command")
            if command in COMMANDS:
                self._wanted.add(str(command))
            elif line.strip():
                logger.warning("Unknown command on standard input: %r", line[:200])
        self._wanted.add("interrupt")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
