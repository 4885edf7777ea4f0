"""Work of seconds or minutes that a page waits for and that must not run in the web process."""

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Job(models.Model):
    """A preflight, an export, a prediction ...: asked for by a person, done by a worker, watched by a page.

    A worker claims it by compare-and-set and says by its heartbeat that it lives; one whose worker died is taken up
    again once, then fails. Files lie in `folder` and go after JOBS_KEPT_S.
    """

    class Kind(models.TextChoices):
        PREFLIGHT = "preflight", _("preflight")
        EXPORT = "export", _("export")
        PREDICT = "predict", _("prediction")
        PREDICT_MANY = "predict_many", _("prediction of many images")
        CHECK_WEIGHTS = "check_weights", _("check of uploaded weights")
        SAVE_WEIGHTS = "save_weights", _("copy into the library of weights")

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        WORKING = "working", _("working")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="jobs", verbose_name=_("owner"))
    #: What is to be done, by kind.
    params = models.JSONField(_("parameters"), default=dict)
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING)
    done = models.PositiveIntegerField(_("done"), default=0)
    total = models.PositiveIntegerField(_("of"), default=0)
    message = models.TextField(_("message"), blank=True)
    #: What was found, by kind.
    result = models.JSONField(_("result"), default=dict, blank=True)
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "created_at"], name="job_queue")]
        verbose_name = _("job")
        verbose_name_plural = _("jobs")

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def folder(self) -> Path:
        """Where its input and its result lie."""
        return Path(settings.JOBS_DIR) / self.pk.hex

    @property
    def is_over(self) -> bool:
        return self.state in (self.State.DONE, self.State.FAILED, self.State.CANCELLED)
