"""One trainer process: start it, store what it says, tell it what is wanted, judge its end."""

import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.contract.events import EVENTS_FILE
from trainingapp.models import TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.run import RequestedAction, Status
from trainingapp.supervision.event_store import Event, EventStore, LostRunError
from trainingapp.supervision.failures import LINES_SEARCHED, diagnose, own_rules
from trainingapp.supervision.log_rate_limit import trim_log
from trainingapp.supervision.memory_kills import MemoryKills
from trainingapp.supervision.outcome import RELEASED, UNWRITTEN, End, Outcome, judge, words_of_disk
from trainingapp.supervision.starting_points import starting_points
from trainingapp.supervision.state import holding, shutting_down
from trainingapp.supervision.trainers import LOG_FILE, Trainer, end_leftover, log_tail, start_trainer, warm_spare
from trainingapp.supervision.watchdog import Cause, Watchdog
from trainingapp.supervision.words import dropped_orders

logger = logging.getLogger(__name__)

POLL_S = 0.15
BEAT_S = 1.5
#: Seconds that a trainer gets to save and leave when the worker ends.
LEAVE_S = 30.0
#: Seconds that a worker which ends goes on trying to reach the database.
LAST_TRIES_S = 10.0

Result = TypeVar("Result")


def supervise(run: TrainingRun) -> None:
    """Train one claimed run until its trainer has left, and move the run to what comes then."""
    with holding(run.pk):
        try:
            _Supervisor(run).work()
        except LostRunError as lost:
            logger.warning("%s Its trainer here was ended.", lost)


class _Supervisor:
    def __init__(self, run: TrainingRun) -> None:
        self.store = EventStore(run)
        self.folder = run.folder
        self.trainer: Trainer | None = None
        self.log_start = 0
        self.cause: Cause | None = None
        self._watchdog = Watchdog()
        self._memory_kills = MemoryKills()
        self._sent = RequestedAction.NOTHING.value
        self._orders_sent: set[int] = set()
        self._beat_at = time.monotonic()
        self._leave_by: float | None = None
        self._first_step: int | None = None

    def work(self) -> None:
        try:
            self._prepare()
            self.trainer = start_trainer(self.folder)
        except OSError as error:
            settle(self.store, _start_failed(error))
            return
        try:
            self._note_process(self.trainer.pid)
            exit_code = self._follow(self.trainer)
        finally:
            self.trainer.kill()
        end = End(
            self.store.final,
            exit_code,
            log_tail(self.folder, self.log_start, LINES_SEARCHED),
            is_shutting_down=shutting_down.is_set(),
            cause=self.cause,
            is_memory_kill=self._memory_kills.has_one(),
        )
        settle(self.store, end)
        warm_spare()

    def _prepare(self) -> None:
        """The folder with config.json, free of what does not belong to this attempt."""
        run = self.store.run
        if run.attempt == 1 and run.event_offset == 0 and (self.folder / EVENTS_FILE).exists():
            # Left by another database that counted its runs from one as well.
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.{time.time_ns()}.orphan"))
        self.folder.mkdir(parents=True, exist_ok=True)
        end_leftover(self.folder, self._beat)
        retried(self.store.pull_all)
        _write_config(run)
        log = self.folder / LOG_FILE
        self.log_start = log.stat().st_size if log.exists() else 0

    def _note_process(self, pid: int) -> None:
        def write() -> None:
            with transaction.atomic():
                row = self.store.locked()
                row.pid = pid
                row.save(update_fields=["pid", "updated_at"])

        retried(write)

    def _follow(self, trainer: Trainer) -> int:
        """Until the trainer has ended and all that it wrote is stored; returns its exit status."""
        while True:
            exit_code = trainer.poll()  # first, so that what it wrote before its end is read below
            self._leave_in_time(trainer)
            events = retried(self.store.pull) if self.store.has_news() else self._beat()
            self._warm_after_first_step(events)
            if exit_code is None:
                self._memory_kills.look()
                self._obey(trainer)
                self._guard(trainer, events)
            if exit_code is not None and not events:
                return exit_code
            if not events:
                trainer.wait(POLL_S)

    def _beat(self) -> list[Event]:
        """A heartbeat when one is due, else only a look at what is wanted."""
        if time.monotonic() < self._beat_at:
            retried(self.store.look)
            return []
        self._beat_at = time.monotonic() + BEAT_S
        return retried(self.store.pull)

    def _obey(self, trainer: Trainer) -> None:
        """Tell the trainer once what is wanted, and each order once."""
        for order in self.store.run.requests:
            if order["id"] not in self._orders_sent:
                self._orders_sent.add(order["id"])
                trainer.send(order)
        wanted = self.store.run.requested_action
        if wanted in (RequestedAction.PAUSE, RequestedAction.STOP) and wanted != self._sent:
            trainer.send({"command": wanted})
            self._sent = wanted

    def _guard(self, trainer: Trainer, events: list[Event]) -> None:
        """End a trainer that hangs, does not answer or has had its time, and keep its log from growing without end."""
        with contextlib.suppress(OSError):  # on a disk that takes nothing now the log does not grow either
            if trim_log(self.folder / LOG_FILE, settings.TRAINER_LOG_BYTES):
                self.log_start = 0
        if events or self.store.has_news():
            self._watchdog.heard()
        cause = self._watchdog.verdict(self.store.run)
        if cause is None:
            return
        logger.warning("The trainer of run %s is ended: %s.", self.store.run.pk, cause)
        self.cause = self.cause if self.cause == "soft_limit" and cause == "unanswered" else cause
        if cause == "soft_limit":
            trainer.send({"command": RequestedAction.STOP.value})
            return
        if cause in ("hang", "unanswered"):
            trainer.tell_where()
        trainer.kill()

    def _leave_in_time(self, trainer: Trainer) -> None:
        """When the worker ends: have the trainer save and leave, and end it when it does not."""
        if not shutting_down.is_set():
            return
        if self._leave_by is None:
            self._leave_by = time.monotonic() + LEAVE_S
            trainer.leave()
        elif time.monotonic() > self._leave_by:
            logger.error("The trainer of run %s did not leave within %d s.", self.store.run.pk, LEAVE_S)
            trainer.kill()

    def _warm_after_first_step(self, events: list[Event]) -> None:
        """A new spare only when this run trains: importing torch would slow its start down."""
        for event in events:
            step = event.get("step", 0)
            if event["type"] == "status" and event.get("state") == "started":
                self._first_step = step
            elif self._first_step is not None and event["type"] in ("progress", "metrics") and step > self._first_step:
                self._first_step = None
                warm_spare()


