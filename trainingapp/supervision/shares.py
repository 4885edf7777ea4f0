"""The ranks that this host has of runs of other hosts: its worker starts them, sends heartbeats and ends them.

The row of the share is all that the two workers exchange. The worker of rank 0 creates it and says there when the
attempt is over; the worker here says when its ranks have ended. Where one of them is silent for longer than the lease,
the other takes it as gone.
"""

import logging
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections
from django.db.models import F, Q
from django.utils import timezone

from trainingapp.contract.commands import Meeting
from trainingapp.contract.run_directory import EXIT_PEER_LOST
from trainingapp.models import RunShare, TrainingRun
from trainingapp.models.device import mark_away, rank_devices
from trainingapp.models.run import Status
from trainingapp.supervision.identity import HOST, worker_id
from trainingapp.supervision.log_rate_limit import trim_log
from trainingapp.supervision.state import shutting_down
from trainingapp.supervision.supervision import BEAT_S, POLL_S, retried
from trainingapp.supervision.trainers import KILLED_S, Trainer

logger = logging.getLogger(__name__)

#: Seconds between two looks whether the attempt is over.
LOOK_S = 0.5
#: The exit status of a share whose processes could not be started, as that of a shell.
EXIT_NOT_STARTED = 127
#: Shares of attempts that are in progress.
IN_PROGRESS = Q(run__status=Status.RUNNING, run__attempt=F("attempt"), ended_at=None)


def share_log(run: TrainingRun, node_rank: int) -> Path:
    """The log of the ranks of a host other than the first."""
    return run.folder / f"trainer.{node_rank}.log"


def ranks_on(run: TrainingRun, attempt: int, host: str) -> list[int]:
    """The ranks that an attempt has on this host."""
    devices = rank_devices(run.holds.filter(attempt=attempt))[: int(run.config.get("accumulation_steps", 1))]
    return [rank for rank, device in enumerate(devices) if device.host.name == host]


def take_shares() -> list[threading.Thread]:
    """Start the ranks of each share of this host that no worker has taken yet, each share in a thread of its own.

    The thread ends with the share. A worker that is stopped waits for it.
    """
    if not settings.CLUSTER_INTERFACE or shutting_down.is_set():
        return []
    threads = []
    for share in RunShare.objects.filter(IN_PROGRESS, host=HOST, worker="", node_rank__gt=0).select_related("run"):
        taken = RunShare.objects.filter(pk=share.pk, worker="", ended_at=None)
        if taken.update(worker=worker_id(), heartbeat_at=timezone.now()):
            name = f"share-{share.pk}"
            threads.append(threading.Thread(target=work_share, args=(share,), name=name, daemon=False))
            threads[-1].start()
    return threads


def work_share(share: RunShare) -> None:
    """Run the ranks of a share that this worker has taken until they have ended or the attempt is over."""
    try:
        _Share(share).work()
    except Exception:  # a thread has nobody to raise it to; without heartbeats, the attempt ends
        logger.exception("The share %s of run %s failed.", share.node_rank, share.run_id)
    finally:
        close_old_connections()


class _Share:
    def __init__(self, share: RunShare) -> None:
        self._share, self._run = share, share.run
        self._log = share_log(share.run, share.node_rank)
        self._ranks: list[Trainer] = []
        self._has_met = False
        self._look_at = self._beat_at = 0.0
        self._exit_by: float | None = None

    def work(self) -> None:
        exit_code: int | None = None
        try:
            self._start()
            exit_code = self._follow()
        except OSError:
            logger.exception("The ranks of run %s could not be started.", self._run.pk)
            exit_code = EXIT_NOT_STARTED
        finally:
            for wait_s in (0.0, KILLED_S):  # first the signal to all
                for rank in self._ranks:
                    rank.kill(wait_s)
        row = RunShare.objects.filter(pk=self._share.pk, ended_at=None)
        retried(lambda: row.update(ended_at=timezone.now(), exit_code=exit_code))
        if shutting_down.is_set():
            mark_away(HOST)  # so that the next attempt is not given to it again

    def _start(self) -> None:
        """Start a process for each rank. They end with this thread, however it ends."""
        self._run.folder.mkdir(parents=True, exist_ok=True)
        for rank in ranks_on(self._run, self._share.attempt, self._share.host):
            arguments = [str(self._run.folder), "--rank", str(rank), "--parent", str(os.getpid())]
            with self._log.open("ab") as log:
                self._ranks.append(Trainer(arguments, log))
        if self._ranks:
            pid = self._ranks[0].pid
            retried(lambda: RunShare.objects.filter(pk=self._share.pk).update(pid=pid))

    def _follow(self) -> int | None:
        """Follow the ranks until they have ended; returns the exit status of the one that ended first.

        None: the attempt is over, and they have not ended by themselves.
        """
        while True:
            ended = [status for rank in self._ranks if (status := rank.poll()) is not None]
            causes = [status for status in ended if status not in (0, EXIT_PEER_LOST)]
            if causes or (ended and len(ended) == len(self._ranks)):
                return (causes or ended)[0]
            if self._is_over():
                return None
            time.sleep(POLL_S)

    def _is_over(self) -> bool:
        """Whether the ranks are to end now. Sends a heartbeat when it is due."""
        if shutting_down.is_set() and self._exit_by is None:
            self._exit_by = time.monotonic() + settings.LEAVE_GRACE_S
            retried(lambda: RunShare.objects.filter(pk=self._share.pk).update(is_leaving=True))
        if self._exit_by is not None and time.monotonic() > self._exit_by:
            return True
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_S
        leader = retried(self._leader)
        if leader is None:
            return True
        if leader.address and not self._has_met:
            self._has_met = True
            self._meet(leader.address)
        if time.monotonic() > self._beat_at:
            self._beat_at = time.monotonic() + BEAT_S
            retried(lambda: RunShare.objects.filter(pk=self._share.pk).update(heartbeat_at=timezone.now()))
            if self._log.exists():
                trim_log(self._log, settings.TRAINER_LOG_BYTES)
        return False

    def _leader(self) -> RunShare | None:
        """The share with rank 0; None when the attempt is over."""
        of_attempt = RunShare.objects.filter(IN_PROGRESS, run=self._run, attempt=self._share.attempt)
        return of_attempt.filter(node_rank=0).first()

    def _meet(self, address: str) -> None:
        """Tell the ranks where rank 0 is."""
        host, _colon, port = address.rpartition(":")
        for rank in self._ranks:
            rank.send(asdict(Meeting(host, int(port), settings.CLUSTER_INTERFACE)))
