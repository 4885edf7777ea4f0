"""The library of weights: trained networks with a name, a version and a history."""

from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import (
    ALIAS_LENGTH,
    ARCHITECTURE_LENGTH,
    FILE_NAME_LENGTH,
    LICENCE_LENGTH,
    NAME_LENGTH,
)
from trainingapp.contract.model_card import WEIGHTS_FILE, Card
from trainingapp.models.sharing import Shared

#: Thresholds of detectors of which nothing better is known.
USUAL_CONFIDENCE = 0.3
USUAL_IOU = 0.5
USUAL_BOXES = 100


class Weights(Shared):
    """One version of a named network. The file is safetensors; what is needed to use it is in the row.

    It outlives its run and its dataset: what is needed of them is copied here.
    """

    class Source(models.TextChoices):
        RUN = "run", _("checkpoint of a run")
        UPLOAD = "upload", _("upload")

    class State(models.TextChoices):
        PENDING = "pending", _("being created")
        READY = "ready", _("ready")
        FAILED = "failed", _("failed")

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    version = models.PositiveIntegerField(_("version"))
    note = models.TextField(_("note"), blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="weights", verbose_name=_("owner"))
    source = models.CharField(_("source"), max_length=16, choices=Source.choices, default=Source.RUN)
    #: Pending until a worker has written the whole file; `problem` is the reason why not, in English and as data.
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.PENDING)
    problem = models.TextField(_("problem"), blank=True)
    problem_data = models.JSONField(_("problem data"), default=dict, blank=True)
    job = models.ForeignKey("Job", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("job"))
    task = models.CharField(_("task"), max_length=32)
    architecture = models.CharField(_("architecture"), max_length=ARCHITECTURE_LENGTH)
    #: Class names in the order of the outputs.
    classes = models.JSONField(_("classes"), default=list)
    image_size = models.PositiveIntegerField(_("image size"), default=0)
    #: {"mean": [r, g, b], "std": [r, g, b]}, for pixels from 0 to 1.
    normalisation = models.JSONField(_("normalisation"), default=dict)
    #: How images of more than 8 bits or of many bands are converted, as in the dataset; see contract/deep_images.py.
    conversion = models.JSONField(_("conversion of images"), default=dict, blank=True)
    #: How much of the file fits the network, {"is_whole": bool, "counts": {...}, "names": {...}}; under "exports" what
    #: each format differed by when it was last made; under "scrub" when the file was last compared with its hash, and
    #: what was wrong, {"checked_at": ISO time, "damage": str}.
    report = models.JSONField(_("report"), default=dict, blank=True)
    #: The RunConfig that they were trained with; enough to build the network again.
    config = models.JSONField(_("configuration"), default=dict, blank=True)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    run = models.ForeignKey(
        "TrainingRun", models.SET_NULL, null=True, blank=True, related_name="weights", verbose_name=_("run")
    )
    run_name = models.CharField(_("name of the run"), max_length=NAME_LENGTH, blank=True)
    checkpoint_file = models.CharField(_("checkpoint"), max_length=FILE_NAME_LENGTH, blank=True)
    epoch = models.PositiveIntegerField(_("epoch"), null=True, blank=True)
    dataset = models.ForeignKey(
        "Dataset", models.SET_NULL, null=True, blank=True, related_name="weights", verbose_name=_("dataset")
    )
    dataset_name = models.CharField(_("name of the dataset"), max_length=NAME_LENGTH, blank=True)
    dataset_fingerprint = models.CharField(_("fingerprint of the dataset"), max_length=64, blank=True)
    parent = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="children", verbose_name=_("started from")
    )
    licence = models.CharField(_("licence"), max_length=LICENCE_LENGTH, blank=True)
    size_bytes = models.BigIntegerField(_("size"), default=0)
    sha256 = models.CharField(_("SHA-256"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering = ["name", "-version"]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="weights_version")]
        verbose_name = _("weights")
        verbose_name_plural = _("weights")

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    def get_absolute_url(self) -> str:
        return reverse("weights_detail", args=[self.pk])

    @property
    def folder(self) -> Path:
        """The path of the file."""
        return Path(settings.WEIGHTS_DIR) / str(self.pk)

    @property
    def path(self) -> Path:
        return self.folder / WEIGHTS_FILE

    @property
    def is_pending(self) -> bool:
        return self.state == self.State.PENDING

    @property
    def is_failed(self) -> bool:
        return self.state == self.State.FAILED

    @property
    def is_ready(self) -> bool:
        return self.state == self.State.READY

    @property
    def is_whole(self) -> bool:
        """Whether the file holds the whole network: what does not can start runs, but not predict."""
        return self.is_ready and bool(self.report.get("is_whole"))

    @property
    def damage(self) -> str:
        """What was wrong with the file when it was last compared with its hash; empty while nothing is."""
        return str(self.report.get("scrub", {}).get("damage", ""))

    @property
    def damage_data(self) -> dict[str, object]:
        """`damage` as message data; empty in rows of version 0.1."""
        data: dict[str, object] = self.report.get("scrub", {}).get("damage_data", {})
        return data

    @property
    def checked_at(self) -> datetime | None:
        """When that was."""
        checked_at = self.report.get("scrub", {}).get("checked_at")
        return datetime.fromisoformat(checked_at) if checked_at else None

    @property
    def start_name(self) -> str:
        """What a configuration's `start_from` calls it."""
        return f"weights/{self.pk}"

    def card(self) -> Card:
        """The description of the model for jobs and exports."""
        thresholds = {name: self.config.get(name) for name in ("iou_thres", "max_det")}
        return {
            "name": self.name,
            "version": self.version,
            "note": self.note,
            "task": self.task,
            "architecture": self.architecture,
            "classes": self.classes,
            "image_size": self.image_size,
            "normalisation": self.normalisation,
            "conversion": self.conversion or None,
            "confidence": self.report.get("best_confidence") or USUAL_CONFIDENCE,
            "iou": thresholds["iou_thres"] or USUAL_IOU,
            "max_boxes": thresholds["max_det"] or USUAL_BOXES,
            "thresholds": self.report.get("thresholds"),
            "config": self.config,
            "sha256": self.sha256,
            "metrics": self.metrics,
            "run": self.run_name,
            "epoch": self.epoch,
            "dataset": self.dataset_name,
            "dataset_fingerprint": self.dataset_fingerprint,
            "licence": self.licence,
            "created": self.created_at.isoformat() if self.created_at else "",
        }


class WeightsAlias(models.Model):
    """A name, such as production, that stands for one version of a model until it is moved to another one.

    `name` repeats that of the version, so that the database keeps each alias once for a model.
    """

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    alias = models.CharField(_("alias"), max_length=ALIAS_LENGTH)
    weights = models.ForeignKey(Weights, models.CASCADE, related_name="aliases", verbose_name=_("version"))
    moved_at = models.DateTimeField(_("set"), auto_now=True)

    class Meta:
        ordering = ["alias"]
        constraints = [models.UniqueConstraint(fields=["name", "alias"], name="weights_alias")]
        verbose_name = _("alias")
        verbose_name_plural = _("aliases")

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}"
