"""Work of seconds to hours that must not run in the web process."""

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Job(models.Model):
    """A preflight, an export, a prediction, an import ...: requested by a user, executed by a worker, shown on a page.

    A worker claims it by compare-and-set and renews its claim by a heartbeat; a job whose worker was lost is claimed
    again, a limited number of times. `jobs/kinds.py` defines each kind. Files are in `folder` and are removed
    some time after the end of the job.
    """

    class Kind(models.TextChoices):
        PREFLIGHT = "preflight", _("preflight")
        EXPORT = "export", _("export")
        PREDICT = "predict", _("prediction")
        PREDICT_MANY = "predict_many", _("prediction of many images")
        CHECK_WEIGHTS = "check_weights", _("check of an uploaded model")
        SAVE_WEIGHTS = "save_weights", _("save as a model")
        BATCH_PREVIEW = "batch_preview", _("preview of a training batch")
        INSPECT_DATASET = "inspect_dataset", _("inspection of a dataset")
        IMPORT_DATASET = "import_dataset", _("import of a dataset")
        STORE_DATASET = "store_dataset", _("copy of a dataset in the object store")
        FETCH_PUBLISHED = "fetch_published", _("download of published weights")
        IMPORT_PUBLISHED = "import_published", _("import of published weights")
        INTERVALS = "intervals", _("intervals of a comparison")

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        WORKING = "working", _("in progress")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="jobs", verbose_name=_("owner"))
    #: The parameters of its kind.
    params = models.JSONField(_("parameters"), default=dict)
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING)
    done = models.PositiveIntegerField(_("done"), default=0)
    total = models.PositiveIntegerField(_("of"), default=0)
    #: The phase of a job in progress, or why it failed, in English; rendered by `jobs/texts.py` from its code.
    message = models.TextField(_("message"), blank=True)
    message_data = models.JSONField(_("message data"), default=dict, blank=True)
    #: The result, by kind; of a failed job, the evidence as "error".
    result = models.JSONField(_("result"), default=dict, blank=True)
    #: The DATA_DIR that its files are in, by its id: only workers with this directory do the job. Empty: any worker.
    data_dir_id = models.CharField(_("data directory"), max_length=32, blank=True, editable=False)
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
        """Holds its input and its result."""
        return Path(settings.JOBS_DIR) / self.pk.hex

    @property
    def is_done(self) -> bool:
        return self.state == self.State.DONE

    @property
    def is_failed(self) -> bool:
        return self.state == self.State.FAILED

    @property
    def is_cancelled(self) -> bool:
        return self.state == self.State.CANCELLED

    @property
    def is_over(self) -> bool:
        return self.state in (self.State.DONE, self.State.FAILED, self.State.CANCELLED)
