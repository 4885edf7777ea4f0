"""The parts of an attempt on several hosts."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from trainingapp.models.run import TrainingRun


class RunShare(models.Model):
    """The part of an attempt that trains on one of its hosts. An attempt on one host has none.

    The host with `node_rank` 0 has rank 0: its worker supervises the run, so that worker, process and heartbeat of this
    share are those of the run. The others are started by the workers of their hosts (`supervision/shares.py`). The
    devices of a share are those holds of the attempt that are on its host.
    """

    run = models.ForeignKey(TrainingRun, models.CASCADE, related_name="shares", verbose_name=_("run"))
    attempt = models.PositiveIntegerField(_("attempt"))
    node_rank = models.PositiveIntegerField(_("number of the host"))
    host = models.CharField(_("host"), max_length=120)
    #: Identity of the worker process that has taken it: "host:pid:start"; empty until then.
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    #: Of node 0: where rank 0 listens for the other ranks, "address:port"; empty until it does.
    address = models.CharField(_("address"), max_length=64, blank=True)
    #: The process of its first rank.
    pid = models.PositiveIntegerField(_("process"), null=True, blank=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"))
    #: Its worker is being stopped: the run is to save, so that it can continue elsewhere.
    is_leaving = models.BooleanField(_("worker is being stopped"), default=False)
    #: The exit status of the rank that ended first, negative for a signal; null where it is not known.
    exit_code = models.IntegerField(_("exit status"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    class Meta:
        ordering = ["run", "attempt", "node_rank"]
        constraints = [models.UniqueConstraint(fields=["run", "attempt", "node_rank"], name="share_of_attempt")]
        indexes = [
            # Workers look for those of their host that have not ended: a few rows, whatever the history.
            models.Index(fields=["host"], condition=models.Q(ended_at=None), name="share_open"),
        ]
        verbose_name = _("share of a run")
        verbose_name_plural = _("shares of runs")

    def __str__(self) -> str:
        return f"{self.run_id} ({self.attempt}) on {self.host}"
