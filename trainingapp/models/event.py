"""What happened in a run, numbered without a gap."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class EvaluationMark(models.BooleanField[bool | None, bool | None]):
    """True for the metrics of a validation that has an evaluation file, else null.

    It follows from type and data at each insert, so that no writer has to set it, and rows of a backup that was made
    before the column existed have it too. A page finds the validations of a run by it, without reading every point.
    """

    def pre_save(self, model_instance: models.Model, add: bool) -> bool | None:
        assert isinstance(model_instance, RunEvent)
        data = model_instance.data
        is_evaluation = (
            model_instance.type == RunEvent.Type.METRICS and data.get("split") == "val" and "evaluation" in data
        )
        mark = is_evaluation or None
        model_instance.is_evaluation = mark
        return mark

    def deconstruct(self) -> tuple[str, str, list[object], dict[str, object]]:
        name, _path, arguments, options = super().deconstruct()
        return name, "django.db.models.BooleanField", list(arguments), options


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

    #: Without an index of its own: two of those below begin with it, and the table has millions of rows.
    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="events", db_index=False, verbose_name=_("run"))
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
    is_evaluation = EvaluationMark(_("evaluation"), null=True, editable=False)

    class Meta:
        ordering = ["run_id", "seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="event_seq_per_run")]
        indexes = [
            models.Index(fields=["run", "type", "seq"], name="event_run_type_seq"),
            # Warnings and errors are few among many lines.
            models.Index(fields=["run", "level", "seq"], name="event_run_level_seq"),
            models.Index(fields=["run", "seq"], condition=models.Q(is_evaluation=True), name="event_evaluations"),
        ]
        verbose_name = _("event")
        verbose_name_plural = _("events")

    def __str__(self) -> str:
        return f"{self.run_id}#{self.seq} {self.type}"
