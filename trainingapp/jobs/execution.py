"""Jobs: claimed by a worker, done by an engine process, followed to their end.

The row says what is wanted and how far it is; the folder has the files. A preflight has a process of its own, which
frees what it took when it ends; predictions share one that keeps the model for a while.
"""

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.contract.job_order import ERROR_FILE, JOB_FILE, PROGRESS_FILE, RESULT_FILE, read_json, write_whole
from trainingapp.jobs import model_files as library
from trainingapp.models import Job
from trainingapp.models.text import storable
from trainingapp.supervision import shutting_down, worker_id
from trainingapp.supervision.trainers import kill_group, trainer_environment

logger = logging.getLogger(__name__)

POLL_S = 0.1
BEAT_S = 2.0
#: A job without a heartbeat for so long is taken up again.
LEASE_S = 20.0
MAX_TRIES = 2
LONGEST_S = 1800.0
#: Seconds that a job and its files stay after its end.
JOBS_KEPT_S = 24 * 3600.0
#: Kinds that the warm process does.
WARM = frozenset({Job.Kind.PREDICT})


class Lane(Enum):
    """Jobs that are done one after the other; those of different lanes do not wait for each other."""

    WARM = WARM
    SAVE = frozenset({Job.Kind.SAVE_WEIGHTS})
    #: All others, which may take minutes.
    LONG = frozenset[Job.Kind]()


def waiting_jobs() -> QuerySet[Job]:
    """Jobs that no living worker has, oldest first."""
    lost = Q(state=Job.State.WORKING, heartbeat_at__lt=timezone.now() - timedelta(seconds=LEASE_S))
    return Job.objects.filter(Q(state=Job.State.WAITING) | lost).order_by("created_at", "pk")


def claim_job(lane: Lane | None = None) -> Job | None:
    """Claim the oldest waiting job of a lane, or of all, by compare-and-set; None when there is none."""
    waiting = waiting_jobs()
    if lane is Lane.LONG:
        waiting = waiting.exclude(kind__in=Lane.WARM.value | Lane.SAVE.value)
    elif lane is not None:
        waiting = waiting.filter(kind__in=lane.value)
    while (job := waiting.first()) is not None:
        if claim(job):
            return job
    return None


def claim(job: Job) -> bool:
    """Claim this job if no living worker has it."""
    now = timezone.now()
    changes = {"state": Job.State.WORKING, "worker": worker_id(), "heartbeat_at": now, "tries": job.tries + 1}
    if not waiting_jobs().filter(pk=job.pk, tries=job.tries).update(**changes):
        return False
    job.refresh_from_db()
    return True


def work(job: Job) -> None:
    """Have an engine process do the claimed job and store what came of it."""
    if job.tries > MAX_TRIES:
        _end(job, Job.State.FAILED, message=_("The worker was lost twice while it did this."))
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    for name in (PROGRESS_FILE, RESULT_FILE, ERROR_FILE):
        (job.folder / name).unlink(missing_ok=True)
    write_whole(job.folder / JOB_FILE, {"kind": job.kind, "params": job.params})
    process = _warm.take() if job.kind in WARM else _start(["--job", str(job.folder)], job.folder)
    is_over = _follow(job, process)
    if job.kind in WARM and is_over:
        _warm.give(process)
    else:
        _kill(process)


def remove_old_jobs() -> None:
    """Remove jobs that ended long ago, with their files, and folders without a job."""
    old = timezone.now() - timedelta(seconds=JOBS_KEPT_S)
    Job.objects.filter(finished_at__lt=old).delete()
    root = Path(settings.JOBS_DIR)
    for folder in root.glob("?" * 32):
        is_old = folder.stat().st_mtime < time.time() - JOBS_KEPT_S
        if is_old and not Job.objects.filter(pk=folder.name).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _follow(job: Job, process: "subprocess.Popen[bytes]") -> bool:
    """Until the job has its result; False when the process must go: it has ended, hangs, or is not wanted any more."""
    if job.kind in WARM:
        _say(process, {"folder": str(job.folder)})
    began = beat_at = time.monotonic()
    while True:
        exit_code = process.poll()  # first, so that what it wrote before its end is read below
        if (result := _written(job, RESULT_FILE)) is not None:
            _take_in(job, result)
            return exit_code is None
        if (error := _written(job, ERROR_FILE)) is not None:
            _end(job, Job.State.FAILED, message=error["message"], result={"error": error})
            return exit_code is None
        if exit_code is not None:
            _end(
                job,
                Job.State.FAILED,
                message=_("The process ended without a word (exit status %(code)d).") % {"code": exit_code},
            )
            return False
        if time.monotonic() - began > LONGEST_S:
            _end(
                job, Job.State.FAILED, message=_("It took more than %(minutes)d minutes.") % {"minutes": LONGEST_S / 60}
            )
            return False
        if time.monotonic() >= beat_at:
            beat_at = time.monotonic() + BEAT_S / 4
            if not _beat(job):
                return False
        if shutting_down.wait(POLL_S):
            _release(job)
            return False


def _take_in(job: Job, result: dict[str, Any]) -> None:
    """First the files, then the word that it is done: a crash between the two costs a repetition."""
    try:
        library.take_in(job, result)
    except OSError as error:
        _end(job, Job.State.FAILED, message=_("The result could not be put in its place: %(error)s") % {"error": error})
    else:
        _end(job, Job.State.DONE, result=result)


def _beat(job: Job) -> bool:
    """Store the heartbeat and the progress; False when the job is in other hands or was cancelled."""
    progress = _written(job, PROGRESS_FILE) or {}
    return bool(_held(job).update(heartbeat_at=timezone.now(), **progress))


def _written(job: Job, file: str) -> Any:
    """What the engine wrote for us, as the database can keep it: names out of foreign files are among it."""
    return storable(read_json(job.folder / file))


def _end(job: Job, state: str, **fields: Any) -> None:
    progress = _written(job, PROGRESS_FILE) or {}
    numbers = {name: progress[name] for name in ("done", "total") if name in progress}
    changes = {"message": "", **numbers, **fields}
    if _held(job).update(state=state, finished_at=timezone.now(), **changes) and state == Job.State.FAILED:
        library.note_failure(job, changes["message"])


def _release(job: Job) -> None:
    _held(job).update(state=Job.State.WAITING, worker="", tries=job.tries - 1)


def _held(job: Job) -> QuerySet[Job]:
    return Job.objects.filter(pk=job.pk, state=Job.State.WORKING, worker=job.worker, tries=job.tries)


def _start(arguments: list[str], log_folder: Path) -> "subprocess.Popen[bytes]":
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


def _say(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    """A process that listens no more is seen to have ended by who follows it."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        logger.info("The process for jobs has just ended.")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    kill_group(process.pid)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


class _Warm:
    """At most one process that keeps its model; it ends by itself when nothing comes for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            _kill(process)
        return _start(["--jobs"], Path(settings.JOBS_DIR) / "warm")

    def give(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            old, self._process = self._process, process
        if old is not None:
            _kill(old)

    def drop(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _kill(process)


_warm = _Warm()


def drop_warm() -> None:
    """End the process that keeps a model."""
    _warm.drop()
