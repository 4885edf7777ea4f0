"""Trainer processes: start, commands and end; and the spare trainer that has already imported torch."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypedDict

import psutil
from django.conf import settings

from trainingapp.contract.run_directory import LOCK_FILE
from trainingapp.supervision.identity import HOST, is_alive
from trainingapp.supervision.state import shutting_down

logger = logging.getLogger(__name__)

PID_FILE = "trainer.pid"
LOG_FILE = "trainer.log"
#: Seconds that a trainer whose supervisor is gone gets to save and exit.
LEFTOVER_GRACE_S = 10.0
DUMP_STACKS_S = 1.0
#: Seconds that a killed process gets to end. One that hangs in a driver or waits for a lost disk does not.
KILLED_S = 5.0
LOG_LINE_BYTES = 2048
#: Variables that a trainer does not need: secrets of the studio, and what ties a process to the studio's main one.
WITHHELD = frozenset({"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "STUDIO_PARENT_PID"})


def trainer_environment() -> dict[str, str]:
    """The environment of this process without the studio's secrets.

    CUDA numbers GPUs by speed by default; by PCI bus they are numbered as in the inventory, which asks the driver.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return {**inherited, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class ProcessRecord(TypedDict):
    """A process of a host, in PID_FILE; the time is in Unix seconds, because numbers are used again."""

    pid: int
    create_time: float
    host: str


class Trainer:
    """One trainer process, the leader of a new process group, listening on its standard input."""

    def __init__(self, arguments: list[str], output: int | IO[bytes]) -> None:
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
        """Wait until it ends, at most `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)

    def send(self, message: Mapping[str, object]) -> bool:
        """Write one JSON line to its standard input; False when that is closed."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # the pipe is broken, or closed by close_input()
            return False
        return True

    def close_input(self) -> None:
        """Have it save and exit: a trainer whose standard input ends takes its supervisor as gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def dump_stacks(self) -> None:
        """Have it write the stack of each of its threads to its log, and wait a moment for that."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
        self.wait(DUMP_STACKS_S)

    def kill(self, wait_s: float | None = None) -> None:
        """Kill it and its loader processes, and wait for its end, at most `wait_s` (KILLED_S)."""
        end_group(self.process, wait_s)
        self.close_input()
        if self.process.stdout is not None:
            self.process.stdout.close()


def end_group(process: subprocess.Popen[bytes] | subprocess.Popen[str], wait_s: float | None = None) -> bool:
    """Kill the process and its group; False where it has not ended after `wait_s` (KILLED_S).

    It then waits in the kernel, for a driver or a disk. It runs no more code of its own, and ends when that returns.
    """
    kill_group(process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_S if wait_s is None else wait_s)
    return process.poll() is not None


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that the trainer leads, also when the trainer itself has exited."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def start_trainer(run_dir: Path) -> Trainer:
    """Start a trainer for the run in `run_dir`: the spare one where there is one, else a new process."""
    trainer = _spare.take()
    if trainer is None or not trainer.send({"run_dir": str(run_dir), "log_file": str(run_dir / LOG_FILE)}):
        with (run_dir / LOG_FILE).open("ab") as log:
            trainer = Trainer([str(run_dir)], log)
    # Renamed into place, so that a power cut leaves no half of it under this name.
    temporary = run_dir / f"{PID_FILE}.tmp"
    with contextlib.suppress(psutil.NoSuchProcess):
        create_time = psutil.Process(trainer.pid).create_time()
        record: ProcessRecord = {"pid": trainer.pid, "create_time": create_time, "host": HOST}
        temporary.write_text(json.dumps(record))
        temporary.replace(run_dir / PID_FILE)
    return trainer


class _Spare:
    """At most one trainer process that has imported torch and waits for the next run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: Trainer | None = None

    def warm(self) -> None:
        with self._lock:
            if settings.SPARE_TRAINER and not shutting_down.is_set() and not self._is_alive():
                # The pipe is not read: a spare writes few lines to it before it gets a log file.
                self._trainer = Trainer(["--spare"], subprocess.PIPE)

    def take(self) -> Trainer | None:
        with self._lock:
            trainer = self._trainer if self._is_alive() else None
            self._trainer = None
            return trainer

    def _is_alive(self) -> bool:
        """Whether a spare is running. One that has ended is logged and forgotten."""
        if self._trainer is None or self._trainer.poll() is None:
            return self._trainer is not None
        assert self._trainer.process.stdout is not None
        output = self._trainer.process.stdout.read().decode(errors="replace")
        logger.warning("The spare trainer has ended (%s). %s", self._trainer.poll(), output[-500:])
        self._trainer = None
        return False


_spare = _Spare()


def warm_spare() -> None:
    """Start a spare trainer where there is none, unless the settings turn it off."""
    _spare.warm()


def drop_spare() -> None:
    """Kill the spare trainer."""
    if trainer := _spare.take():
        trainer.kill()


def end_leftover(
    run_dir: Path, beat: Callable[[], object] = lambda: None, grace_s: float = LEFTOVER_GRACE_S
) -> ProcessRecord | None:
    """End a trainer of an earlier attempt on this host whose supervisor is gone.

    It is asked to save and exit; `beat` is called meanwhile. After `grace_s` it is killed. One that does not end even
    then is abandoned and returned.
    """
    if (pid := leftover_pid(run_dir)) is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    is_gone = _is_gone(run_dir, beat, grace_s)
    kill_group(pid)  # with its loader processes
    return None if is_gone or _is_gone(run_dir, beat, KILLED_S) else abandon(run_dir)


def _is_gone(run_dir: Path, beat: Callable[[], object], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and leftover_pid(run_dir) is not None:
        beat()
        time.sleep(0.1)
    return leftover_pid(run_dir) is None


def abandon(run_dir: Path) -> ProcessRecord | None:
    """Let another trainer work in the folder although a killed one has not ended and still holds the lock; returns it.

    With SIGKILL pending it never returns to its own code, so that it writes nothing more.
    """
    record = _process_record(run_dir)
    for name in (PID_FILE, LOCK_FILE):
        (run_dir / name).unlink(missing_ok=True)
    return record


def leftover_pid(run_dir: Path) -> int | None:
    """The process number of the trainer that works in this folder on this host; None when it is gone or elsewhere."""
    record = _process_record(run_dir)
    if record is None or record["host"] != HOST or not is_alive(record["pid"], record["create_time"]):
        return None
    return record["pid"]


def _process_record(run_dir: Path) -> ProcessRecord | None:
    """What is in PID_FILE; None where no trainer was started, or a power cut truncated the file: it is gone then."""
    try:
        record = json.loads((run_dir / PID_FILE).read_text())
        pid, create_time, host = int(record["pid"]), float(record["create_time"]), str(record.get("host", HOST))
    except (OSError, ValueError, KeyError):
        return None
    return {"pid": pid, "create_time": create_time, "host": host}


def log_tail(run_dir: Path, start: int = 0, lines: int = 20) -> list[str]:
    """The last lines of the trainer's output, from byte `start` on."""
    try:
        with (run_dir / LOG_FILE).open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - lines * LOG_LINE_BYTES))
            text = file.read().decode(errors="replace").replace("\0", "\ufffd")  # PostgreSQL keeps no NUL
            return text.splitlines()[-lines:]
    except FileNotFoundError:
        return []
