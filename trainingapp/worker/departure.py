"""When a worker that stays for a while only leaves: on hosts that a cluster scheduler lends."""

import logging
import os
import signal
import threading
import time

import psutil

from trainingapp.jobs.lease import waiting_jobs
from trainingapp.models import Device, Job, TrainingRun
from trainingapp.models.run import Status
from trainingapp.scheduling.scheduler import has_run_for
from trainingapp.supervision import HOST, worker_id

logger = logging.getLogger(__name__)


class Idleness:
    """For how long there has been nothing for this worker to do."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def look(self) -> None:
        """Leave when there has been nothing to do for the limit."""
        now = time.monotonic()
        if is_occupied():
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._limit_s:
            leave(f"there has been nothing to do for {self._limit_s:g} s")


def is_occupied() -> bool:
    """Whether this worker has work, could take some now, or does not know yet which devices it can offer."""
    ours = {"worker": worker_id()}
    return (
        TrainingRun.objects.filter(status=Status.RUNNING, **ours).exists()
        or Job.objects.filter(state=Job.State.WORKING, **ours).exists()
        or waiting_jobs().exists()
        or Device.objects.filter(host__name=HOST, is_present=True, problem=Device.Problem.UNCHECKED).exists()
        or has_run_for(HOST)
    )


def leave_later(after_s: float) -> None:
    """Leave so many seconds after the start of this process."""
    age_s = time.time() - psutil.Process().create_time()
    timer = threading.Timer(max(0.0, after_s - age_s), leave, [f"its time of {after_s / 60:g} min is over"])
    timer.daemon = True
    timer.start()


def leave(why: str) -> None:
    """End this process as SIGTERM does."""
    logger.info("This worker leaves: %s.", why)
    os.kill(os.getpid(), signal.SIGTERM)
