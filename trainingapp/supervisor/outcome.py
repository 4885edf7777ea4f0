"""What the end of a trainer means for its run. Pure: from what is known to what is to be written."""

import errno
import signal
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from trainingapp.models import TrainingRun
from trainingapp.models.run import Status, Wanted

#: What every end writes: no process and no worker hold the run any more.
RELEASED: dict[str, Any] = {"worker": "", "pid": None, "phase": "", "eta_s": None}


@dataclass(frozen=True)
class Outcome:
    """The status to move to, and what is written with it."""

    to: str
    message: str = ""
    level: str = "info"
    fields: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """What is known of the end of an attempt."""

    #: The trainer's last status event, if it got to write one.
    final: dict[str, Any] | None = None
    #: Of the trainer; negative for a signal, None where nobody was there to see it.
    exit_code: int | None = None
    #: The last lines of the trainer's output.
    lines: list[str] = field(default_factory=list)
    is_worker_lost: bool = False
    is_shutting_down: bool = False


def judge(run: TrainingRun, end: End) -> Outcome:
    """What becomes of the running `run` now that its attempt has ended so."""
    state = end.final["state"] if end.final else ""
    if state == "completed":
        return Outcome(Status.COMPLETED, _("Completed."))
    if state == "failed":
        assert end.final is not None
        return _failed(end.final.get("error_class", "error"), end.final["message"], end.final.get("lines", []))
    if run.wanted == Wanted.STOP or state == "stopped":
        return Outcome(Status.STOPPED, _("Stopped."))
    if run.wanted == Wanted.PAUSE or state == "paused":
        return Outcome(Status.PAUSED, _("Paused."))
    if end.is_shutting_down:
        return Outcome(Status.QUEUED, _("The studio was stopped; the run goes on at the next start."))
    if end.exit_code == errno.ENOSPC:
        return _failed("disk_full", _("The disk is full. Free some space, then resume the run."), end.lines)
    return _lost(run, end)


def _failed(error_class: str, message: str, lines: list[str]) -> Outcome:
    error = {"error_class": error_class, "error_message": message, "error_lines": lines}
    return Outcome(Status.FAILED, message, "error", fields=error, data={"error_class": error_class})


def _lost(run: TrainingRun, end: End) -> Outcome:
    """Nobody asked for this end: go on from the newest checkpoint, but not for ever."""
    error_class = "lost_worker" if end.is_worker_lost else "lost_trainer"
    reason, recoveries = _reason(run, end), run.recoveries + 1
    if recoveries > settings.MAX_RECOVERIES:
        count = _("It went on by itself %(count)d times already.") % {"count": run.recoveries}
        return _failed(error_class, f"{reason} {count}", end.lines)
    plan = _("The run goes on from its newest checkpoint (%(count)d of %(max)d times).")
    message = f"{reason} {plan % {'count': recoveries, 'max': settings.MAX_RECOVERIES}}"
    data = {"error_class": error_class, "lines": end.lines}
    return Outcome(Status.QUEUED, message, "warning", fields={"recoveries": recoveries}, data=data)


def _reason(run: TrainingRun, end: End) -> str:
    if end.is_worker_lost:
        return _("The worker on %(host)s was lost.") % {"host": run.host}
    if end.final is not None:
        return _("The trainer was interrupted from outside.")
    if end.exit_code is None:
        return _("The trainer was lost.")
    if end.exit_code == -signal.SIGKILL:
        return _("The trainer was killed (SIGKILL), perhaps by the system because memory ran out.")
    if end.exit_code < 0:
        return _("The trainer was ended by the signal %(name)s.") % {"name": _signal_name(-end.exit_code)}
    return _("The trainer ended without a word (exit status %(code)d).") % {"code": end.exit_code}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