def settle(store: EventStore, end: End) -> Outcome:
    """Move the run to what its end means. Raises LostRunError when it is in other hands."""
    known = retried(lambda: _with_what_is_stored(store, end))  # before the lock: patterns take their time

    def write() -> Outcome:
        with transaction.atomic():
            row = store.locked()  # judged under the lock: a wish that came last counts
            outcome = judge(row, known)
            dropped = dropped_orders(row) if outcome.to != Status.QUEUED else {}
            not_before = timezone.now() + timedelta(seconds=outcome.wait_s) if outcome.wait_s else None
            row.transition(
                outcome.to,
                message=outcome.message,
                level=outcome.level,
                data=outcome.data,
                **{**RELEASED, **dropped, "not_before": not_before, **outcome.fields},
            )
        logger.info("Run %s (attempt %s) is %s. %s", row.pk, row.attempt, outcome.to, outcome.message)
        return outcome

    outcome = retried(write)
    ring(store.run.pk)
    return outcome


def _with_what_is_stored(store: EventStore, end: End) -> End:
    """The end with what the rules say of it, and the checkpoint that is left."""
    saved = store.run.checkpoints.order_by("-step").values_list("step", flat=True).first()
    state = end.final["state"] if end.final else ""
    is_failure = state in ("", "failed", "interrupted")
    diagnosis = diagnose(end.error_class, end.evidence, end.shown_lines, own_rules()) if is_failure else None
    return replace(end, saved_step=saved, batch_size=store.batch_size, diagnosis=diagnosis)


def retried(write: Callable[[], Result]) -> Result:
    """Call `write` until the database takes it: the trainer goes on meanwhile, and nothing is lost in its file."""
    delay_s, give_up_at = 0.1, None
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if shutting_down.is_set():
                give_up_at = give_up_at or time.monotonic() + LAST_TRIES_S
                if time.monotonic() > give_up_at:
                    raise
            logger.warning("The database does not answer, trying again: %s", error)
            connection.close_if_unusable_or_obsolete()
            time.sleep(delay_s)
            delay_s = min(2.0, delay_s * 2)


def _write_config(run: TrainingRun) -> None:
    record: dict[str, Any] = {
        "config": run.config,
        "dataset_dir": str(run.dataset.folder),
        "attempt": run.attempt,
        "weights_cache_dir": str(Path(settings.WEIGHTS_CACHE_DIR)),
        **starting_points(run),
    }
    if hold := run.holds.filter(attempt=run.attempt, released_at=None).select_related("device").first():
        record["device"] = hold.device.torch_name
    temporary = run.folder / "config.json.tmp"
    temporary.write_text(json.dumps(record, indent=2))
    temporary.replace(run.folder / "config.json")


def _start_failed(error: OSError) -> End:
    code = error.errno if error.errno in UNWRITTEN else None
    final = {
        "state": "failed",
        "error_class": UNWRITTEN[code] if code else "error",
        "message": words_of_disk(code) if code else _("The trainer could not start."),
        "lines": [str(error)],
    }
    return End(final)
