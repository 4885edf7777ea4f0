"""Supervise one trainer process: start it, store its events, send it requests and determine the outcome of its end."""

import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from trainingapp.contract.commands import Pause, Stop
from trainingapp.contract.events import (
    EVENTS_FILE,
    AnyEvent,
    Ended,
    Failed,
    Metrics,
    Progress,
    Started,
    message_fields,
    read_events,
)
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.ranks import HOSTS_UNREACHABLE
from trainingapp.contract.messages.runs import DATASET_UNAVAILABLE, START_FAILED
from trainingapp.models import TrainingRun
from trainingapp.models.bell import ring
from trainingapp.models.device import rank_devices
from trainingapp.models.run import RequestedAction, Status
from trainingapp.object_store.errors import StoreError
from trainingapp.scheduling.quarantine import note_end
from trainingapp.supervision.dataset_copies import fetched_copy, is_here, make_room, note_use
from trainingapp.supervision.event_store import EventStore, LostRunError, is_sign_of_life
from trainingapp.supervision.failures import LINES_SEARCHED, diagnose, own_rules
from trainingapp.supervision.identity import cluster_address
from trainingapp.supervision.log_rate_limit import trim_log
from trainingapp.supervision.memory_kills import MemoryKills, memory_kill_counter
from trainingapp.supervision.other_hosts import OtherHosts, is_cut_off, other_hosts
from trainingapp.supervision.outcome import RELEASED, UNWRITTEN, End, Outcome, disk_message, judge
from trainingapp.supervision.requests import drop_requests
from trainingapp.supervision.starting_points import starting_points
from trainingapp.supervision.state import holding, is_stopped_with, short_stay, shutting_down
from trainingapp.supervision.trainers import (
    LOG_FILE,
    Trainer,
    abandon,
    end_leftover,
    log_tail,
    start_trainer,
    warm_spare,
)
from trainingapp.supervision.watchdog import Cause, Watchdog

logger = logging.getLogger(__name__)

POLL_S = 0.15
BEAT_S = 1.5
#: Seconds for which a supervisor waits for a trainer that it has killed, and those while the worker is being stopped.
UNKILLABLE_S, UNKILLABLE_AT_EXIT_S = 30.0, 5.0
#: Seconds for which a worker that is being stopped still tries to reach the database.
DATABASE_RETRY_S = 10.0

Result = TypeVar("Result")


def supervise(run: TrainingRun) -> None:
    """Train one claimed run until its trainer has ended, and move the run to the status that follows."""
    with holding(run.pk):
        try:
            _Supervisor(run).work()
        except LostRunError as lost:
            logger.warning("%s Its trainer on this host was terminated.", lost)


class _FetchEnded(Exception):
    """The download of a dataset ends, since the run or the worker is to end."""


