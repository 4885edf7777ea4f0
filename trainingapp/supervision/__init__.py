"""Trainer processes: start, events, requests, outcomes, and the recovery of lost runs."""

from trainingapp.supervision.identity import HOST, worker_id
from trainingapp.supervision.journal import note_restart
from trainingapp.supervision.recovery import recover_lost_runs, recover_run
from trainingapp.supervision.shares import take_shares
from trainingapp.supervision.state import short_stay, shutting_down
from trainingapp.supervision.supervision import supervise
from trainingapp.supervision.trainers import drop_spare, warm_spare

__all__ = [
    "HOST",
    "drop_spare",
    "note_restart",
    "recover_lost_runs",
    "recover_run",
    "short_stay",
    "shutting_down",
    "supervise",
    "take_shares",
    "warm_spare",
    "worker_id",
]
