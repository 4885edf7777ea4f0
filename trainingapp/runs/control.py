"""The verbs that change the status of a run, and the requests to its trainer: start, pause, resume, stop, evaluate."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.jobs import wakeups
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import NO_ERROR, RequestedAction, Status, append_events
from trainingapp.models.verbs import VerbError, locked, not_possible, require_task

#: What is reset when a user starts or resumes a run.
FRESH: dict[str, Any] = {
    "requested_action": RequestedAction.NOTHING,
    "requested_at": None,
    "recoveries": 0,
    "retries": {},
    "spent_s": 0.0,
    "not_before": None,
    "worker": "",
    "host": "",
    "pid": None,
    "phase": "",
    "saving": "",
    **NO_ERROR,
    "requests": [],
}


def start_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a new run and wake a worker."""
    with locked(run):
        if run.status == Status.PENDING:
            queue_run(run, by)
            audit.record("start", run, by=by)
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise not_possible(run, _("started"))
    return run


def resume_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a paused, failed or stopped run; it resumes from its newest valid checkpoint.

    A run that waits before an automatic retry is started without the rest of the wait.
    """
    with locked(run):
        if run.status in (Status.PAUSED, Status.FAILED, Status.STOPPED):
            queue_run(run, by)
            audit.record("resume", run, by=by)
        elif run.status == Status.RUNNING and run.requested_action:
            raise VerbError(_("The run “%(name)s” is still ending. Resume it afterwards.") % {"name": run.name})
        elif run.waits_until:
            run.not_before = None
            _append_status(run, {"waits": False, "by": by}, ["not_before"])
            audit.record("resume", run, by=by)
            transaction.on_commit(wakeups.wake_trainer, robust=True)
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise not_possible(run, _("resumed"))
    return run


def pause_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Request a checkpoint and the release of the device. A queued run is paused at once."""
    with locked(run):
        if run.status == Status.QUEUED:
            run.transition(Status.PAUSED, data={"by": by})
            audit.record("pause", run, by=by)
        elif run.status == Status.RUNNING and run.requested_action not in (RequestedAction.STOP, RequestedAction.KILL):
            request_action(run, RequestedAction.PAUSE, by)
        elif run.status != Status.PAUSED:
            raise not_possible(run, _("paused"))
    return run


def stop_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Request the end of the run after a checkpoint. A queued or paused run is stopped at once."""
    with locked(run):
        if run.status in (Status.QUEUED, Status.PAUSED):
            run.transition(Status.STOPPED, data={"by": by})
            audit.record("stop", run, by=by)
        elif run.status == Status.RUNNING:
            if run.requested_action != RequestedAction.KILL:  # a force stop is not weakened
                request_action(run, RequestedAction.STOP, by)
        elif run.status != Status.STOPPED:
            raise not_possible(run, _("stopped"))
    return run


def force_stop_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Request the end of the run at once, without a checkpoint, for a trainer that does not respond.

    The run can be resumed from its newest checkpoint. If its worker is gone, another worker takes it over and stops it.
    A queued or paused run is stopped at once.
    """
    with locked(run):
        if run.status in (Status.QUEUED, Status.PAUSED):
            run.transition(Status.STOPPED, data={"by": by})
            audit.record("kill", run, by=by)
        elif run.status == Status.RUNNING:
            request_action(run, RequestedAction.KILL, by)
        elif run.status != Status.STOPPED:
            raise not_possible(run, _("stopped"))
    return run


def takes_requests(run: TrainingRun) -> bool:
    """Whether the run is running and its end has not been requested."""
    return run.status == Status.RUNNING and not run.requested_action


def checkpoint_now(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Request a checkpoint at the next step of a running run."""
    return _request_once(run, "checkpoint", _("saved"), by)


def evaluate_now(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Request a validation at the next step of a running run; it does not change the result of the training."""
    return _request_once(run, "evaluate", _("evaluated"), by)


def _request_once(run: TrainingRun, command: str, done: str, by: str) -> TrainingRun:
    """Send a request to a running run, unless the same one is pending."""
    with locked(run):
        if not takes_requests(run):
            raise not_possible(run, done)
        if not any(request["command"] == command for request in run.requests):
            send_request(run, command, by)
    return run


def send_request(run: TrainingRun, command: str, by: str, **data: object) -> None:
    """Store a request to the trainer of a running run; its supervisor passes it on. The caller holds the lock."""
    run.request_seq += 1
    run.requests = [*run.requests, {"id": run.request_seq, "command": command, **data}]
    # The keys of version 0.1, which stored events keep.
    record = {"order": command, "id": run.request_seq, "by": by, **data}
    event = RunEvent(type=RunEvent.Type.STATUS, time=timezone.now(), data=record, epoch=run.epoch, step=run.step)
    append_events(run, [event])
    run.save(update_fields=["requests", "request_seq", "event_seq", "updated_at"])
    audit.record("order", run, by=by, details={"order": command, **data})


def queue_run(run: TrainingRun, by: str) -> None:
    """Queue the run and wake a worker. Raises VerbError for a run that is archived or whose task is not installed."""
    require_task(run.task)
    if run.is_archived:
        raise VerbError(_("The run “%(name)s” is archived. Restore it first.") % {"name": run.name})
    run.transition(Status.QUEUED, data={"by": by}, **FRESH)
    transaction.on_commit(wakeups.wake_trainer, robust=True)


def request_action(run: TrainingRun, action: RequestedAction, by: str) -> None:
    """Store the requested action of a running run; its supervisor carries it out. The caller holds the lock."""
    if run.requested_action == action:
        return
    run.requested_action, run.requested_at = action, timezone.now()
    _append_status(run, {"wanted": action.value, "by": by}, ["requested_action", "requested_at"])
    audit.record(action.value, run, by=by)
    transaction.on_commit(wakeups.wake_control, robust=True)


def _append_status(run: TrainingRun, data: dict[str, object], changed: list[str]) -> None:
    """Store the event and the changed columns."""
    event = RunEvent(type=RunEvent.Type.STATUS, time=timezone.now(), data=data, epoch=run.epoch, step=run.step)
    append_events(run, [event])
    run.save(update_fields=[*changed, "event_seq", "updated_at"])
