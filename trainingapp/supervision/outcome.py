"""What the end of a trainer means for its run, as pure functions of what is known of that end."""

import errno
import signal
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from trainingapp.contract.config import parse_config, smaller_batch
from trainingapp.contract.events import Ended, Failed, event_message
from trainingapp.contract.messages import VERBATIM, Message, sentences
from trainingapp.contract.messages import runs as messages
from trainingapp.contract.messages.ranks import WORKER_LEAVES
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import FailureRule, TrainingRun
from trainingapp.models.run import NO_ERROR, RequestedAction, Status
from trainingapp.supervision.failures import LINES_SHOWN, Diagnosis, Rule, diagnose
from trainingapp.supervision.trainers import ProcessRecord
from trainingapp.supervision.watchdog import Cause

#: Written at every end: no process and no worker hold the run.
RELEASED: dict[str, Any] = {"worker": "", "pid": None, "phase": "", "saving": "", "eta_s": None}

#: `cause` in the event of a run that was queued again because its worker was stopped, or was there for a while only.
SHUTDOWN, LEFT = "shutdown", "left"

#: The exit status of a trainer that could not write its failed event -> class of the failure.
UNWRITTEN = {errno.ENOSPC: "disk_full", errno.EROFS: "read_only"}


@dataclass(frozen=True)
class Outcome:
    """The status to move to, and what is written with it."""

    to: str
    message: Message
    level: str = "info"
    #: Columns of the run, and further data of the event.
    fields: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    #: Seconds that a run which is queued again waits before it may be claimed.
    wait_s: float = 0.0


@dataclass(frozen=True)
class End:
    """What is known of the end of an attempt."""

    #: The last event of the trainer; None where it ended before it could write one.
    final: Ended | Failed | None = None
    #: The exit status of the trainer: negative for a signal, None where its supervisor was gone.
    exit_code: int | None = None
    #: The last lines of the trainer's output.
    lines: list[str] = field(default_factory=list)
    is_worker_lost: bool = False
    is_shutting_down: bool = False
    #: Whether its worker stays for a while only, so that its end is not that of the studio.
    is_leaving: bool = False
    #: Why its supervisor terminated it, where it did.
    cause: Cause | None = None
    #: Whether the system has just killed a process because memory ran out.
    is_memory_kill: bool = False
    #: Which of its ranks on other hosts were lost, where some were.
    lost_share: Message | None = None
    #: The host of ranks whose worker was stopped, so that the run was to save.
    left_host: str = ""
    #: Its trainer, where it was killed and does not end: it hangs in a driver, or waits for a lost disk.
    stuck_process: ProcessRecord | None = None
    #: Step of the newest checkpoint; None where there is none.
    saved_step: int | None = None
    #: The batch size that the trainer reported when it started.
    batch_size: int | None = None
    #: The failure rule that applies, where the rules have been evaluated.
    diagnosis: Diagnosis | None = None

    @property
    def error_class(self) -> str:
        """The class of the failure before any rule is evaluated."""
        if isinstance(self.final, Failed):
            is_out_of_memory = self.is_memory_kill and self.final.error_class == "lost_rank"
            return "out_of_memory" if is_out_of_memory else self.final.error_class
        if self.exit_code in UNWRITTEN:
            return UNWRITTEN[self.exit_code]
        if self.stuck_process:
            return "stuck_trainer"
        if self.cause == "hang":
            return "hang"
        if self.lost_share:
            return "lost_rank"
        if self.is_memory_kill and self.exit_code == -signal.SIGKILL:
            return "out_of_memory"
        return "lost_worker" if self.is_worker_lost else "lost_trainer"

    @property
    def evidence(self) -> list[str]:
        """Every line in which the reason may be found; the English text of the trainer's own message is the last."""
        if isinstance(self.final, Failed):
            return [*self.lines, *self.final.lines, self.final.message]
        return self.lines

    @property
    def shown_lines(self) -> list[str]:
        """The lines that are shown where no rule finds better ones."""
        return list(self.final.lines) if isinstance(self.final, Failed) else self.lines[-LINES_SHOWN:]


