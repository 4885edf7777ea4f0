"""Labels of statuses, phases, reasons and kinds in the interface. Stored values do not change.

A value without a label, such as one of a later version, is shown as it is stored.
"""

from collections.abc import Mapping
from typing import NamedTuple

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.messages.dataset_reading import FORMAT_TITLES
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.models import Weights
from trainingapp.presentation.choices import choice_label
from trainingapp.presentation.text import Text


class StatusLook(NamedTuple):
    """The Bootstrap icon and the label of a status. They carry the meaning; the colour only repeats it."""

    icon: str
    label: Text


#: By the status that is shown, of runs (see `TrainingRun.shown_status`) and of datasets.
STATUSES: dict[str, StatusLook] = {
    "pending": StatusLook("bi-circle", _("Not started")),
    "queued": StatusLook("bi-hourglass-split", _("Queued")),
    "running": StatusLook("bi-play-circle-fill", _("Running")),
    "pausing": StatusLook("bi-pause-circle", _("Pausing")),
    "paused": StatusLook("bi-pause-circle-fill", _("Paused")),
    "stopping": StatusLook("bi-stop-circle", _("Stopping")),
    "stopped": StatusLook("bi-stop-circle-fill", _("Stopped")),
    "silent": StatusLook("bi-question-circle-fill", _("No contact")),
    "completed": StatusLook("bi-check-circle-fill", _("Completed")),
    "failed": StatusLook("bi-x-octagon-fill", _("Failed")),
    "inspecting": StatusLook("bi-search", _("Inspecting")),
    "proposed": StatusLook("bi-question-circle-fill", _("Awaiting confirmation")),
    "importing": StatusLook("bi-arrow-repeat", _("Importing")),
    "ready": StatusLook("bi-check-circle-fill", _("Ready")),
    "refused": StatusLook("bi-x-octagon-fill", _("Rejected")),
}
SPLITS: dict[str, Text] = {"train": _("Training"), "val": _("Validation")}
LEVELS: dict[str, Text] = {"error": _("Error"), "warning": _("Warning")}
PHASES: dict[str, Text] = {
    "fetching": _("fetching the dataset"),
    "starting": _("starting"),
    "train": _("training"),
    "validate": _("validating"),
    "save": _("saving"),
}
#: The formats that a dataset can be imported from.
DATASET_FORMATS: dict[str, Text] = {name: _(template.text) for name, template in FORMAT_TITLES.items()}
#: Why a checkpoint was saved.
SAVE_REASONS: dict[str, Text] = {
    "epoch": _("end of an epoch"),
    "autosave": _("autosave"),
    "pause": _("paused"),
    "stop": _("stopped"),
    "interrupt": _("interrupted"),
    "command": _("requested"),
    "epochs": _("change of epochs"),
}
#: Requests to a running trainer.
REQUESTS: dict[str, Text] = {
    "checkpoint": _("Checkpoint requested"),
    "evaluate": _("Evaluation requested"),
    "epochs": _("Change of the number of epochs requested"),
}
#: Why the retention policy keeps a checkpoint.
KEPT_BECAUSE: dict[str, Text] = {
    "best": _("best"),
    "pinned": _("pinned"),
    "resume": _("needed to resume"),
    "last": _("among the newest"),
    "best of all": _("among the best"),
    "every": _("interval of epochs"),
}
#: What disk space is used for.
SPACE: dict[str, Text] = {
    "runs": _("Runs"),
    "datasets": _("Datasets"),
    "weights": _("Models"),
    "trash": _("Trash"),
    "jobs": _("Jobs"),
    "uploads": _("Uploads"),
    "downloaded weights": _("Downloaded weights"),
    "database": _("Database"),
}
#: Kinds of the history of a run that the retention policy removes (`runs.history`).
HISTORY: dict[str, Text] = {
    "series": _("Training points"),
    "logs": _("Lines of logs"),
    "events": _("Events of checkpoints and samples"),
}