class _Supervisor:
    def __init__(self, run: TrainingRun) -> None:
        self.store = EventStore(run)
        self.folder = run.folder
        self.trainer: Trainer | None = None
        self.log_start = 0
        self.cause: Cause | None = None
        self._watchdog = Watchdog()
        self._memory_kills = MemoryKills(lambda: memory_kill_counter(self.trainer.pid) if self.trainer else None)
        self._sent_action = RequestedAction.NOTHING.value
        self._sent_requests: set[int] = set()
        self._next_beat = self._reached_at = time.monotonic()
        self._exit_by: float | None = None
        self._killed_at: float | None = None
        self._others = other_hosts(run)
        self._lost_share: Message | None = None
        self._left_host = ""
        self._first_step: int | None = None

    def work(self) -> None:
        try:
            self._prepare()
            dataset_dir = self._dataset_dir()
            if dataset_dir is None:
                return
            retried(self.store.look)  # a worker that was stopped meanwhile must not replace what a later attempt reads
            write_config(self.store.run, dataset_dir)
            self.trainer = start_trainer(self.folder)
        except StoreError as error:
            message = DATASET_UNAVAILABLE(reason=error.message)
            failed = Failed(error_class="dataset_unavailable", lines=[str(error)], **message_fields(message))
            settle(self.store, End(failed))
            return
        except OSError as error:
            code = error.errno if error.errno in UNWRITTEN else None
            error_class, message = (UNWRITTEN[code], disk_message(code)) if code else ("error", START_FAILED())
            failed = Failed(error_class=error_class, lines=[str(error)], **message_fields(message))
            settle(self.store, End(failed))
            return
        try:
            self._note_process(self.trainer.pid)
            exit_code = self._follow(self.trainer)
        finally:
            self.trainer.kill()
        stuck = None
        if exit_code is None:
            logger.error("The trainer of run %s was killed and does not end; it was left behind.", self.store.run.pk)
            stuck = abandon(self.folder)
        if (others := self._others) is not None:
            lost_share = retried(lambda: others.end(exit_code, self._beat))
            self._lost_share = self._lost_share or lost_share
        end = End(
            self.store.final,
            exit_code,
            log_tail(self.folder, self.log_start, LINES_SEARCHED),
            is_shutting_down=self._is_worker_stopped(exit_code),
            is_leaving=short_stay.is_set(),
            cause=self.cause,
            is_memory_kill=self._memory_kills.has_one(),
            lost_share=self._lost_share,
            left_host=self._left_host,
            stuck_process=stuck,
        )
        settle(self.store, end)
        warm_spare()

    def _is_worker_stopped(self, exit_code: int | None) -> bool:
        is_interrupted = self.store.final is not None and self.store.final.state == "interrupted"
        return is_stopped_with(exit_code, is_interrupted=is_interrupted)

    def _prepare(self) -> None:
        """Make the run's folder, without trainers, events or folders of others."""
        run = self.store.run
        if run.attempt == 1 and run.event_offset == 0 and (self.folder / EVENTS_FILE).exists():
            # A new database numbers its runs from 1 again: this folder belongs to a run of an earlier database.
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.{time.time_ns()}.orphan"))
        self.folder.mkdir(parents=True, exist_ok=True)
        end_leftover(self.folder, self._beat)
        retried(self.store.pull_all)
        log = self.folder / LOG_FILE
        self.log_start = log.stat().st_size if log.exists() else 0

    def _dataset_dir(self) -> Path | None:
        """The folder of the dataset on this host, fetched from the object store where it is not here.

        None: the run was to pause or stop meanwhile, or the worker, and was moved to the status that follows.
        """
        dataset = retried(lambda: self.store.run.dataset)
        if is_here(dataset):
            return dataset.folder
        retried(lambda: self.store.beat("fetching", {}))
        self._next_beat = time.monotonic() + BEAT_S
        try:
            folder = fetched_copy(dataset, self._note_fetched, lambda needed: retried(lambda: make_room(needed)))
        except _FetchEnded:
            self._settle_unstarted()
            return None
        retried(lambda: note_use(dataset))
        retried(lambda: self.store.beat("starting", {}))
        self._watchdog = Watchdog()  # its times begin with the trainer
        return folder

    def _note_fetched(self, done: int, total: int, per_s: float) -> None:
        """Store the progress of a download with the heartbeat. Raises _FetchEnded where it is to end, LostRunError."""
        if shutting_down.is_set():
            raise _FetchEnded
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + BEAT_S
        progress = {"done": done, "total": total, "per_s": round(per_s)}
        retried(lambda: self.store.beat("fetching", progress))
        if self.store.run.requested_action:
            raise _FetchEnded

    def _settle_unstarted(self) -> None:
        """Move a run whose trainer was not started to the status that was requested, or back into the queue."""
        is_stopped = shutting_down.is_set()
        state: Literal["paused", "interrupted"] = "interrupted" if is_stopped else "paused"
        settle(self.store, End(Ended(state=state), is_shutting_down=is_stopped, is_leaving=short_stay.is_set()))

    def _note_process(self, pid: int) -> None:
        def write() -> None:
            with transaction.atomic():
                row = self.store.locked()
                row.pid = pid
                row.save(update_fields=["pid", "updated_at"])

        retried(write)

    def _follow(self, trainer: Trainer) -> int | None:
        """Follow the trainer until it has ended and everything that it wrote is stored; returns its exit status.

        None: it was killed and does not end.
        """
        while True:
            exit_code = trainer.poll()  # before the events are read, so that none written before its end is missed
            self._end_when_shutting_down(trainer)
            events = self._retried(self.store.pull) if self.store.has_news() else self._beat()
            self._warm_after_first_step(events)
            if exit_code is None and self._killed_at is None:
                self._memory_kills.sample()
                self._send_requests(trainer)
                self._check(trainer, events)
            if not events and (exit_code is not None or self._is_stuck()):
                return exit_code
            if not events:
                trainer.wait(POLL_S)

    def _beat(self) -> list[AnyEvent]:
        """Store a heartbeat when one is due, else only read the row for new requests."""
        if time.monotonic() < self._next_beat:
            self._retried(self.store.look)
            return []
        self._next_beat = time.monotonic() + BEAT_S
        return self._retried(self.store.pull)

    def _retried(self, write: Callable[[], Result]) -> Result:
        """As `retried`, which the loss of the network to the database and the other hosts must not block forever."""
        result = retried(write, self._end_when_cut_off)
        self._reached_at = time.monotonic()
        return result

    def _end_when_cut_off(self) -> None:
        """Terminate a trainer that makes no steps while the database does not respond, where it has other hosts.

        It waits for ranks that it cannot reach either. Meanwhile the others have given up this host, and the lock of
        this trainer keeps their next attempt from starting.
        """
        if self._others is None or self.trainer is None or self._killed_at is not None:
            return
        # The next attempt, on another host, writes to the same file.
        written = read_events(self.store.path, self.store.run.event_offset, -1)
        unread = [event for event, _offset in written if event.attempt == self.store.run.attempt]
        away_s, limit_s = time.monotonic() - self._reached_at, self._watchdog.cut_off_s
        if not is_cut_off(unread, away_s, limit_s):
            return
        logger.warning("The trainer of run %s is terminated: this host is cut off.", self.store.run.pk)
        self._lost_share = HOSTS_UNREACHABLE(seconds=round(limit_s))
        self._kill(self.trainer)

    def _send_requests(self, trainer: Trainer) -> None:
        """Send the trainer each request once, and the requested action when it changes."""
        for request in self.store.run.requests:
            if request["id"] not in self._sent_requests:
                self._sent_requests.add(request["id"])
                trainer.send(request)
        action = self.store.run.requested_action
        if action in (RequestedAction.PAUSE, RequestedAction.STOP) and action != self._sent_action:
            trainer.send((Pause() if action == RequestedAction.PAUSE else Stop()).model_dump())
            self._sent_action = action

    def _check(self, trainer: Trainer, events: list[AnyEvent]) -> None:
        """Terminate a trainer that hangs, does not respond or has exceeded its time, and limit the size of its log."""
        with contextlib.suppress(OSError):  # a full or read-only disk: the log does not grow either
            if trim_log(self.folder / LOG_FILE, settings.TRAINER_LOG_BYTES):
                self.log_start = 0
        if any(map(is_sign_of_life, events)):
            self._watchdog.note_event()
        if self._others is not None and self._retried(self._others.look_when_due):
            self._check_others(self._others, trainer)
        cause = self._watchdog.verdict(self.store.run)
        if cause is None or (cause == "hang" and self.store.has_news()):  # it may have reported something just now
            return
        logger.warning("The trainer of run %s is terminated: %s.", self.store.run.pk, cause)
        # A trainer that does not respond to the soft limit has still reached that limit.
        self.cause = self.cause if self.cause == "soft_limit" and cause == "unanswered" else cause
        if cause == "soft_limit":
            trainer.send(Stop().model_dump())
            return
        if cause in ("hang", "unanswered"):
            trainer.dump_stacks()
        self._kill(trainer)

    def _check_others(self, others: OtherHosts, trainer: Trainer) -> None:
        """End the attempt where ranks on another host are lost; have it save where their worker is being stopped."""
        if problem := others.problem:
            logger.warning("The trainer of run %s is terminated. %s", self.store.run.pk, problem)
            self._lost_share = problem
            self._kill(trainer)
        elif others.leaving and not self._left_host:
            self._left_host = others.leaving
            trainer.close_input()

    def _kill(self, trainer: Trainer) -> None:
        """Its end is waited for in the loop, which sends heartbeats meanwhile."""
        self._killed_at = time.monotonic()
        trainer.kill(wait_s=POLL_S)

    def _is_stuck(self) -> bool:
        limit_s = UNKILLABLE_AT_EXIT_S if shutting_down.is_set() else UNKILLABLE_S
        return self._killed_at is not None and time.monotonic() - self._killed_at > limit_s

    def _end_when_shutting_down(self, trainer: Trainer) -> None:
        """When the worker is stopped: have the trainer save and exit, and terminate it when it does not."""
        if not shutting_down.is_set():
            return
        if self._exit_by is None:
            self._exit_by = time.monotonic() + settings.LEAVE_GRACE_S
            trainer.close_input()
        elif time.monotonic() > self._exit_by and self._killed_at is None:
            logger.error("The trainer of run %s did not exit within %d s.", self.store.run.pk, settings.LEAVE_GRACE_S)
            self._kill(trainer)

    def _warm_after_first_step(self, events: list[AnyEvent]) -> None:
        """Start a new spare trainer once this run trains: importing torch earlier would slow down its start."""
        for event in events:
            step = event.step or 0
            if isinstance(event, Started):
                self._first_step = step
            elif self._first_step is not None and isinstance(event, Progress | Metrics) and step > self._first_step:
                self._first_step = None
                warm_spare()