def judge(run: TrainingRun, end: End) -> Outcome:
    """What becomes of the running `run` now that its attempt has ended.

    The order matters: work that is complete stays complete whatever was requested, and a request that came before a
    failure counts only where a retry would have followed.
    """
    state = end.final.state if end.final else ""
    action = run.requested_action
    if state == "completed":
        return Outcome(Status.COMPLETED, messages.COMPLETED(), fields=NO_ERROR)
    if action == RequestedAction.KILL:
        message = sentences(messages.FORCED_STOP(), _lost_steps(run, end))
        return Outcome(Status.STOPPED, message, "warning", fields=NO_ERROR)
    if end.cause == "hard_limit":
        return _out_of_time(run, end)
    if state == "failed":
        return _failed(run, end)
    if action == RequestedAction.STOP:
        return _as_requested(Status.STOPPED, messages.STOPPED(), run, end)
    if action == RequestedAction.PAUSE or state == "paused":
        return _as_requested(Status.PAUSED, messages.PAUSED(), run, end)
    # Where the worker that requested the stop for the time limit is lost, the time spent shows that this was the cause.
    is_over_limit = state == "stopped" and bool(run.soft_limit_s) and run.spent_s >= run.soft_limit_s
    if end.cause in ("soft_limit", "unanswered") or is_over_limit:
        return _out_of_time(run, end)
    if state == "stopped":
        return Outcome(Status.STOPPED, messages.STOPPED(), fields=NO_ERROR)
    if end.left_host:
        return Outcome(Status.QUEUED, WORKER_LEAVES(host=end.left_host))
    return _given_back(run, end) if end.is_shutting_down else _failed(run, end)


def _given_back(run: TrainingRun, end: End) -> Outcome:
    """Queued again without a wait and without counting as a restart: the worker ends, not the run."""
    if end.is_leaving:
        return Outcome(Status.QUEUED, messages.WORKER_LEFT(host=run.host), data={"cause": LEFT})
    return Outcome(Status.QUEUED, messages.STUDIO_STOPPED(), data={"cause": SHUTDOWN})


def _as_requested(to: str, message: Message, run: TrainingRun, end: End) -> Outcome:
    if end.cause != "unanswered":
        return Outcome(to, message, fields=NO_ERROR)
    no_response = messages.NO_RESPONSE(seconds=settings.STOP_GRACE_S)
    return Outcome(to, sentences(message, no_response, _lost_steps(run, end)), "warning", fields=NO_ERROR)


def _out_of_time(run: TrainingRun, end: End) -> Outcome:
    """A time limit is not a failure: the run is stopped and can be resumed, with the full time again."""
    if end.cause == "hard_limit":
        reached = messages.HARD_LIMIT_REACHED(hours=run.hard_limit_s / 3600)
    else:
        reached = messages.SOFT_LIMIT_REACHED(hours=run.soft_limit_s / 3600)
    lost = _lost_steps(run, end) if end.cause in ("hard_limit", "unanswered") else None
    message = sentences(reached, lost, messages.CAN_BE_RESUMED())
    fields = _error_fields("time_limit", message, [])
    return Outcome(Status.STOPPED, message, "warning", fields=fields, data={"error_class": "time_limit"})


def _lost_steps(run: TrainingRun, end: End) -> Message:
    """What a run that ended without saving has lost."""
    if end.saved_step is None:
        return messages.NO_CHECKPOINT()
    return messages.STEPS_REPEATED(step=end.saved_step, count=max(0, run.step - end.saved_step))


def _failed(run: TrainingRun, end: End) -> Outcome:
    """A failure, or an end without a request: retried where that can help, a limited number of times."""
    found = end.diagnosis or diagnose(end.error_class, end.evidence, end.shown_lines)
    reason = _reason(run, end, found.rule)
    if found.rule.action == FailureRule.Action.FAIL:
        return _given_up(found, reason)
    if run.requested_action == RequestedAction.STOP:
        return Outcome(Status.STOPPED, sentences(messages.STOPPED(), reason), "warning", fields=NO_ERROR)
    if run.requested_action == RequestedAction.PAUSE:
        return Outcome(Status.PAUSED, sentences(messages.PAUSED(), reason), "warning", fields=NO_ERROR)
    if end.is_shutting_down and end.final is None:
        return _given_back(run, end)
    return _retried(run, found, reason, end.batch_size)


