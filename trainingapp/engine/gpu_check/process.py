"""Child processes that report what they find, and that may crash, hang or lose the GPU."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from trainingapp.engine.data.batches import end_with_parent
from trainingapp.engine.gpu_check.case import LINES_KEPT, MESSAGE_LENGTH, Plan, Values, error_record

#: Seconds at most for a child that hangs to write where it is, and for one that has reported everything to end.
GRACE_S = 10.0

#: A fork has all modules already. In a fork of a process that has used CUDA it cannot be used: `Runner` then spawns.
START_METHOD = "fork"


#: How faulthandler begins the thread that has crashed, or that works, innermost frame first.
TRACEBACKS = ("Current thread", "Thread 0x")


class ChildEnded(Exception):
    """The child ended without another message."""


class BadFork(Exception):
    """The child cannot use CUDA, because its parent had used it before the fork."""


class Child:
    """A process that calls `target(send, *arguments)`, where `send` passes a message to the parent.

    What it writes to standard error is kept in a file, because libraries write much.
    """

    def __init__(self, plan: Plan, target: Callable[..., None], *arguments: object) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        self._log = plan.folder / f"stderr-{time.monotonic_ns()}.txt"
        self._receiving, sending = context.Pipe(duplex=False)
        self.process = context.Process(target=_begin, args=(os.getpid(), plan, self._log, sending, target, arguments))
        self.process.start()
        sending.close()

    def receive(self, timeout_s: float) -> Values | None:
        """The next message; None after `timeout_s`. Raises ChildEnded, BadFork."""
        if not self._receiving.poll(max(0.0, timeout_s)):
            return None
        try:
            message: Values = self._receiving.recv()
        except (EOFError, OSError):
            self.process.join(GRACE_S)
            raise ChildEnded from None
        if message.get("bad_fork"):
            raise BadFork
        return message

    def where_it_hangs(self) -> list[str]:
        """Where its main thread is, as far as it still can write that."""
        size, deadline = self._log_size(), time.monotonic() + GRACE_S
        os.kill(self.process.pid, signal.SIGUSR1)
        while self._log_size() == size and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.last_lines()

    def last_lines(self) -> list[str]:
        """The end of what the child wrote to standard error; of a traceback that is there, the innermost frames."""
        if not self._log.exists():
            return []
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        headings = [number for number, line in enumerate(lines) if line.startswith(TRACEBACKS)]
        shown = lines[headings[-1] :][: LINES_KEPT + 1] if headings else lines[-LINES_KEPT:]
        return [line[:MESSAGE_LENGTH] for line in shown]

    def end(self) -> None:
        """Kill it if it still runs; its loader processes and own children end with it."""
        self.process.join(0)
        if self.process.is_alive():
            self.process.kill()
        self.process.join(GRACE_S)

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0


def in_process(plan: Plan, check: Callable[..., Values], *arguments: object, timeout_s: float) -> Values:
    """What `check(*arguments)` returns in a process of its own; {"error": record} where it raises, ends or hangs."""
    child = Child(plan, _send_result, check, arguments)
    try:
        message = child.receive(timeout_s)
    except ChildEnded:
        return {"error": crash_record(child)}
    finally:
        child.end()
    return message if message is not None else {"error": {"kind": "TimedOut", "message": f"after {timeout_s:g} s"}}


def crash_record(child: Child) -> Values:
    """A child that ended without a result, as the result holds it."""
    code = child.process.exitcode
    ended = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    return {"kind": "Crash", "message": f"The process ended with {ended}.", "traceback": [*child.last_lines()]}


def _send_result(send: Callable[[Values], None], check: Callable[..., Values], arguments: tuple[object, ...]) -> None:
    try:
        send(check(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        send({"error": error_record(error)})


def _begin(
    parent: int, plan: Plan, log: Path, sending: Connection, target: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    end_with_parent(parent)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    if plan.on_gpu and torch.cuda._is_in_bad_fork():
        sending.send({"bad_fork": True})
    target(sending.send, *arguments)
    sending.close()
    os._exit(0)  # without torch's orderly shutdown, which takes a second
