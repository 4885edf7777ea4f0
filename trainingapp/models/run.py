"""A training run: its status, what is requested of it and its progress."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.dispatch import Signal
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import ARCHITECTURE_LENGTH, FILE_NAME_LENGTH, NAME_LENGTH
from trainingapp.contract.messages import Message
from trainingapp.models.dataset import LARGE_COLUMNS as LARGE_DATASET_COLUMNS
from trainingapp.models.device import DeviceHold
from trainingapp.models.event import RunEvent
from trainingapp.models.organizing import Copied, CopiedCharField, CopiedFloatField, CopiedIntegerField, Tag
from trainingapp.models.run_value import SOURCES, store_values
from trainingapp.models.sharing import Shared


class Status(models.TextChoices):
    """The states of a run. "Pausing" and "stopping" are derived: a running run with a requested action."""

    PENDING = "pending", _("pending")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    STOPPED = "stopped", _("stopped")


class RequestedAction(models.TextChoices):
    """What a user requested of a running run and its supervisor has not yet carried out."""

    NOTHING = "", _("nothing")
    PAUSE = "pause", _("pause")
    STOP = "stop", _("stop")
    KILL = "kill", _("forced stop")


ALLOWED_MOVES: dict[str, frozenset[str]] = {
    Status.PENDING: frozenset({Status.QUEUED}),
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.STOPPED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.QUEUED, Status.PAUSED, Status.COMPLETED, Status.FAILED, Status.STOPPED}),
    Status.PAUSED: frozenset({Status.QUEUED, Status.STOPPED}),
    # More epochs continue a finished run.
    Status.COMPLETED: frozenset({Status.QUEUED}),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.STOPPED: frozenset({Status.QUEUED}),
}

#: Of the text that names the devices of an attempt.
DEVICE_TEXT_LENGTH = 64

#: A trainer that is quiet for so long is spoken of on the page; one that was asked gets so long to answer.
QUIET_S = 60.0
ANSWER_S = 5.0

#: The longest wait before a retry.
LONGEST_WAIT_S = 600.0

#: The columns of a failure in a run that has none.
NO_ERROR: dict[str, object] = {"error_class": "", "error_message": "", "error_message_data": {}, "error_lines": []}

FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED})

#: Columns that no list of runs shows, to be deferred there: they are most of a row.
LARGE_COLUMNS = (
    "corrections",
    "requests",
    "retries",
    "metrics",
    "resume_check",
    "environment",
    "error_message",
    "error_message_data",
    "error_lines",
    "note",
)
#: The same of its dataset, where a list reads the name of that.
LARGE_COLUMNS_OF_DATASET = tuple(f"dataset__{name}" for name in LARGE_DATASET_COLUMNS)


#: What decides who sees a run in lists, and which facets it belongs to.
LISTED_BY = ("archived_at", "status", "task", "dataset", "owner", "visibility", "team")
#: Columns that lists sort by with an index of their own.
SORTED_BY = (
    *("name", "best_metric", "val_loss", "total_epochs", "elapsed_s"),
    *("learning_rate", "batch_size", "image_size", "architecture"),
)


#: Sent in the transaction of each change of a status, with `run` as it is stored now, `before` (the status before),
#: `requested` (what was requested of it), `message` and `level`. What a receiver writes is committed with the change.
run_moved = Signal()


class TransitionError(Exception):
    """The run is not, or no longer, in a state from which it may move so."""


class TrainingRun(Shared):
    """One training run.

    `status` is written by `transition()` alone. `requested_action` holds the request of a user; the
    supervisor carries it out.
    """

    Status = Status
    RequestedAction = RequestedAction

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="runs", verbose_name=_("owner"))
    task = models.CharField(_("task"), max_length=32)
    dataset = models.ForeignKey("Dataset", models.PROTECT, related_name="runs", verbose_name=_("dataset"))
    #: A RunConfig as JSON, complete with its defaults.
    config = models.JSONField(_("configuration"))
    #: Corrections of the configuration: [{"code": ..., "params": {...}, "message": English text}]; version 0.1 stored
    #: English texts alone.
    corrections = models.JSONField(_("corrections"), default=list, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.PENDING)
    requested_action = models.CharField(
        _("requested action"),
        max_length=16,
        choices=RequestedAction.choices,
        default=RequestedAction.NOTHING,
        blank=True,
    )
    requested_at = models.DateTimeField(_("requested at"), null=True, blank=True)
    priority = models.IntegerField(_("priority"), default=0, help_text=_("Higher runs start first."))

    tags: "models.ManyToManyField[Tag, Any]" = models.ManyToManyField(
        Tag, related_name="runs", blank=True, verbose_name=_("tags")
    )
    note = models.TextField(_("note"), blank=True)
    #: Users who have marked the run for themselves.
    starred_by: "models.ManyToManyField[Any, Any]" = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="starred_runs", blank=True, verbose_name=_("starred by")
    )
    #: Archived runs are hidden from lists. They keep everything, and are neither queued nor running.
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True)

    #: Place among queued runs of the same priority; lower ones start first. Set when a run is queued, changed by hand.
    queue_rank = models.FloatField(_("place in the queue"), default=0)
    #: A queued run is not claimed before this time: the wait before a retry.
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    #: Requests to the running trainer that it has not confirmed yet: [{"id": 1, "command": "checkpoint" | "evaluate" |
    #: "epochs", ...}]. The supervisor sends each once and removes it when the trainer confirms it.
    requests = models.JSONField(_("requests"), default=list, blank=True)
    request_seq = models.PositiveIntegerField(_("requests made"), default=0)
    #: Hours after which the run saves and ends, and after which it is killed; null takes the studio's.
    soft_limit_h = models.FloatField(_("soft time limit"), null=True, blank=True)
    hard_limit_h = models.FloatField(_("hard time limit"), null=True, blank=True)
    #: Automatic restarts that are allowed; null takes the studio's.
    max_recoveries = models.PositiveIntegerField(_("automatic restarts"), null=True, blank=True)
    #: Seconds that trainers have held the run since a user last started or resumed it; the limits apply to them.
    spent_s = models.FloatField(_("seconds spent"), default=0)
    #: Automatic restarts since then by kind of error: {"out_of_memory": 1}
    retries = models.JSONField(_("restarts by kind of error"), default=dict, blank=True)
    forked_from = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="forks", verbose_name=_("forked from")
    )
    #: File of the checkpoint of `forked_from` that it started from.
    forked_checkpoint = models.CharField(_("checkpoint it began with"), max_length=FILE_NAME_LENGTH, blank=True)
    #: Counts the changes by people; an editor who holds an older number is refused.
    version = models.PositiveIntegerField(_("version"), default=1)

    #: Counts the trainer processes of this run; everything that one writes carries its number.
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    #: Automatic restarts since a user last started or resumed the run.
    recoveries = models.PositiveIntegerField(_("recoveries"), default=0)
    #: Identity of the worker process that holds the run: "host:pid:start".
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    host = models.CharField(_("host"), max_length=120, blank=True)
    pid = models.PositiveIntegerField(_("process"), null=True, blank=True)
    device = models.CharField(_("device"), max_length=DEVICE_TEXT_LENGTH, blank=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    #: When events of the trainer were last stored.
    last_event_at = models.DateTimeField(_("last event of the trainer"), null=True, blank=True)

    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    total_epochs = models.PositiveIntegerField(_("epochs"), default=0)
    step = models.PositiveBigIntegerField(_("step"), default=0)
    total_steps = models.PositiveBigIntegerField(_("steps"), default=0)
    #: What is done now: fetching (the dataset), starting, train, validate, save.
    phase = models.CharField(_("phase"), max_length=16, blank=True)
    #: The checkpoint that is being written in the background and is not on the disk yet.
    saving = models.CharField(_("checkpoint being saved"), max_length=FILE_NAME_LENGTH, blank=True, default="")
    #: While the dataset is fetched from the object store: {"done": bytes, "total": bytes, "per_s": bytes per second}
    fetching = models.JSONField(_("download of the dataset"), default=dict, blank=True, editable=False)
    #: The directory of runs that its files are in, by its id: it resumes only on hosts that have this directory. Empty
    #: where it has none yet, or no object store is used.
    runs_dir_id = models.CharField(_("directory of its files"), max_length=32, blank=True, editable=False)
    #: Seconds that trainers have spent on this run, and the expected rest; null while unknown.
    elapsed_s = models.FloatField(_("seconds trained"), default=0)
    eta_s = models.FloatField(_("seconds left"), null=True, blank=True)
    #: Latest metrics by name, and the best value of the metric that decides.
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    best_metric_name = models.CharField(_("best metric"), max_length=64, blank=True)
    best_metric = models.FloatField(_("best value"), null=True, blank=True)
    best_epoch = models.PositiveIntegerField(_("best epoch"), null=True, blank=True)
    #: What lists sort by besides: the newest validation loss, and values of the configuration.
    val_loss = CopiedFloatField(
        _("last validation loss"), source="metrics", key="val/loss", null=True, blank=True, editable=False
    )
    architecture = CopiedCharField(
        _("architecture"), source="config", key="model", max_length=ARCHITECTURE_LENGTH, blank=True, editable=False
    )
    learning_rate = CopiedFloatField(
        _("learning rate"), source="config", key="learning_rate", null=True, blank=True, editable=False
    )
    batch_size = CopiedIntegerField(
        _("batch size"), source="config", key="batch_size", null=True, blank=True, editable=False
    )
    image_size = CopiedIntegerField(
        _("image size"), source="config", key="image_size", null=True, blank=True, editable=False
    )

    #: What repeating a step after the newest reload showed: {"verdict": "exact" | "near" | "differs",
    #: "difference": float, "reason": str, "attempt": int, "step": int}; empty while nothing was reloaded.
    resume_check = models.JSONField(_("resume check"), default=dict, blank=True)
    #: What the newest attempt was made with: {"python": ..., "torch": ..., "git": ..., "packages": {...}}
    environment = models.JSONField(_("environment"), default=dict, blank=True)

    error_class = models.CharField(_("kind of error"), max_length=32, blank=True)
    #: English text of the failure, for rules, logs and rows without a code.
    error_message = models.TextField(_("error"), blank=True)
    #: The same as message data (`contract.messages`), rendered in the reader's language; empty in rows of version 0.1.
    error_message_data = models.JSONField(_("error message data"), default=dict, blank=True)
    error_lines = models.JSONField(_("lines that show it"), default=list, blank=True)

    #: Number of the newest event and the byte up to which events.jsonl is stored.
    event_seq = models.PositiveBigIntegerField(_("events"), default=0)
    event_offset = models.PositiveBigIntegerField(_("bytes of events stored"), default=0)
    #: Metrics of this run may still be rows of events, as version 0.2 and older stored them (`runs.series_migration`).
    metrics_in_rows = models.BooleanField(_("metrics in the old form"), default=False, editable=False)

    #: When old parts of its history were removed (`runs.history`): points of training, lines of the log, other events.
    series_removed_at = models.DateTimeField(_("points removed"), null=True, blank=True, editable=False)
    logs_removed_at = models.DateTimeField(_("log removed"), null=True, blank=True, editable=False)
    events_removed_at = models.DateTimeField(_("events removed"), null=True, blank=True, editable=False)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    queued_at = models.DateTimeField(_("queued"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["status", "-priority", "queued_at"], name="run_queue"),
            # Each with all that decides who sees a run and which facets it belongs to: the pages of the list in this
            # order, and the counts above it, read nothing else.
            models.Index(fields=["-created_at", "-id", *LISTED_BY], name="run_newest"),
            models.Index(
                fields=["status", "-created_at", "-id", *(name for name in LISTED_BY if name != "status")],
                name="run_newest_of_status",
            ),
            *(models.Index(fields=[column, "id", *LISTED_BY], name=f"run_by_{column}") for column in SORTED_BY),
            models.Index(fields=["status", "-finished_at"], name="run_finished"),
            # Open lists ask each second what has been written.
            models.Index(fields=["updated_at"], name="run_updated"),
            # The search of the admin reads hosts and errors: a run as a whole has some kB.
            models.Index(fields=["host", "id"], name="run_host"),
            models.Index(fields=["id"], condition=~models.Q(error_message=""), name="run_with_error"),
            # Empty once all are converted: who asks whether some are left reads nothing else.
            models.Index(fields=["event_seq"], condition=models.Q(metrics_in_rows=True), name="run_metrics_in_rows"),
        ]
        verbose_name = _("run")
        verbose_name_plural = _("runs")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("run_detail", args=[self.pk])

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Copied columns, and the values that lists sort by, are saved with the column that they are copied from."""
        if update_fields is not None:
            saved = set(update_fields)
            copied = [field for field in self._meta.concrete_fields if isinstance(field, Copied)]
            update_fields = saved | {field.name for field in copied if field.source in saved}
        unread = self.get_deferred_fields()
        listed = [name for name in SOURCES if name not in unread and (update_fields is None or name in update_fields)]
        with transaction.atomic(savepoint=False):
            super().save(*args, update_fields=update_fields, **options)
            if listed:
                store_values([self], listed)

    @property
    def folder(self) -> Path:
        """RUN_DIR: config.json, events.jsonl, trainer.log and checkpoints."""
        return Path(settings.RUNS_DIR) / str(self.pk)

    @property
    def is_running(self) -> bool:
        return self.status == Status.RUNNING

    @property
    def is_queued(self) -> bool:
        return self.status == Status.QUEUED

    @property
    def is_paused(self) -> bool:
        return self.status == Status.PAUSED

    @property
    def is_archived(self) -> bool:
        return self.archived_at is not None

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def is_silent(self) -> bool:
        """Running by its row, but without a heartbeat for longer than the lease.

        A heartbeat in the future was written before the clock was set back: a running worker corrects it immediately.
        """
        if self.status != Status.RUNNING:
            return False
        deadline, lease = heartbeat_deadline(), timedelta(seconds=settings.HEARTBEAT_LEASE_S)
        return self.heartbeat_at is None or not deadline <= self.heartbeat_at <= deadline + 2 * lease

    @property
    def quiet_s(self) -> float:
        """Seconds since the last event of the trainer of a running run; 0 where it is not known to be quiet."""
        if self.status != Status.RUNNING or self.last_event_at is None or self.is_silent:
            return 0.0
        return max(0.0, (timezone.now() - self.last_event_at).total_seconds())

    @property
    def is_quiet(self) -> bool:
        """Whether the trainer runs and has been quiet for so long that the page mentions it."""
        return self.quiet_s >= QUIET_S

    @property
    def is_unanswered(self) -> bool:
        """Whether the trainer has had time to carry out the requested action and has not done so."""
        if self.status != Status.RUNNING or not self.requested_action or self.requested_at is None:
            return False
        return not 0 <= (timezone.now() - self.requested_at).total_seconds() < ANSWER_S

    @property
    def waits_until(self) -> datetime | None:
        """When a queued run that waits before a retry may be claimed; None when it waits for nothing but a place."""
        is_waiting = self.status == Status.QUEUED and is_put_off(self.not_before, timezone.now())
        return self.not_before if is_waiting else None

    @property
    def soft_limit_s(self) -> float:
        """Seconds after which the run saves and ends; 0 for never."""
        hours = settings.SOFT_TIME_LIMIT_HOURS if self.soft_limit_h is None else self.soft_limit_h
        return float(hours * 3600)

    @property
    def hard_limit_s(self) -> float:
        """Seconds after which its trainer is killed; 0 for never."""
        hours = settings.HARD_TIME_LIMIT_HOURS if self.hard_limit_h is None else self.hard_limit_h
        return float(hours * 3600)

    @property
    def hosts_at_most(self) -> int:
        """The hosts from which it may take its devices."""
        return int(self.config.get("hosts_at_most", 1))

    @property
    def hosts(self) -> list[str]:
        """The hosts of the newest attempt; the first one has rank 0. Empty before the first attempt."""
        shares = self.shares.filter(attempt=self.attempt) if self.hosts_at_most > 1 else self.shares.none()
        return list(shares.order_by("node_rank").values_list("host", flat=True)) or [self.host] * bool(self.host)

    @property
    def allowed_recoveries(self) -> int:
        """Automatic restarts before a user must act."""
        return int(settings.MAX_RECOVERIES) if self.max_recoveries is None else self.max_recoveries

    @property
    def shown_status(self) -> str:
        """The status for display: one of `Status`, or pausing, stopping or silent."""
        if self.is_silent:
            return "silent"
        if self.status == Status.RUNNING and self.requested_action:
            return "pausing" if self.requested_action == RequestedAction.PAUSE else "stopping"
        return self.status

    @property
    def progress(self) -> float:
        """Share of the steps done, 0 to 1."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    def transition(
        self,
        to: str,
        *,
        message: Message | str = "",
        level: str = "info",
        data: Mapping[str, object] | None = None,
        **fields: object,
    ) -> None:
        """Move to status `to` and write the event that says so, in one transaction.

        `fields` are written with it. A run that leaves RUNNING gives its devices back; one that is queued by a person
        gets the last place. Compare-and-set: raises TransitionError when the stored status (or attempt) is not the one
        this object was read with, or when the table does not allow the move. Nothing is written then.
        """
        now = timezone.now()
        with transaction.atomic():
            stored = TrainingRun.objects.select_for_update().get(pk=self.pk)
            if (stored.status, stored.attempt) != (self.status, self.attempt):
                raise TransitionError(
                    f"Run {self.pk} is {stored.status} (attempt {stored.attempt}), not {self.status} "
                    f"(attempt {self.attempt}) any more."
                )
            if to not in ALLOWED_MOVES[stored.status] or (to == Status.QUEUED and stored.is_archived):
                raise TransitionError(f"Run {self.pk} is {stored.status}; it cannot become {to}.")
            requested = stored.requested_action
            changes: dict[str, object] = {"status": to, **_status_times(to, now), **_place(stored, to), **fields}
            for name, value in changes.items():
                setattr(stored, name, value)
            record = {"from": self.status, "to": to, "message": str(message), **(data or {})}
            if isinstance(message, Message):
                record |= message.as_data()
            append_events(
                stored,
                [
                    RunEvent(
                        type=RunEvent.Type.STATUS,
                        level=level,
                        time=now,
                        data=record,
                        epoch=stored.epoch,
                        step=stored.step,
                    )
                ],
            )
            stored.save(update_fields=[*changes, "event_seq", "updated_at"])
            if self.status == Status.RUNNING:
                DeviceHold.objects.filter(run_id=self.pk, released_at=None).update(released_at=now)
                if stored.hosts_at_most > 1:
                    stored.shares.filter(ended_at=None).update(ended_at=now)
            run_moved.send(
                TrainingRun, run=stored, before=self.status, requested=requested, message=message, level=level
            )
        for name in (*changes, "event_seq", "updated_at"):
            setattr(self, name, getattr(stored, name))


def is_put_off(not_before: datetime | None, now: datetime) -> bool:
    """Whether a queued run still waits before a retry.

    No wait is longer than LONGEST_WAIT_S: what lies beyond was written before the clock was set back.
    """
    return not_before is not None and now < not_before <= now + timedelta(seconds=LONGEST_WAIT_S)


def heartbeat_deadline() -> datetime:
    """A run whose heartbeat is older than this is lost."""
    return timezone.now() - timedelta(seconds=settings.HEARTBEAT_LEASE_S)


def append_events(locked_run: TrainingRun, events: Iterable[RunEvent]) -> None:
    """Number the events and store them; the caller holds the lock of the run's row and saves its `event_seq`."""
    rows = list(events)
    for row in rows:
        locked_run.event_seq += 1
        row.run, row.seq = locked_run, locked_run.event_seq
        row.attempt = row.attempt or locked_run.attempt
    RunEvent.objects.bulk_create(rows)


def _place(run: TrainingRun, to: str) -> dict[str, object]:
    """The last place of the queue; a run that lost its trainer or its worker keeps the place that it had."""
    if to != Status.QUEUED or run.status == Status.RUNNING:
        return {}
    in_work = TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING))
    return {"queue_rank": (in_work.aggregate(last=models.Max("queue_rank"))["last"] or 0.0) + 1.0}


def _status_times(to: str, now: datetime) -> dict[str, object]:
    if to == Status.QUEUED:
        return {"queued_at": now, "finished_at": None}
    if to == Status.RUNNING:
        return {"heartbeat_at": now, "last_event_at": now}
    if to in FINISHED:
        return {"finished_at": now, "requested_action": RequestedAction.NOTHING, "eta_s": None}
    return {"requested_action": RequestedAction.NOTHING, "eta_s": None}
