"""What happened in a run, numbered without a gap."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunEvent(models.Model):
    """One record of a run: a line of its log, a point of its curves, a change of its status.

    `seq` counts 1, 2, 3 ... per run and is given out under the lock of the run's row, so that a reader who asks for
    everything above a number never skips one. Rows are only ever added, but for `superseded`: set on metrics that a
    later attempt makes again.
    """

    class Type(models.TextChoices):
        LOG = "log", _("log")
        METRICS = "metrics", _("metrics")
        CHECKPOINT = "checkpoint", _("checkpoint")
        SAMPLE = "sample", _("sample")
        STATUS = "status", _("status")

    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="events", verbose_name=_("run"))
    seq = models.PositiveBigIntegerField(_("number"))
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    type = models.CharField(_("type"), max_length=16, choices=Type.choices)
    level = models.CharField(_("level"), max_length=8, default="info")
    time = models.DateTimeField(_("time"))
    epoch = models.PositiveIntegerField(_("epoch"), null=True)
    #: Optimizer steps since the start of the run.
    step = models.PositiveBigIntegerField(_("step"), null=True)
    data = models.JSONField(_("data"), default=dict)
    superseded = models.BooleanField(_("superseded"), default=False)

    class Meta:
        ordering = ["run_id", "seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="event_seq_per_run")]
        indexes = [models.Index(fields=["run", "type", "seq"], name="event_run_type_seq")]
        verbose_name = _("event")
        verbose_name_plural = _("events")

    def __str__(self) -> str:
        return f"{self.run_id}#{self.seq} {self.type}"
