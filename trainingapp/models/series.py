"""The metrics of a run in chunks: thousands of points in one row."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class SeriesChunk(models.Model):
    """Neighbouring points of one run, attempt and split, as columns of bytes (`contract.series`).

    The points of a series are in several chunks, ordered by `first_seq`: full ones, one that grows, and a short one at
    the end that new points are added to. Each point has the number that its event has among all events of the run.
    `supervision.series_store` writes chunks, `runs.series` reads them.
    """

    #: Without an index of its own: those below begin with it.
    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="series", db_index=False, verbose_name=_("run"))
    attempt = models.PositiveIntegerField(_("attempt"))
    split = models.CharField(_("split"), max_length=16)
    #: A later attempt repeats these points: charts leave them out. All of a chunk are superseded, or none.
    superseded = models.BooleanField(_("superseded"), default=False)
    first_seq = models.PositiveBigIntegerField(_("first number"))
    last_seq = models.PositiveBigIntegerField(_("last number"))
    #: Least and greatest step; null where a point without a step is among them.
    first_step = models.PositiveBigIntegerField(_("first step"), null=True)
    last_step = models.PositiveBigIntegerField(_("last step"), null=True)
    last_time = models.DateTimeField(_("time of the last point"))
    count = models.PositiveIntegerField(_("points"))
    #: By metric: {"count", "min", "max", "mean"} (`contract.series.Summary`).
    summary = models.JSONField(_("summary"), default=dict)
    #: A frame with the lowest and highest values of each part of the chunk; empty for a chunk that is short itself.
    preview = models.BinaryField(_("preview"), default=b"")
    #: A frame with all points. It comes last: a query that leaves it out does not read its pages.
    data = models.BinaryField(_("points as bytes"), default=b"")

    class Meta:
        ordering = ["run_id", "first_seq"]
        indexes = [
            models.Index(fields=["run", "split", "first_seq"], name="series_run_split_seq"),
            models.Index(fields=["run", "first_seq"], name="series_run_seq"),
        ]
        verbose_name = _("chunk of metrics")
        verbose_name_plural = _("chunks of metrics")

    def __str__(self) -> str:
        return f"{self.run_id}#{self.first_seq}-{self.last_seq} {self.split}"
