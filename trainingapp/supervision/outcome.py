"""What the end of a trainer means for its run. Pure: from what is known to what is to be written."""

import errno
import signal
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.contract.config import parse_config, smaller_batch
from trainingapp.models import FailureRule, TrainingRun
from trainingapp.models.run import RequestedAction, Status
from trainingapp.supervision.failures import LINES_SHOWN, Diagnosis, Rule, diagnose
from trainingapp.supervision.watchdog import Cause

#: What every end writes: no process and no worker hold the run any more.
RELEASED: dict[str, Any] = {"worker": "", "pid": None, "phase": "", "eta_s": None}

#: In the event of a run that was put back because its worker ended.
SHUTDOWN = "shutdown"

#: Exit status of a trainer that could not write down how it failed -> what that is called.
UNWRITTEN = {errno.ENOSPC: "disk_full", errno.EROFS: "read_only"}

NO_ERROR: dict[str, Any] = {"error_class": "", "error_message": "", "error_lines": []}


@dataclass(frozen=True)
class Outcome:
    """The status to move to, and what is written with it."""

    to: str
    message: str = ""
    level: str = "info"
    fields: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    #: Seconds that a run which is queued again is left alone before.
    wait_s: float = 0.0


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
    #: Why its supervisor ended it, where it did.
    cause: Cause | None = None
    #: The system has just killed a process because memory ran out.
    is_memory_kill: bool = False
    #: Step of the newest checkpoint; None where there is none.
    saved_step: int | None = None
    #: That the trainer said it started with.
    batch_size: int | None = None
    #: What the rules say, where they have been asked.
    diagnosis: Diagnosis | None = None

    @property
    def error_class(self) -> str:
        """What the failure is called before any rule is asked."""
        if self.final is not None and self.final["state"] == "failed":
            return str(self.final.get("error_class", "error"))
        if self.exit_code in UNWRITTEN:
            return UNWRITTEN[self.exit_code]
        if self.cause == "hang":
            return "hang"
        if self.is_memory_kill and self.exit_code == -signal.SIGKILL:
            return "out_of_memory"
        return "lost_worker" if self.is_worker_lost else "lost_trainer"

    @property
    def evidence(self) -> list[str]:
        """Every line in which the reason may be found, the trainer's own account last."""
        if self.final is not None and self.final["state"] == "failed":
            return [*self.lines, *self.final.get("lines", []), self.final["message"]]
        return self.lines

    @property
    def shown_lines(self) -> list[str]:
        """The lines to show where no rule names better ones."""
        if self.final is not None and self.final["state"] == "failed":
            return list(self.final.get("lines", []))
        return self.lines[-LINES_SHOWN:]


def judge(run: TrainingRun, end: End) -> Outcome:
    """What becomes of the running `run` now that its attempt has ended so."""
    state = end.final["state"] if end.final else ""
    if state == "completed":
        return Outcome(Status.COMPLETED, _("Completed."), fields=NO_ERROR)
    if run.requested_action == RequestedAction.KILL:
        message = _("Stopped by force.") + " " + _made_again(run, end)
        return Outcome(Status.STOPPED, message, "warning", fields=NO_ERROR)
    if end.cause == "hard_limit":
        return _out_of_time(run, end)
    if state == "failed":
        return _failed(run, end)
    if run.requested_action == RequestedAction.STOP:
        return _as_wished(Status.STOPPED, _("Stopped."), run, end)
    if run.requested_action == RequestedAction.PAUSE or state == "paused":
        return _as_wished(Status.PAUSED, _("Paused."), run, end)
    if end.cause in ("soft_limit", "unanswered") or _is_over_soft_limit(run, state):
        return _out_of_time(run, end)
    if state == "stopped":
        return Outcome(Status.STOPPED, _("Stopped."), fields=NO_ERROR)
    if end.is_shutting_down:
        return _put_off()
    return _failed(run, end)


def _put_off() -> Outcome:
    """The worker ends, not the run."""
    message = _("The studio was stopped; the run goes on at the next start.")
    return Outcome(Status.QUEUED, message, data={"cause": SHUTDOWN})


def _as_wished(to: str, message: str, run: TrainingRun, end: End) -> Outcome:
    if end.cause != "unanswered":
        return Outcome(to, message, fields=NO_ERROR)
    text = _("The trainer did not answer within %(seconds)d s and was ended.") % {"seconds": settings.STOP_GRACE_S}
    return Outcome(to, f"{message} {text} {_made_again(run, end)}", "warning", fields=NO_ERROR)


def _is_over_soft_limit(run: TrainingRun, state: str) -> bool:
    return state == "stopped" and bool(run.soft_limit_s) and run.spent_s >= run.soft_limit_s


def _out_of_time(run: TrainingRun, end: End) -> Outcome:
    """A limit is no failure: the run is stopped, says why, and can be resumed with the same time before it again."""
    if end.cause == "hard_limit":
        text = _("The hard time limit of %(hours)g h was reached: the trainer was ended at once.")
        message = f"{text % {'hours': run.hard_limit_s / 3600}} {_made_again(run, end)}"
    else:
        text = _("The time limit of %(hours)g h was reached: the run saved a checkpoint and stopped.")
        message = text % {"hours": run.soft_limit_s / 3600}
        if end.cause == "unanswered":
            message = f"{message} {_made_again(run, end)}"
    message += " " + _("It can be resumed.")
    fields = {"error_class": "time_limit", "error_message": message, "error_lines": []}
    return Outcome(Status.STOPPED, message, "warning", fields=fields, data={"error_class": "time_limit"})


