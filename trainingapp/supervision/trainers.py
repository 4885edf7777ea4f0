"""Trainer processes: start one, talk to it, end it; and the spare that has torch imported already."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from trainingapp.supervision.identity import HOST, is_alive
from trainingapp.supervision.state import shutting_down

logger = logging.getLogger(__name__)

PID_FILE = "trainer.pid"
LOG_FILE = "trainer.log"
#: Seconds that a trainer whose supervisor is gone gets to save and leave.
LEFTOVER_GRACE_S = 10.0
TELL_WHERE_S = 1.0
LOG_LINE_BYTES = 2048
#: Secrets of the studio that a trainer has no use for.
WITHHELD = frozenset({"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "STUDIO_PARENT_PID"})


def trainer_environment() -> dict[str, str]:
    """The environment of this process without the studio's secrets.

    GPUs are numbered as their driver lists them, not by their speed: cuda:1 is then the one that the inventory means.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return {**inherited, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class Trainer:
    """One trainer process, the leader of a process group of its own, listening on its standard input."""

    def __init__(self, arguments: list[str], output: int | Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainingapp.engine", *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parents[2],
            env=trainer_environment(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs. Negative: the number of the signal that ended it."""
        return self.process.poll()

    def wait(self, timeout_s: float) -> None:
        """Wait until it ends, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)

    def send(self, message: dict[str, Any]) -> bool:
        """Write one JSON line to it; False when it listens no more."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # the pipe is broken, or closed by leave()
            return False
        return True

    def leave(self) -> None:
        """Have it save and leave: the end of its standard input says that the supervisor goes."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def tell_where(self) -> None:
        """Have it write into its log where each of its threads stands, and give it a moment to do so."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
        self.wait(TELL_WHERE_S)

    def kill(self) -> None:
        """End it and its loader processes at once."""
        kill_group(self.pid)
        self.process.wait()
        self.leave()
        if self.process.stdout is not None:
            self.process.stdout.close()


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that the trainer leads, also when it has left itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def start_trainer(run_dir: Path) -> Trainer:
    """A trainer that works on the run in `run_dir`: the spare one where there is one, else a new process."""
    trainer = _spare.take()
    if trainer is None or not trainer.send({"run_dir": str(run_dir), "log_file": str(run_dir / LOG_FILE)}):
        with (run_dir / LOG_FILE).open("ab") as log:
            trainer = Trainer([str(run_dir)], log)
    _write_pid(run_dir, trainer.pid)
    return trainer


class _Spare:
    """At most one trainer process that waits, warm, for the next run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: Trainer | None = None

    def warm(self) -> None:
        with self._lock:
            if settings.SPARE_TRAINER and not shutting_down.is_set() and not self._is_there():
                # Its output goes to a pipe that nobody reads: a few lines, until it is given a log file.
                self._trainer = Trainer(["--spare"], subprocess.PIPE)

    def take(self) -> Trainer | None:
        with self._lock:
            trainer = self._trainer if self._is_there() else None
            self._trainer = None
            return trainer

    def _is_there(self) -> bool:
        """Whether the spare lives. One that has ended is put away, saying why."""
        if self._trainer is None or self._trainer.poll() is None:
            return self._trainer is not None
        assert self._trainer.process.stdout is not None
        output = self._trainer.process.stdout.read().decode(errors="replace")
        logger.warning("The spare trainer has ended (%s). %s", self._trainer.poll(), output[-500:])
        self._trainer = None
        return False


_spare = _Spare()


def warm_spare() -> None:
    """See to it that a spare trainer waits, unless settings say that there is to be none."""
    _spare.warm()


def drop_spare() -> None:
    """End the spare trainer."""
    if trainer := _spare.take():
        trainer.kill()


def end_leftover(run_dir: Path, beat: Callable[[], object] = lambda: None, grace_s: float = LEFTOVER_GRACE_S) -> None:
    """End a trainer of an earlier attempt on this host whose supervisor is gone.

    It is asked to save and leave; `beat` is called while it does. After `grace_s` it is killed.
    """
    if (pid := leftover_pid(run_dir)) is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and leftover_pid(run_dir) is not None:
        beat()
        time.sleep(0.1)
    kill_group(pid)


def _write_pid(run_dir: Path, pid: int) -> None:
    temporary = run_dir / f"{PID_FILE}.tmp"
    with contextlib.suppress(psutil.NoSuchProcess):
        record = {"pid": pid, "create_time": psutil.Process(pid).create_time(), "host": HOST}
        temporary.write_text(json.dumps(record))
        temporary.replace(run_dir / PID_FILE)


def leftover_pid(run_dir: Path) -> int | None:
    """The number of the trainer that works in this folder on this host; None when it is gone or elsewhere."""
    try:
        record = json.loads((run_dir / PID_FILE).read_text())
        pid, create_time, host = int(record["pid"]), float(record["create_time"]), record.get("host", HOST)
    except (OSError, ValueError, KeyError):  # never started, or the file was torn by a power cut, as was the trainer
        return None
    return pid if host == HOST and is_alive(pid, create_time) else None


def log_tail(run_dir: Path, start: int = 0, lines: int = 20) -> list[str]:
    """The last lines of the trainer's output, from byte `start` on."""
    try:
        with (run_dir / LOG_FILE).open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - lines * LOG_LINE_BYTES))
            text = file.read().decode(errors="replace").replace("\0", "\ufffd")  # PostgreSQL keeps no NUL
            return text.splitlines()[-lines:]
    except FileNotFoundError:
        return []