def _error_fields(error_class: str, message: Message, lines: list[str]) -> dict[str, Any]:
    """The columns of a failure: the English text for rules and logs, the message data for readers."""
    return {
        "error_class": error_class,
        "error_message": str(message),
        "error_message_data": message.as_data(),
        "error_lines": lines,
    }


def _given_up(found: Diagnosis, message: Message) -> Outcome:
    error_class = found.rule.error_class
    fields = _error_fields(error_class, message, found.lines)
    return Outcome(Status.FAILED, message, "error", fields=fields, data={"error_class": error_class})


def _retried(run: TrainingRun, found: Diagnosis, reason: Message, batch_size: int | None) -> Outcome:
    """Queued again with what the rule changes; given up when the restarts are used up or nothing can be changed."""
    rule, error_class = found.rule, found.rule.error_class
    of_class = run.retries.get(error_class, 0)
    used, allowed = run.recoveries, run.allowed_recoveries
    if rule.max_retries is not None:
        used, allowed = of_class, rule.max_retries if allowed else 0
    if used >= allowed:
        return _given_up(found, sentences(reason, messages.RESTARTS_USED(count=used) if used else None))
    changes: dict[str, Any] = {}
    halved: Message | None = None
    # Without its task, which was uninstalled meanwhile, the configuration cannot be read: the next trainer reports it.
    if rule.action == FailureRule.Action.HALVE_BATCH and run.task in TASKS:
        config = parse_config(run.config)
        smaller = smaller_batch(config, batch_size)
        if smaller is None:
            return _given_up(found, sentences(reason, messages.BATCH_AT_MINIMUM()))
        halved = messages.BATCH_HALVED(
            old=batch_size or config.batch_size, new=smaller.batch_size, steps=smaller.accumulation_steps
        )
        correction = {**halved.as_data(), "message": str(halved)}
        changes = {"config": smaller.model_dump(mode="json"), "corrections": [*run.corrections, correction]}
    message = sentences(reason, halved, messages.RESTART_PLANNED(number=used + 1, max=allowed))
    wait_s = rule.wait_before_retry_s(of_class if rule.max_retries is not None else used)
    counts = {"recoveries": run.recoveries + 1, "retries": {**run.retries, error_class: of_class + 1}}
    fields = {**counts, **_error_fields(error_class, message, found.lines), **changes}
    data = {"error_class": error_class, "lines": found.lines, "wait_s": wait_s}
    return Outcome(Status.QUEUED, message, "warning", fields, data, wait_s)


def _reason(run: TrainingRun, end: End, rule: Rule) -> Message:
    """Why the attempt failed: by the trainer's own message, else by how the process ended.

    Of ranks on other hosts, their workers know more than the trainer, which sees that a connection has ended.
    """
    if end.lost_share and end.error_class == "lost_rank":
        return end.lost_share
    if isinstance(end.final, Failed):
        return event_message(end.final) or VERBATIM(text=end.final.message)
    if end.exit_code in UNWRITTEN:
        return disk_message(end.exit_code)
    if end.stuck_process:
        return messages.TRAINER_STUCK(device=run.device)
    if end.cause == "hang":
        return messages.HANG(minutes=settings.HANG_MINUTES)
    if end.is_worker_lost:
        return messages.WORKER_LOST(host=run.host)
    if end.final is not None:
        return messages.INTERRUPTED()
    if end.exit_code is None:
        return messages.TRAINER_LOST()
    if rule.error_class == "out_of_memory":
        return messages.OUT_OF_MEMORY(status=end.exit_code)
    if end.exit_code == -signal.SIGKILL:
        return messages.KILLED()
    if end.exit_code < 0:
        names = {number.value: number.name for number in signal.Signals}  # without the real-time signals
        return messages.SIGNALLED(signal=names.get(-end.exit_code, str(-end.exit_code)))
    return messages.EXITED(status=end.exit_code)


def disk_message(code: int) -> Message:
    """What a refused write with this errno means for the run."""
    return messages.DISK_FULL() if code == errno.ENOSPC else messages.READ_ONLY()
