"""The lease of a job: one worker holds it, renews it by a heartbeat, and loses it by silence or a cancellation.

Every change is a compare-and-set on (state, worker, tries), so that two workers never both believe to hold a job.
"""

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

from django.db import DatabaseError, close_old_connections
from django.db.models import Q, QuerySet
from django.utils import timezone

from trainingapp.contract.messages import Message
from trainingapp.jobs.kinds import Lane, kind_of, kinds_in
from trainingapp.models import Job
from trainingapp.models.text import storable
from trainingapp.supervision import worker_id
from trainingapp.supervision.identity import data_dir_id

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats.
BEAT_S = 0.5
#: Seconds without a heartbeat after which a job is claimed by another worker. Reading a large file of annotations may
#: keep the other threads of a worker, the one with the heartbeat included, from running for many seconds.
LEASE_S = 30.0


def is_lost() -> Q:
    """Matches jobs in progress whose worker is silent."""
    return Q(state=Job.State.WORKING, heartbeat_at__lt=timezone.now() - timedelta(seconds=LEASE_S))


def is_held(job: Job | None) -> bool:
    """Whether a running worker holds the job."""
    if job is None:
        return False
    return Job.objects.filter(pk=job.pk, state=Job.State.WORKING).exclude(is_lost()).exists()


def unfinished_jobs() -> QuerySet[Job]:
    """Jobs that wait or that a worker holds."""
    return Job.objects.filter(state__in=(Job.State.WAITING, Job.State.WORKING))


def waiting_jobs(lane: Lane | None = None) -> QuerySet[Job]:
    """Jobs that no running worker holds and that a worker with this DATA_DIR can do, of a lane or of all, oldest
    first."""
    waiting = Job.objects.filter(Q(state=Job.State.WAITING) | is_lost()).order_by("created_at", "pk")
    if directory := data_dir_id():
        waiting = waiting.filter(data_dir_id__in=("", directory))
    if lane is Lane.LONG:  # kinds of a later version, which this one does not know, belong here as well
        return waiting.exclude(kind__in=[name for other in Lane if other is not Lane.LONG for name in kinds_in(other)])
    return waiting if lane is None else waiting.filter(kind__in=kinds_in(lane))


def claim_job(lane: Lane | None = None) -> Job | None:
    """Claim the oldest waiting job of a lane, or of all; None when there is none."""
    while (job := waiting_jobs(lane).first()) is not None:
        if claim(job):
            return job
    return None


def claim(job: Job) -> bool:
    """Claim this job if no running worker holds it; `job` is refreshed."""
    if not waiting_jobs().filter(pk=job.pk, tries=job.tries).update(**claimed_fields(job.tries + 1)):
        return False
    job.refresh_from_db()
    return True


def claimed_fields(tries: int = 1) -> dict[str, object]:
    """The columns of a job that this process holds."""
    return {"state": Job.State.WORKING, "worker": worker_id(), "heartbeat_at": timezone.now(), "tries": tries}


def message_fields(message: Message | None) -> dict[str, object]:
    """The columns of a job that hold a message; of None, empty ones."""
    if message is None:
        return {"message": "", "message_data": {}}
    return {"message": str(message), "message_data": message.as_data()}


class Lease:
    """The claim of this process on a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._next_s = 0.0
        self._renewed_s = time.monotonic()

    def renew(self, progress: Mapping[str, object]) -> bool:
        """Store the heartbeat and the columns of `progress`, at most every BEAT_S; False when the claim is lost.

        A database that refuses is tried again until the lease is over: by then another worker may have the job.
        """
        now_s = time.monotonic()
        if now_s < self._next_s:
            return True
        self._next_s = now_s + BEAT_S
        try:
            is_ours = self._update(heartbeat_at=timezone.now(), **progress)
        except DatabaseError as error:
            logger.warning("The heartbeat of job %s could not be stored: %s", self.job.pk, error)
            close_old_connections()
            return now_s < self._renewed_s + LEASE_S
        self._renewed_s = now_s
        return is_ours

    def finish(self, result: Mapping[str, object], progress: Mapping[str, object]) -> None:
        """Store the result. What it is for was stored before: a crash between the two costs a repetition."""
        columns = {**progress, **message_fields(None), "result": dict(result), "finished_at": timezone.now()}
        self._update(state=Job.State.DONE, **columns)

    def fail(self, message: Message, error: Mapping[str, object] | None = None) -> None:
        """Store why the job failed, there and where its result was to be; `error` holds the evidence."""
        result = {"error": dict(error)} if error else {}
        columns = {**message_fields(message), "result": result, "finished_at": timezone.now()}
        if self._update(state=Job.State.FAILED, **columns):
            kind_of(self.job).on_failed(self.job, message)

    def release(self) -> None:
        """Give the job back in order, which counts as no attempt."""
        self._update(state=Job.State.WAITING, worker="", tries=self.job.tries - 1)

    def _update(self, **columns: object) -> bool:
        job = self.job
        held = Job.objects.filter(pk=job.pk, state=Job.State.WORKING, worker=job.worker, tries=job.tries)
        return bool(held.update(**storable(columns)))
