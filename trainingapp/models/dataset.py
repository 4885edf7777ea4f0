"""A set of images with its labels, immutable once it is ready."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.limits import NAME_LENGTH, PATH_LENGTH
from trainingapp.models.sharing import Shared

LABEL_MODES: list[tuple[LabelMode, str | Promise]] = [
    ("single", _("one label per image")),
    ("multi", _("several labels per image")),
]


#: Columns that no list of runs shows, to be deferred there: they are most of a row.
LARGE_COLUMNS = ("classes", "counts", "images", "options", "proposal", "reading", "report", "statistics")


class Dataset(Shared):
    """One imported dataset.

    The row is made first (`importing`); a worker reads the source, writes to a temporary folder and renames it to
    `folder` in the end, so that a ready dataset is always whole. A refused import keeps its report and no file.
    """

    class Status(models.TextChoices):
        INSPECTING = "inspecting", _("inspecting")
        PROPOSED = "proposed", _("awaiting confirmation")
        IMPORTING = "importing", _("importing")
        READY = "ready", _("ready")
        REFUSED = "refused", _("refused")

    name = models.CharField(_("name"), max_length=NAME_LENGTH, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="datasets", verbose_name=_("owner")
    )
    #: Tasks that its annotations allow, the most specific one first.
    tasks = models.JSONField(_("tasks"), default=list)
    #: Whether its images have one label each or any number of labels; "single" too where they have none of their own.
    label_mode: models.CharField[LabelMode, LabelMode] = models.CharField(
        _("labels"), max_length=8, choices=LABEL_MODES, default="single"
    )
    #: What kind of files it came from: class_folders, coco, yolo, voc, masks, csv or scenes.
    format = models.CharField(_("format"), max_length=32, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.IMPORTING)
    #: Absolute path of the uploaded zip or the server folder that the import reads.
    source = models.CharField(_("source"), max_length=PATH_LENGTH)
    source_is_upload = models.BooleanField(_("uploaded"), default=False)
    #: What the inspection found, for the page that asks how to import it; see datasets/proposal.py.
    proposal = models.JSONField(_("proposal"), default=dict, blank=True)
    #: How the source was read: format, origin of the splits, choices; see datasets/importing/reading_record.py.
    reading = models.JSONField(_("how the source was read"), default=dict, blank=True)
    #: How to import it; see datasets/options.py.
    options = models.JSONField(_("options"), default=dict, blank=True)
    #: Class names in the order of their label numbers.
    classes = models.JSONField(_("classes"), default=list)
    #: Images that show each class: {"train": {"cat": 120, ...}, "val": {...}}
    counts = models.JSONField(_("counts"), default=dict)
    #: Images of each split: {"train": 120, "val": 30}; one image may show several classes.
    images = models.JSONField(_("images"), default=dict)
    #: For the statistics page; see datasets/statistics.py.
    statistics = models.JSONField(_("statistics"), default=dict, blank=True)
    #: [{"level": "error" | "warning", "code": str, "file": str, "message": str}, ...]
    report = models.JSONField(_("validation report"), default=list)
    fingerprint = models.CharField(_("fingerprint"), max_length=64, blank=True)
    size_bytes = models.BigIntegerField(_("size"), default=0)
    #: The DATA_DIR that its files are in, by its id; empty where no object store is used, or it is not known yet.
    data_dir_id = models.CharField(_("data directory"), max_length=32, blank=True, editable=False)
    #: Its name in the object store, and the SHA-256 of its manifest there; empty until it is stored.
    store_key = models.CharField(_("key in the object store"), max_length=96, blank=True, editable=False)
    store_sha256 = models.CharField(_("SHA-256 of the manifest"), max_length=64, blank=True, editable=False)
    #: The job that inspects or imports it, or did so last. It holds the lease and the progress.
    job = models.ForeignKey("Job", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("job"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("dataset")
        verbose_name_plural = _("datasets")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dataset_detail", args=[self.pk])

    @property
    def folder(self) -> Path:
        """The folder of the images and `samples.jsonl`."""
        return Path(settings.DATASETS_DIR) / str(self.pk)

    @property
    def is_ready(self) -> bool:
        return self.status == self.Status.READY

    @property
    def is_inspecting(self) -> bool:
        return self.status == self.Status.INSPECTING

    @property
    def is_proposed(self) -> bool:
        return self.status == self.Status.PROPOSED

    @property
    def is_refused(self) -> bool:
        return self.status == self.Status.REFUSED

    @property
    def is_discardable(self) -> bool:
        """Whether nothing of it has been imported."""
        return self.is_refused or self.is_proposed

    @property
    def can_be_read_again(self) -> bool:
        """Whether its source can be inspected with other choices: it is kept as long as there are choices."""
        return self.is_discardable and bool(self.reading.get("offers")) and Path(self.source).exists()

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [item for item in self.report if item["level"] == "error"]

    @property
    def warnings(self) -> list[dict[str, Any]]:
        return [item for item in self.report if item["level"] == "warning"]

    def count(self, split: str) -> int:
        """Images in a split."""
        return int(self.images.get(split, 0))

    def trained_images(self, config: Mapping[str, object]) -> int:
        """Images that a run with this configuration trains on in an epoch; with folds, those beside the largest one."""
        folds = int(str(config.get("folds") or 0))
        if not folds:
            return self.count("train")
        total = self.count("train") + self.count("val")
        return total - -(-total // folds)