def settle(store: EventStore, end: End) -> Outcome:
    """Move the run to the status that its end leads to. Raises LostRunError."""
    known = retried(lambda: _completed(store, end))  # before the lock: the patterns of rules may take seconds

    def write() -> Outcome:
        with transaction.atomic():
            row = store.locked()  # judged under the lock, so that the newest request counts
            outcome = judge(row, known)
            note_end(row, known.diagnosis.rule.error_class if known.diagnosis else "", known.stuck_process)
            dropped = drop_requests(row) if outcome.to != Status.QUEUED else {}
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


def _completed(store: EventStore, end: End) -> End:
    """The end with what the database adds: the newest checkpoint, and the failure rule that applies."""
    saved = store.run.checkpoints.order_by("-step").values_list("step", flat=True).first()
    is_failure = end.final is None or end.final.state in ("failed", "interrupted")
    diagnosis = diagnose(end.error_class, end.evidence, end.shown_lines, own_rules()) if is_failure else None
    return replace(end, saved_step=saved, batch_size=store.batch_size, diagnosis=diagnosis)


def retried(write: Callable[[], Result], meanwhile: Callable[[], object] = lambda: None) -> Result:
    """Call `write` until the database accepts it. The trainer continues meanwhile, and its events stay in its file.

    `meanwhile` is called after each attempt that failed.
    """
    delay_s, give_up_at = 0.1, None
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if shutting_down.is_set():
                give_up_at = give_up_at or time.monotonic() + DATABASE_RETRY_S
                if time.monotonic() > give_up_at:
                    raise
            logger.warning("The database does not respond, retrying: %s", error)
            connection.close_if_unusable_or_obsolete()
            meanwhile()
            time.sleep(delay_s)
            delay_s = min(2.0, delay_s * 2)


