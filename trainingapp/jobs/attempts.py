"""One attempt at a job: in an engine process, in the warm one, or in a thread of the worker.

The worker follows each of them in the same way, see `execution.py`.
"""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import connections

from trainingapp.contract.job_request import ERROR_FILE, JOB_FILE, PROGRESS_FILE, RESULT_FILE, read_json, write_whole
from trainingapp.contract.messages import Message, from_data
from trainingapp.contract.messages.jobs_and_models import JOB_ERROR, JOB_PROCESS_ENDED
from trainingapp.jobs.kinds import JobRefused, JobStopped, Lane, Work, kind_of
from trainingapp.jobs.lease import message_fields
from trainingapp.models import Job
from trainingapp.models.text import storable
from trainingapp.supervision.state import is_stopped_with
from trainingapp.supervision.trainers import end_group, trainer_environment

logger = logging.getLogger(__name__)

#: Seconds that a thread gets to notice that it is to stop.
STOP_S = 20.0

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt: a result, or a message with the reason of the failure."""

    result: Mapping[str, object] = field(default_factory=dict)
    failure: Message | None = None
    #: What the engine wrote about the failure.
    error: Mapping[str, object] | None = None


class Attempt(Protocol):
    """An attempt that was started."""

    def outcome(self) -> Outcome | None:
        """None while it works."""

    def progress(self) -> dict[str, object]:
        """Columns of the job: done, total and the message of the phase."""

    def end(self) -> None:
        """End it, whether or not it is over, and free what it holds."""


def started(job: Job, device: Mapping[str, str]) -> Attempt:
    """Start an attempt at a job that this process holds; `device` are the parameters that name its GPU, if it has
    one."""
    kind = kind_of(job)
    if kind.work is not None:
        return ThreadAttempt(job, kind.work)
    job.folder.mkdir(parents=True, exist_ok=True)
    for name in (PROGRESS_FILE, RESULT_FILE, ERROR_FILE):
        (job.folder / name).unlink(missing_ok=True)
    write_whole(job.folder / JOB_FILE, {"kind": job.kind, "params": {**job.params, **device}})
    return EngineAttempt(job, is_warm=kind.lane is Lane.WARM)


class ThreadAttempt:
    """Work in a thread of this process. A thread cannot be killed: it ends at its next report of progress."""

    def __init__(self, job: Job, work: Work) -> None:
        self._job, self._work = job, work
        self._stop = threading.Event()
        self._progress: dict[str, object] = {}
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._run, name=f"job-{job.pk}", daemon=True)
        self._thread.start()

    def outcome(self) -> Outcome | None:
        return None if self._thread.is_alive() else self._outcome

    def progress(self) -> dict[str, object]:
        return self._progress

    def end(self) -> None:
        self._stop.set()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            logger.warning("Job %s did not stop within %d s; its thread was left behind.", self._job.pk, STOP_S)

    def _report(self, done: int, total: int, phase: Message) -> None:
        if self._stop.is_set():
            raise JobStopped
        self._progress = {"done": done, "total": total, **message_fields(phase)}

    def _run(self) -> None:
        try:
            self._outcome = Outcome(self._work(self._job, self._report))
        except JobStopped:
            logger.info("Job %s was stopped.", self._job.pk)
        except JobRefused as error:
            self._outcome = Outcome(failure=error.message)
        except Exception as error:  # whatever it is, the job must end: one without an end would be tried again
            logger.exception("Job %s failed.", self._job.pk)
            self._outcome = Outcome(failure=JOB_ERROR(error=f"{type(error).__name__}: {error}"))
        finally:
            connections.close_all()


class EngineAttempt:
    """An engine process, which reports by files in the folder of the job."""

    def __init__(self, job: Job, *, is_warm: bool) -> None:
        self._folder, self._is_warm = job.folder, is_warm
        self._is_reusable = False
        if is_warm:
            self._process = warm_process.take()
            _send(self._process, {"folder": str(job.folder)})
        else:
            self._process = _start(["--job", str(job.folder)], job.folder)

    def outcome(self) -> Outcome | None:
        exit_status = self._process.poll()  # first, so that what it wrote before its end is read below
        self._is_reusable = self._is_warm and exit_status is None
        if (result := self._read(RESULT_FILE)) is not None:
            return Outcome(result)
        if (error := self._read(ERROR_FILE)) is not None:
            return Outcome(failure=_message(error) or JOB_ERROR(error=str(error.get("message", ""))), error=error)
        self._is_reusable = False
        if exit_status is None or is_stopped_with(exit_status):
            return None
        return Outcome(failure=JOB_PROCESS_ENDED(exit_status=exit_status))

    def progress(self) -> dict[str, object]:
        written = self._read(PROGRESS_FILE)
        if written is None:
            return {}
        message = _message(written)
        columns = message_fields(message) if message else message_fields(None) | {"message": written.get("message", "")}
        return {"done": written["done"], "total": written["total"], **columns}

    def end(self) -> None:
        if self._is_reusable:
            warm_process.give(self._process)
        else:
            _kill(self._process)

    def _read(self, name: str) -> dict[str, object] | None:
        """What the engine wrote, as the database can store it: it quotes names and errors of foreign files."""
        values: dict[str, object] | None = storable(read_json(self._folder / name))
        return values


def _message(data: Mapping[str, object]) -> Message | None:
    return from_data(data)


def _start(arguments: list[str], log_folder: Path) -> Process:
    log_folder.mkdir(parents=True, exist_ok=True)
    with (log_folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trainingapp.engine", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).resolve().parents[2],
            env=trainer_environment(),
            start_new_session=True,
        )


def _send(process: Process, message: dict[str, str]) -> None:
    """Write one JSON line to a process. That it has just ended is noticed by who follows it."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        logger.info("The warm process for jobs has just ended.")


def _kill(process: Process) -> None:
    if not end_group(process):
        logger.error("The process %d of a job was killed and does not end; it was left behind.", process.pid)
    if process.stdin is not None:
        process.stdin.close()


class WarmProcess:
    """At most one engine process that keeps its model between jobs; it ends by itself after a while without one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Process | None = None

    def take(self) -> Process:
        """The process, or a new one."""
        process = self._exchanged(None)
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            _kill(process)
        return _start(["--jobs"], Path(settings.JOBS_DIR) / "warm")

    def give(self, process: Process) -> None:
        """Keep a process whose job is over."""
        if (old := self._exchanged(process)) is not None:
            _kill(old)

    def drop(self) -> None:
        """End the process, if there is one."""
        if (process := self._exchanged(None)) is not None:
            _kill(process)

    def _exchanged(self, process: Process | None) -> Process | None:
        with self._lock:
            old, self._process = self._process, process
        return old


warm_process = WarmProcess()
