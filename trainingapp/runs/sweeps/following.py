"""Keeps the state of a trial equal to that of its run: it is written in the transaction that moves the run.

Whatever is killed in between, a trial has exactly the result that its run has.
"""

from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from trainingapp.models import TrainingRun, Trial
from trainingapp.models.run import Status, run_moved
from trainingapp.models.sweep import TrialState


def listen() -> None:
    """Follow the runs: `TrainingRun.transition` sends each change within its transaction."""
    run_moved.connect(_run_moved, dispatch_uid="sweeps")


def wake() -> None:
    """Have a worker advance the sweeps. The Huey task is named, because the worker lies above this room."""
    import_string("trainingapp.worker.tasks.advance_sweeps")()


def state_of(run: TrainingRun, trial: Trial) -> TrialState:
    """The state of a trial whose run is as it is stored now."""
    if run.status == Status.COMPLETED:
        return TrialState.COMPLETED
    if run.status == Status.FAILED:
        return TrialState.FAILED
    if run.status == Status.STOPPED:
        return TrialState.STOPPED if trial.pruned_at is None else TrialState.PRUNED
    return TrialState.RUNNING


def _run_moved(sender: object, run: TrainingRun, **kwargs: object) -> None:
    trial = Trial.objects.filter(run_id=run.pk).only("pk", "state", "pruned_at").first()
    if trial is None:
        return
    state = state_of(run, trial)
    is_finished = state != TrialState.RUNNING
    Trial.objects.filter(pk=trial.pk).update(
        state=state,
        value=run.best_metric if is_finished and state != TrialState.FAILED else None,
        elapsed_s=run.elapsed_s,
        finished_at=timezone.now() if is_finished else None,
    )
    transaction.on_commit(wake, robust=True)
