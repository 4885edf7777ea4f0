"""Runs whose worker is lost: store what their trainer still wrote, and move them to the status that follows."""

import logging
import threading
from collections.abc import Callable

from django.conf import settings
from django.db import OperationalError, close_old_connections, transaction
from django.utils import timezone

from trainingapp.models import TrainingRun
from trainingapp.models.run import RequestedAction, Status
from trainingapp.supervision.event_store import EventStore, LostRunError
from trainingapp.supervision.heartbeats import heartbeats
from trainingapp.supervision.identity import is_dead_here, worker_id
from trainingapp.supervision.journal import close_entry, evidence_of, open_entry
from trainingapp.supervision.outcome import End
from trainingapp.supervision.state import holding, is_held, shutting_down
from trainingapp.supervision.supervision import retried, settle
from trainingapp.supervision.trainers import LEFTOVER_GRACE_S, end_leftover, log_tail

logger = logging.getLogger(__name__)

#: Seconds after which a worker of this host whose process is gone counts as dead. Not at once: another machine, such as
#: a container, may have the same host name and other process numbers.
MISSED_BEATS_S = 4.0


def is_lost(run: TrainingRun) -> bool:
    """Whether the worker of this running run is gone."""
    if run.status != Status.RUNNING or is_held(run.pk):
        return False
    lease_s = float(settings.HEARTBEAT_LEASE_S)
    allowed_s = min(lease_s, MISSED_BEATS_S) if is_dead_here(run.worker) else lease_s
    return heartbeats.silence_s(run) > allowed_s


def recover_lost_runs(then: Callable[[], object] = lambda: None) -> list[threading.Thread]:
    """Recover every lost run, each in a separate thread: a leftover trainer may take seconds to exit.

    `then` is called after each, in its thread. Returns the threads.
    """
    running = list(TrainingRun.objects.filter(status=Status.RUNNING))
    heartbeats.forget_all_but({run.pk for run in running})
    lost = [run for run in running if is_lost(run)]
    threads = [
        threading.Thread(target=_recover_in_thread, args=(run, then), name=f"recover-{run.pk}", daemon=True)
        for run in lost
        if not shutting_down.is_set()
    ]
    for thread in threads:
        thread.start()
    return threads


def _recover_in_thread(run: TrainingRun, then: Callable[[], object]) -> None:
    try:
        recover_run(run)
        then()
    except OperationalError as error:  # the next check tries again
        logger.warning("Run %s could not be recovered: %s", run.pk, error)
    finally:
        close_old_connections()


def recover_run(run: TrainingRun) -> None:
    """Take over a run that its worker lost, store the rest of its events and move it to what they mean.

    A trainer that is left on this host is asked to save and exit first. If it wrote how it ended, that counts; else
    the run is queued again and resumes from its newest valid checkpoint.
    """
    with holding(run.pk) as is_ours:
        if not is_ours:
            return
        evidence = evidence_of(run)
        if not _adopt(run):
            return
        entry = open_entry(run, evidence)
        try:
            store = EventStore(run)
            grace_s = 0 if run.requested_action == RequestedAction.KILL else LEFTOVER_GRACE_S
            # Events are stored meanwhile: each batch is also the heartbeat that keeps other workers away.
            stuck = end_leftover(run.folder, lambda: retried(store.pull), grace_s)
            retried(store.pull_all)
            end = End(store.final, lines=log_tail(run.folder), is_worker_lost=True, stuck_process=stuck)
            outcome = settle(store, end)
            close_entry(entry, outcome)
        except LostRunError as lost:
            logger.warning("%s", lost)


def _adopt(run: TrainingRun) -> bool:
    """Become the worker of the run: compare-and-set on its heartbeat, so that one of several succeeds.

    A worker that was only slow finds that it no longer holds the run and terminates its trainer.
    """
    with transaction.atomic():
        rows = TrainingRun.objects.select_for_update().filter(pk=run.pk, status=Status.RUNNING, attempt=run.attempt)
        row = rows.filter(worker=run.worker, heartbeat_at=run.heartbeat_at).first()
        if row is None:
            return False
        row.worker, row.heartbeat_at, row.phase, row.saving = worker_id(), timezone.now(), "recovering", ""
        row.save(update_fields=["worker", "heartbeat_at", "phase", "saving", "updated_at"])
    run.refresh_from_db()
    return True
