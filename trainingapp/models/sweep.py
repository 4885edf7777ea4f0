"""A sweep: many runs of one configuration with different values, and its trials."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.models.dataset import Dataset
from trainingapp.models.run import TrainingRun
from trainingapp.models.sharing import Shared


class Sampler(models.TextChoices):
    """How the values of a trial are chosen."""

    TPE = "tpe", _("TPE")
    RANDOM = "random", _("Random")
    GRID = "grid", _("Grid")
    GP = "gp", _("Gaussian process")
    REPEAT = "repeat", _("Repeated seeds")
    FOLDS = "folds", _("Cross-validation")


#: Samplers that search nothing: their trials have the base configuration and differ in this field.
REPEATED_FIELDS: dict[str, str] = {Sampler.REPEAT: "seed", Sampler.FOLDS: "fold"}


class Pruner(models.TextChoices):
    """Which trials are stopped before their last epoch."""

    NONE = "none", _("None")
    MEDIAN = "median", _("Median")
    HYPERBAND = "hyperband", _("Hyperband")


class SweepStatus(models.TextChoices):
    PENDING = "pending", _("pending")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    COMPLETED = "completed", _("completed")
    STOPPED = "stopped", _("stopped")


class TrialState(models.TextChoices):
    """Follows from the status of the run, in the transaction that changes it (`runs.sweeps.following`)."""

    WAITING = "waiting", _("waiting")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    PRUNED = "pruned", _("pruned")
    STOPPED = "stopped", _("stopped")
    FAILED = "failed", _("failed")


class Origin(models.TextChoices):
    """Where the values of a trial come from."""

    BASE = "base", _("base configuration")
    SUGGESTED = "suggested", _("sampler")
    CONTROL = "control", _("random control")
    ENQUEUED = "enqueued", _("entered by a person")


class Sweep(Shared):
    """A search over the configuration of a run.

    `runs.sweeps.advance` creates its trials, one after the other; its status changes by the verbs and by `advance`.
    """

    Sampler = Sampler
    Pruner = Pruner
    Status = SweepStatus

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="sweeps", verbose_name=_("owner"))
    dataset = models.ForeignKey(Dataset, models.PROTECT, related_name="sweeps", verbose_name=_("dataset"))
    task = models.CharField(_("task"), max_length=32)
    #: The RunConfig that every trial begins with, as JSON. Its `best_metric` is what the sweep optimizes.
    config = models.JSONField(_("base configuration"))
    #: A SearchSpace as JSON (`runs.sweeps.space`).
    space = models.JSONField(_("search space"))
    sampler = models.CharField(_("sampler"), max_length=16, choices=Sampler.choices, default=Sampler.TPE)
    pruner = models.CharField(_("pruner"), max_length=16, choices=Pruner.choices, default=Pruner.NONE)
    seed = models.PositiveIntegerField(_("seed"), default=0)
    #: Every so many trials, one is random whatever the sampler is; 0 for none.
    control_every = models.PositiveIntegerField(_("control group"), default=0)
    #: Trials that are queued or running at the same time.
    concurrency = models.PositiveIntegerField(_("concurrency"), default=1)
    #: Of a cross-validation the number of folds.
    max_trials = models.PositiveIntegerField(_("trials"))
    #: Hours that the sweep is running, and hours of training of all trials together; null for no limit.
    max_hours = models.FloatField(_("hours"), null=True, blank=True)
    max_device_hours = models.FloatField(_("device hours"), null=True, blank=True)

    status = models.CharField(_("status"), max_length=16, choices=SweepStatus.choices, default=SweepStatus.PENDING)
    #: Why it ended or was paused, as message data (`contract.messages`).
    reason_data = models.JSONField(_("reason"), default=dict, blank=True)
    #: Seconds that it was running before `running_since`, which is null while it is not.
    spent_s = models.FloatField(_("seconds spent"), default=0)
    running_since = models.DateTimeField(_("running since"), null=True, blank=True)
    #: {"trials": 12, "values": {"learning_rate": 0.7, ...}}: how much each field matters, by PED-ANOVA.
    importance = models.JSONField(_("importance"), default=dict, blank=True)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="sweep_newest"),
            models.Index(fields=["status"], name="sweep_status"),
        ]
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sweep_detail", args=[self.pk])

    @property
    def metric(self) -> str:
        """The metric that the sweep optimizes: the model-selection metric of its trials."""
        return str(self.config["best_metric"])

    @property
    def repeated_field(self) -> str:
        """The field in which trials differ that only repeat the base configuration; empty for a search."""
        return REPEATED_FIELDS.get(self.sampler, "")

    @property
    def is_running(self) -> bool:
        return self.status == SweepStatus.RUNNING

    @property
    def is_ended(self) -> bool:
        return self.status in (SweepStatus.COMPLETED, SweepStatus.STOPPED)

    def running_s(self, now: datetime | None = None) -> float:
        """Seconds that the sweep has been running, without its pauses."""
        since = self.running_since
        return self.spent_s + (((now or timezone.now()) - since).total_seconds() if since is not None else 0.0)


class Trial(models.Model):
    """One set of values, and the run that tries it.

    The row stays when its run is deleted: what was found out is part of the sweep.
    """

    State = TrialState
    Origin = Origin

    sweep = models.ForeignKey(Sweep, models.CASCADE, related_name="trials", verbose_name=_("sweep"))
    #: From 0 upward without gaps.
    number = models.PositiveIntegerField(_("number"))
    run = models.OneToOneField(
        TrainingRun, models.SET_NULL, null=True, blank=True, related_name="trial", verbose_name=_("run")
    )
    origin = models.CharField(_("origin"), max_length=16, choices=Origin.choices)
    state = models.CharField(_("state"), max_length=16, choices=TrialState.choices, default=TrialState.WAITING)
    #: The values of the fields of the search space that it sets.
    params = models.JSONField(_("values"))
    #: The best value of the sweep's metric; null where none is known.
    value = models.FloatField(_("result"), null=True, blank=True)
    #: The metric after each validation: [[epoch, value], ...], and the number up to which the series was read.
    curve = models.JSONField(_("validations"), default=list, blank=True)
    curve_seq = models.PositiveBigIntegerField(_("validations read"), default=0)
    #: The epoch up to which the pruner has let the trial continue, and when it stopped the trial.
    judged_epoch = models.PositiveIntegerField(_("judged up to epoch"), default=0)
    pruned_at = models.DateTimeField(_("pruned"), null=True, blank=True)
    #: Seconds of training; while the run trains, those of the run count.
    elapsed_s = models.FloatField(_("seconds trained"), default=0)
    #: Why there is no run, in the words of the configuration's check.
    problem = models.TextField(_("problem"), blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        ordering = ["sweep_id", "number"]
        constraints = [models.UniqueConstraint(fields=["sweep", "number"], name="trial_number")]
        indexes = [
            models.Index(fields=["state"], condition=Q(state=TrialState.RUNNING), name="trial_running"),
        ]
        verbose_name = _("trial")
        verbose_name_plural = _("trials")

    def __str__(self) -> str:
        return f"{self.sweep_id}#{self.number}"

    @property
    def is_finished(self) -> bool:
        return self.state not in (TrialState.WAITING, TrialState.RUNNING)