class ResumeCheckLook(NamedTuple):
    """How the verdict of a resume check is shown: icon, label of the badge, explanation."""

    icon: str
    label: Text
    meaning: Text


RESUME_CHECKS: dict[str, ResumeCheckLook] = {
    "exact": ResumeCheckLook(
        "bi-patch-check-fill",
        _("Resume verified: bit-exact"),
        _("A step was repeated after the checkpoint was loaded: the result is identical bit by bit."),
    ),
    "near": ResumeCheckLook(
        "bi-patch-check",
        _("Resume verified: small difference"),
        _("A step was repeated after the checkpoint was loaded: the result differs slightly."),
    ),
    "differs": ResumeCheckLook(
        "bi-exclamation-triangle-fill",
        _("Resume not exact"),
        _("A step was repeated after the checkpoint was loaded: the result is different."),
    ),
    "unknown": ResumeCheckLook(
        "bi-question-circle",
        _("Resume not verified"),
        _("The trainer ended before the first step after this checkpoint: there is nothing to compare with."),
    ),
}


PRECISIONS = {"tf32": "TF32"}
"""Proper names of formats that the trainer reports in other letters."""


def precision_used(environment: Mapping[str, object]) -> str:
    """The precision and the algorithms of the last attempt, such as "bfloat16, deterministic"; empty where no trainer
    has reported them (`TrainingRun.environment`)."""
    name = str(environment.get("precision", ""))
    if not name:
        return ""
    is_deterministic = bool(environment.get("deterministic"))
    text = gettext("%(precision)s, deterministic") if is_deterministic else gettext("%(precision)s, not deterministic")
    return text % {"precision": PRECISIONS.get(name, name)}


def resume_check_look(check: Mapping[str, object]) -> ResumeCheckLook:
    """The look of a stored resume check (`TrainingRun.resume_check`)."""
    return RESUME_CHECKS.get(str(check.get("verdict", "")), RESUME_CHECKS["unknown"])


def status_label(status: str) -> Text:
    return STATUSES[status].label if status in STATUSES else status


def phase_label(phase: str) -> Text:
    return PHASES.get(phase, phase)


def format_label(name: str) -> Text:
    return DATASET_FORMATS.get(name, name)


def task_label(name: str) -> Text:
    return str(choice_label("task", name))


def metric_label(name: str) -> Text:
    known = METRICS.get(name)
    return gettext(known.label) if known else name.replace("_", " ").capitalize()


def score_label(text: str) -> str:
    """A metric's name or a label of a result file, which is stored in English, in the reader's language."""
    known = METRICS.get(text)
    return gettext(known.label if known else text) if text else ""


def reason_label(reason: str) -> Text:
    return SAVE_REASONS.get(reason, reason)


def request_label(command: str) -> Text:
    return REQUESTS.get(command, command)


def kept_because(reason: str) -> Text:
    return KEPT_BECAUSE.get(reason, reason)


def space_label(kind: str) -> Text:
    return SPACE.get(kind, kind)


def history_label(kind: str) -> Text:
    return HISTORY.get(kind, kind)


def split_label(split: str) -> Text:
    return SPLITS.get(split, split)


def level_label(level: str) -> Text:
    """The level of a line in a validation report."""
    return LEVELS.get(level, level)


def model_look(weights: Weights) -> tuple[str, StatusLook]:
    """The suffix of the CSS class and the look of a model: its job first, then its file, then what it is good for."""
    if weights.state == Weights.State.PENDING:
        return "queued", StatusLook("bi-hourglass-split", _("Creating"))
    if weights.state == Weights.State.FAILED:
        return "failed", StatusLook("bi-x-octagon-fill", _("Failed"))
    if weights.damage:
        return "failed", StatusLook("bi-exclamation-octagon-fill", _("Corrupted"))
    if not weights.is_whole:
        return "paused", StatusLook("bi-puzzle", _("Initial weights only"))
    return "completed", StatusLook("bi-check-circle-fill", _("Ready"))