def write_config(run: TrainingRun, dataset_dir: Path | None = None) -> None:
    """Write RUN_DIR/config.json for the attempt: the configuration, and the paths and device that the studio chose."""
    record: dict[str, Any] = {
        "config": run.config,
        "dataset_dir": str(dataset_dir or run.dataset.folder),
        "attempt": run.attempt,
        "weights_cache_dir": str(Path(settings.WEIGHTS_CACHE_DIR)),
        "published_weights": settings.PUBLISHED_WEIGHTS,
        **starting_points(run),
    }
    record |= assigned_devices(run)
    temporary = run.folder / "config.json.tmp"
    temporary.write_text(json.dumps(record, indent=2))
    temporary.replace(run.folder / "config.json")


def assigned_devices(run: TrainingRun) -> dict[str, object]:
    """The devices of the attempt as RUN_DIR/config.json names them, one for each rank; nothing where none is held."""
    devices = rank_devices(run.holds.filter(attempt=run.attempt, released_at=None))
    if not devices:
        return {}
    hosts = [device.host.name for device in devices]
    found: dict[str, object] = {"device": devices[0].torch_name, "device_uuid": devices[0].uuid}
    if len(devices) > 1:
        found["devices"] = [device.torch_name for device in devices]
        if all(device.uuid for device in devices):
            found["device_uuids"] = [device.uuid for device in devices]
    if len(set(hosts)) > 1:
        found |= {"hosts": hosts, "address": cluster_address(), "interface": settings.CLUSTER_INTERFACE}
    return found
