"""The data of the first page: what runs, what needs attention, what has come out lately, and the first steps."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts.permissions import Verb, can, is_administrator, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.disk_space import is_almost_full
from trainingapp.models import Dataset, Device, DeviceHold, Host, Job, TrainingRun, Weights
from trainingapp.models.run import LARGE_COLUMNS, LARGE_COLUMNS_OF_DATASET, Status, heartbeat_deadline
from trainingapp.presentation.text import Text
from trainingapp.runs.series import Line, series_of
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling.placement import held_by_jobs

RUNNING_SHOWN = 12
RECENT_SHOWN = 8
ATTENTION_SHOWN = 8
#: Failed runs are mentioned for so long.
FAILED_DAYS = 7
#: The loss of training that a card draws.
SPARK_METRIC, SPARK_POINTS = "train/loss", 60
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 32.0


@dataclass(frozen=True)
class RunCard:
    """A running run. `spark` are the points of an SVG line, and empty before the second point."""

    run: TrainingRun
    spark: str
    can_pause: bool


@dataclass(frozen=True)
class Attention:
    """Something that a user should look at, with its page."""

    icon: str
    title: Text
    text: Text
    url: str


@dataclass(frozen=True)
class Step:
    """One of the first steps of a new installation; the first that is not done is the next."""

    title: Text
    text: Text
    url: str
    is_done: bool


def running_cards(user: AnyUser) -> list[RunCard]:
    """The runs that train and that the user may see, the newest first."""
    rows = _listed(user).filter(status=Status.RUNNING).order_by("-started_at", "-pk")[:RUNNING_SHOWN]
    runs = list(rows)
    lines = series_of([run.pk for run in runs], [SPARK_METRIC], SPARK_POINTS) if runs else {}
    pause = RUN_VERBS["pause"]
    return [
        RunCard(run, spark(lines[run.pk].get(SPARK_METRIC)), pause.is_possible(run) and pause.is_permitted(user, run))
        for run in runs
    ]


def spark(line: Line | None) -> str:
    """The line as points of an SVG of SPARK_WIDTH by SPARK_HEIGHT, the highest value at the top."""
    if line is None or len(line.value) < 2:
        return ""
    low, high, last = min(line.value), max(line.value), len(line.value) - 1
    span = (high - low) or 1.0
    points = (
        (SPARK_WIDTH * place / last, 1 + (SPARK_HEIGHT - 2) * (1 - (value - low) / span))
        for place, value in enumerate(line.value)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _listed(user: AnyUser) -> QuerySet[TrainingRun]:
    """Runs for a list, without those that are archived."""
    rows = visible_to(user, TrainingRun.objects.filter(archived_at=None))
    return rows.select_related("dataset", "owner").defer("config", *LARGE_COLUMNS, *LARGE_COLUMNS_OF_DATASET)


def recent_results(user: AnyUser) -> list[TrainingRun]:
    """The runs that were completed last."""
    rows = _listed(user).filter(status=Status.COMPLETED, finished_at__isnull=False)
    return list(rows.order_by("-finished_at")[:RECENT_SHOWN])


def needs_attention(user: AnyUser) -> list[Attention]:
    """A full disk, runs without contact, imports to review, and runs that failed lately."""
    found = [*_disk(user), *_silent(user), *_imports(user), *_failed(user)]
    return found[:ATTENTION_SHOWN]


def _disk(user: AnyUser) -> list[Attention]:
    """The disk of the studio, for those who may make room on it."""
    if not is_administrator(user):
        return []
    disk = shutil.disk_usage(settings.DATA_DIR)
    if not is_almost_full(total_bytes=disk.total, free_bytes=disk.free):
        return []
    text = _("%(free)d GB of %(total)d GB are free.") % {"free": disk.free // 2**30, "total": disk.total // 2**30}
    return [Attention("bi-hdd", _("The disk is almost full"), text, reverse("disk"))]


def _silent(user: AnyUser) -> list[Attention]:
    rows = _listed(user).filter(status=Status.RUNNING, heartbeat_at__lt=heartbeat_deadline())
    text = _("No contact with its worker")
    return [Attention("bi-question-circle", run.name, text, run.get_absolute_url()) for run in rows[:ATTENTION_SHOWN]]


def _imports(user: AnyUser) -> list[Attention]:
    rows = visible_to(user, Dataset.objects.filter(status=Dataset.Status.PROPOSED)).order_by("-pk")[:ATTENTION_SHOWN]
    text = _("Import to review")
    return [
        Attention("bi-images", dataset.name, text, dataset.get_absolute_url())
        for dataset in rows
        if can(user, Verb.CONTROL, dataset)
    ]


def _failed(user: AnyUser) -> list[Attention]:
    since = timezone.now() - timedelta(days=FAILED_DAYS)
    rows = _listed(user).filter(status=Status.FAILED, finished_at__gte=since).order_by("-finished_at")
    text = _("Failed")
    return [Attention("bi-x-octagon", run.name, text, run.get_absolute_url()) for run in rows[:ATTENTION_SHOWN]]


@dataclass(frozen=True)
class Strip:
    """The queue and the devices in one line. Runs that the user may not see are counted."""

    queued: int
    running: int
    devices: int
    used: int
    has_live_host: bool


def strip() -> Strip:
    hosts = [host.pk for host in Host.objects.all() if not host.is_away]
    devices = set(Device.objects.filter(host__in=hosts, is_present=True).values_list("pk", flat=True))
    held = set(DeviceHold.objects.filter(released_at=None).values_list("device", flat=True))
    held |= set(held_by_jobs().values_list("pk", flat=True))
    counts = TrainingRun.objects.order_by()
    return Strip(
        queued=counts.filter(status=Status.QUEUED).count(),
        running=counts.filter(status=Status.RUNNING).count(),
        devices=len(devices),
        used=len(devices & held),
        has_live_host=bool(hosts),
    )


def first_steps(user: AnyUser) -> Sequence[Step]:
    """Dataset, run, model, export; none once all are done, and none for users who may not create anything."""
    if not can(user, Verb.CREATE):
        return []
    datasets = visible_to(user, Dataset.objects.filter(status=Dataset.Status.READY))
    models = visible_to(user, Weights.objects.filter(state=Weights.State.READY))
    exports = visible_to(user, Job.objects.filter(kind=Job.Kind.EXPORT))
    done = [
        datasets.exists(),
        visible_to(user, TrainingRun.objects.filter(status=Status.COMPLETED)).exists(),
        models.exists(),
        exports.exists(),
    ]
    if all(done[:3]):  # exports are kept for some days only
        return []
    steps = [
        (_("Dataset"), _("Import images with labels."), reverse("dataset_import")),
        (_("Run"), _("Train a model on a dataset: a quick look takes minutes."), f"{reverse('run_new')}?preset=quick"),
        (_("Model"), _("Save the best checkpoint of a run and try it."), reverse("weights_list")),
        (_("Export"), _("Export a model for other programs."), reverse("weights_list")),
    ]
    return [Step(*step, is_done) for step, is_done in zip(steps, done, strict=True)]
