"""One trainer process: start it, store what it says, tell it what is wanted, judge its end."""

from trainingapp.supervisor.identity import HOST, worker_id
from trainingapp.supervisor.journal import note_restart
from trainingapp.supervisor.recovery import recover_lost_runs, recover_run
from trainingapp.supervisor.state import shutting_down
from trainingapp.supervisor.supervision import supervise
from trainingapp.supervisor.trainers import drop_spare, warm_spare

__all__ = [
    "HOST",
    "drop_spare",
    "note_restart",
    "recover_lost_runs",
    "recover_run",
    "shutting_down",
    "supervise",
    "warm_spare",
    "worker_id",
]