def _made_again(run: TrainingRun, end: End) -> str:
    """What a run that was ended without saving has lost."""
    if end.saved_step is None:
        return _("There is no checkpoint: resumed, it begins anew.")
    lost = max(0, run.step - end.saved_step)
    text = ngettext(
        "Resumed, it goes on from its checkpoint of step %(step)d; %(count)d step is made again.",
        "Resumed, it goes on from its checkpoint of step %(step)d; %(count)d steps are made again.",
        lost,
    )
    return text % {"step": end.saved_step, "count": lost}


def _failed(run: TrainingRun, end: End) -> Outcome:
    """A failure, or an end that nobody asked for: tried again where that can help, but not for ever."""
    found = end.diagnosis or diagnose(end.error_class, end.evidence, end.shown_lines)
    reason = _reason(run, end, found.rule)
    if found.rule.action == FailureRule.Action.FAIL:
        return _given_up(found, reason)
    if run.requested_action == RequestedAction.STOP:
        return Outcome(Status.STOPPED, _("Stopped.") + " " + reason, "warning", fields=NO_ERROR)
    if run.requested_action == RequestedAction.PAUSE:
        return Outcome(Status.PAUSED, _("Paused.") + " " + reason, "warning", fields=NO_ERROR)
    if end.is_shutting_down and end.final is None:
        return _put_off()
    return _tried_again(run, found, reason, end.batch_size)


def _given_up(found: Diagnosis, message: str) -> Outcome:
    error_class = found.rule.error_class
    error = {"error_class": error_class, "error_message": message, "error_lines": found.lines}
    return Outcome(Status.FAILED, message, "error", fields=error, data={"error_class": error_class})


def _tried_again(run: TrainingRun, found: Diagnosis, reason: str, batch_size: int | None) -> Outcome:
    rule, error_class = found.rule, found.rule.error_class
    of_class = run.retries.get(error_class, 0)
    used, allowed = run.recoveries, run.allowed_recoveries
    if rule.max_retries is not None:
        used, allowed = of_class, rule.max_retries if allowed else 0
    if used >= allowed:
        return _given_up(found, f"{reason} {_tried_enough(used)}".strip())
    changes: dict[str, Any] = {}
    plan = _("The run goes on from its newest checkpoint (%(count)d of %(max)d times).")
    plan = plan % {"count": used + 1, "max": allowed}
    if rule.action == FailureRule.Action.HALVE_BATCH:
        smaller = _with_smaller_batch(run, batch_size)
        if smaller is None:
            return _given_up(found, reason + " " + _("The batch cannot be made any smaller."))
        changes, said = smaller
        plan = f"{said} {plan}"
    wait_s = rule.wait_before_retry_s(of_class if rule.max_retries is not None else used)
    message = f"{reason} {plan}"
    error = {"error_class": error_class, "error_message": message, "error_lines": found.lines}
    counts = {"recoveries": run.recoveries + 1, "retries": {**run.retries, error_class: of_class + 1}}
    data = {"error_class": error_class, "lines": found.lines, "wait_s": wait_s}
    return Outcome(Status.QUEUED, message, "warning", {**counts, **error, **changes}, data, wait_s)


def _tried_enough(used: int) -> str:
    if not used:
        return ""
    text = ngettext(
        "It went on by itself %(count)d time already.", "It went on by itself %(count)d times already.", used
    )
    return text % {"count": used}


def _with_smaller_batch(run: TrainingRun, batch_size: int | None) -> tuple[dict[str, Any], str] | None:
    """What to write so that the run goes on with half the batch, and the sentence that says so; None where it cannot.

    `batch_size` is what the trainer found itself, where it was to.
    """
    config = parse_config(run.config)
    had = batch_size or config.batch_size
    smaller = smaller_batch(config, batch_size)
    if smaller is None:
        return None
    said = _("batch_size %(old)d became %(new)d and accumulation_steps %(steps)d, because memory ran out.")
    said = said % {"old": had, "new": smaller.batch_size, "steps": smaller.accumulation_steps}
    return {"config": smaller.model_dump(mode="json"), "corrections": [*run.corrections, said]}, said


def _reason(run: TrainingRun, end: End, rule: Rule) -> str:
    if end.final is not None and end.final["state"] == "failed":
        return str(end.final["message"])
    if end.exit_code in UNWRITTEN:
        return words_of_disk(end.exit_code)
    if end.cause == "hang":
        text = _("The trainer said nothing for more than %(minutes)g min and was ended: it hung.")
        return text % {"minutes": settings.HANG_MINUTES}
    if end.is_worker_lost:
        return _("The worker on %(host)s was lost.") % {"host": run.host}
    if end.final is not None:
        return _("The trainer was interrupted from outside.")
    return _words_of_exit(end, rule)


def words_of_disk(code: int) -> str:
    """What a refused write of this errno means for the run."""
    if code == errno.ENOSPC:
        return _("The disk is full. Free some space, then resume the run.")
    return _("Nothing can be written to the run's folder: its file system is read-only.")


def _words_of_exit(end: End, rule: Rule) -> str:
    if end.exit_code is None:
        return _("The trainer was lost.")
    if rule.error_class == "out_of_memory":
        return _("The trainer ended because memory ran out (exit status %(code)d).") % {"code": end.exit_code}
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
