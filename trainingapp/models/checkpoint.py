"""A saved state of a run, written to disk before its row is."""

from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import FILE_NAME_LENGTH
from trainingapp.contract.model_card import WEIGHTS_FILE


class Checkpoint(models.Model):
    """One file under the run's folder, whole and hashed before this row exists."""

    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="checkpoints", verbose_name=_("run"))
    #: Name within the run's `checkpoints` folder, such as epoch_3.pt.
    file = models.CharField(_("file"), max_length=FILE_NAME_LENGTH)
    attempt = models.PositiveIntegerField(_("attempt"))
    epoch = models.PositiveIntegerField(_("epoch"))
    step = models.PositiveBigIntegerField(_("step"))
    #: epoch, autosave, pause, stop or interrupt.
    reason = models.CharField(_("reason"), max_length=16)
    size_bytes = models.BigIntegerField(_("size"))
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    metrics = models.JSONField(_("metrics"), default=dict)
    is_best = models.BooleanField(_("best"), default=False)
    is_last = models.BooleanField(_("last"), default=False)
    #: Bytes on the disk that go when this one goes: `size_bytes` is what it holds, part of which others may share.
    stored_bytes = models.BigIntegerField(_("size on the disk"), default=0)
    #: Kept by hand: no policy deletes it.
    is_pinned = models.BooleanField(_("kept"), default=False)
    #: When its hashes were last compared, and what was wrong; empty while nothing is.
    checked_at = models.DateTimeField(_("last checked"), null=True, blank=True)
    damage = models.CharField(_("damage"), max_length=200, blank=True)
    #: `damage` as message data (`contract.messages`); empty in rows of version 0.1.
    damage_data = models.JSONField(_("damage data"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"))

    class Meta:
        ordering = ["-step", "-id"]
        constraints = [models.UniqueConstraint(fields=["run", "file"], name="checkpoint_file_per_run")]
        indexes = [
            models.Index(fields=["-step", "-id"], name="checkpoint_step"),
            models.Index(fields=["created_at"], name="checkpoint_created"),
        ]
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")

    def __str__(self) -> str:
        return f"{self.run_id}/{self.file}"

    @property
    def path(self) -> Path:
        return self.run.folder / "checkpoints" / self.file


def checkpoint_path(name: str) -> Path:
    """The file that a configuration's `start_from` names: run/{id}/{file} or weights/{id}."""
    kind, number, *file = name.split("/")
    if kind == "weights":
        return Path(settings.WEIGHTS_DIR) / number / WEIGHTS_FILE
    return Path(settings.RUNS_DIR) / number / "checkpoints" / file[0]
