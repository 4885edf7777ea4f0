"""How the studio writes durations, numbers and states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from trainingapp.engine.metric_names import METRICS

if TYPE_CHECKING:
    from trainingapp.models import Checkpoint, Dataset, RunEvent, TrainingRun

register = template.Library()

#: Shown status -> (Bootstrap icon, label). The icon and the words say it; the colour only repeats it.
STATUSES: dict[str, tuple[str, Any]] = {
    "pending": ("bi-circle", _("Not started")),
    "queued": ("bi-hourglass-split", _("Queued")),
    "running": ("bi-play-circle-fill", _("Running")),
    "pausing": ("bi-pause-circle", _("Pausing")),
    "paused": ("bi-pause-circle-fill", _("Paused")),
    "stopping": ("bi-stop-circle", _("Stopping")),
    "stopped": ("bi-stop-circle-fill", _("Stopped")),
    "silent": ("bi-question-circle-fill", _("No contact")),
    "completed": ("bi-check-circle-fill", _("Completed")),
    "failed": ("bi-x-octagon-fill", _("Failed")),
    "inspecting": ("bi-search", _("Inspecting")),
    "proposed": ("bi-question-circle-fill", _("Waits for you")),
    "importing": ("bi-arrow-repeat", _("Importing")),
    "ready": ("bi-check-circle-fill", _("Ready")),
    "refused": ("bi-x-octagon-fill", _("Refused")),
}
VERBS: dict[str, tuple[str, Any, str]] = {
    "start": ("bi-play-fill", _("Start"), "btn-primary"),
    "resume": ("bi-play-fill", _("Resume"), "btn-primary"),
    "pause": ("bi-pause-fill", _("Pause"), "btn-outline-secondary"),
    "stop": ("bi-stop-fill", _("Stop"), "btn-outline-secondary"),
    "delete": ("bi-trash3", _("Delete"), "btn-outline-danger"),
}
PHASES: dict[str, Any] = {
    "starting": _("starting"),
    "train": _("training"),
    "validate": _("validating"),
    "save": _("saving"),
}
#: What a dataset was made from, in its users' words.
DATASET_FORMATS: dict[str, Any] = {
    "class_folders": _("Class folders"),
    "coco": _("COCO JSON"),
    "yolo": _("YOLO"),
    "voc": _("Pascal VOC"),
    "masks": _("Pictures with masks"),
    "csv": _("CSV list"),
    "scenes": _("Demo scenes"),
}
RECIPES: dict[str, Any] = {
    "classification": _("Classification"),
    "detection": _("Detection"),
    "segmentation": _("Segmentation"),
}
#: Why a checkpoint was saved.
REASONS: dict[str, Any] = {
    "epoch": _("end of an epoch"),
    "autosave": _("autosave"),
    "pause": _("paused"),
    "stop": _("stopped"),
    "interrupt": _("interrupted"),
}
#: Why a checkpoint stays.
KEPT_BECAUSE: dict[str, Any] = {
    "best": _("best"),
    "pinned": _("kept by hand"),
    "resume": _("to go on from"),
    "last": _("among the newest"),
    "best of all": _("among the best"),
    "every": _("its epoch's turn"),
}
#: What takes space and belongs to nobody.
SPACE: dict[str, Any] = {
    "runs": _("Runs"),
    "datasets": _("Datasets"),
    "weights": _("Weights"),
    "trash": _("Trash"),
    "jobs": _("Jobs"),
    "previews": _("Previews"),
    "uploads": _("Uploads"),
    "downloaded weights": _("Downloaded weights"),
    "database": _("Database"),
}
#: Kind of error -> what happened, and what to do about it.
ADVICE: dict[str, tuple[Any, Any]] = {
    "out_of_memory": (
        _("The memory ran out"),
        _("Halve the batch size or the image size, choose a smaller model, or turn on mixed precision."),
    ),
    "bad_config": (
        _("The configuration cannot be used"),
        _("Use it for a new run, and change the setting that is named here."),
    ),
    "bad_data": (
        _("A picture or the dataset could not be read"),
        _("Look at the file that is named here; import the dataset again when it is damaged."),
    ),
    "non_finite_loss": (
        _("The loss was no finite number"),
        _("Lower the learning rate, lengthen the warm-up, or turn off mixed precision."),
    ),
    "weights_unavailable": (
        _("The pretrained weights could not be had"),
        _("Check the connection, put the file into the weights folder, or train without pretrained weights."),
    ),
    "disk_full": (
        _("The disk is full"),
        _("Delete runs or datasets that you no longer need, then resume: nothing saved before is lost."),
    ),
    "lost_trainer": (
        _("The trainer process died again and again"),
        _("The lines show its last words. When the system killed it for its memory, use less; then resume."),
    ),
    "lost_worker": (
        _("The worker was lost again and again"),
        _("Look after the machine that it ran on, then resume: the run goes on from its newest checkpoint."),
    ),
    "error": (_("The run failed"), _("The lines show where. Resume it to try again from its newest checkpoint.")),
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decorative Bootstrap icon; the words beside it say what it means."""
    return format_html('<i class="bi {}" aria-hidden="true"></i>', name)


@register.simple_tag
def status_badge(status: str) -> SafeString:
    symbol, label = STATUSES.get(status, ("bi-circle", status))
    return format_html(
        '<span class="status status-{}"><i class="bi {}" aria-hidden="true"></i>{}</span>', status, symbol, label
    )


@register.simple_tag
def verb_button(verb: str) -> dict[str, Any]:
    symbol, label, css = VERBS[verb]
    return {"icon": symbol, "label": label, "css": css}


@register.filter
def status_label(status: str) -> Any:
    return STATUSES.get(status, ("", status))[1]


@register.filter
def phase_label(phase: str) -> Any:
    return PHASES.get(phase, phase)


@register.filter
def format_label(name: str) -> Any:
    return DATASET_FORMATS.get(name, name)


@register.filter
def recipe_label(name: str) -> Any:
    return RECIPES.get(name, name)


@register.filter
def metric_label(name: str) -> Any:
    known = METRICS.get(name)
    return gettext(known.label) if known else name.replace("_", " ").capitalize()


@register.filter
def metric(value: float | None, name: str = "") -> str:
    """A metric as people read it: shares in per cent, others with four significant digits."""
    if value is None:
        return "–"
    return f"{value * 100:.1f} %" if name in METRICS and METRICS[name].is_share else f"{value:.4g}"


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f} %"


@register.filter
def whole_percent(share: float | None) -> int:
    """0.4567 -> 45: never 100 before the end."""
    return int((share or 0) * 100)


@register.filter
def duration(seconds: float | None) -> str:
    """59 -> 59 s, 61 -> 1 min 1 s, 3700 -> 1 h 1 min, 90000 -> 1 d 1 h."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return gettext("%(seconds)d s") % {"seconds": whole}
    if whole < 3600:
        return gettext("%(minutes)d min %(seconds)d s") % {"minutes": whole // 60, "seconds": whole % 60}
    if whole < 86_400:
        return gettext("%(hours)d h %(minutes)d min") % {"hours": whole // 3600, "minutes": whole % 3600 // 60}
    return gettext("%(days)d d %(hours)d h") % {"days": whole // 86_400, "hours": whole % 86_400 // 3600}


@register.filter
def heat(share: float) -> int:
    """A share of one as the number of one of the colours heat-0 to heat-10; only nothing at all is 0."""
    return max(1, round(share * 10)) if share > 0 else 0


@register.filter
def lookup(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.filter
def kept_because(reason: str) -> Any:
    return KEPT_BECAUSE.get(reason, reason)


@register.filter
def space_label(kind: str) -> Any:
    return SPACE.get(kind, kind)


@register.filter
def times(count: int) -> str:
    return ngettext("%(count)d time", "%(count)d times", count) % {"count": count}


@register.filter
def event_text(event: RunEvent) -> str:
    """One event as a line of the log."""
    data = event.data
    if event.type == "checkpoint":
        return _checkpoint_text(data)
    if event.type != "status":
        return str(data.get("message", ""))
    by = f" ({data['by']})" if data.get("by") else ""
    if "to" in data:
        text = gettext("The run is now %(status)s") % {"status": str(status_label(data["to"])).lower()} + by + "."
        return f"{text} {gettext(data['message'])}" if data.get("message") else text
    if data.get("wanted"):
        wish = {"pause": gettext("Asked to pause"), "stop": gettext("Asked to stop")}.get(
            data["wanted"], data["wanted"]
        )
        return f"{wish}{by}."
    return _state_text(event)


def _checkpoint_text(data: dict[str, Any]) -> str:
    text = gettext("Saved %(file)s (%(size)s).") % {"file": data["file"], "size": filesizeformat(data["size_bytes"])}
    return f"{text} {gettext('The best so far.')}" if data.get("is_best") else text


def _state_text(event: RunEvent) -> str:
    state = event.data.get("state", "")
    if state == "failed":
        return gettext("The trainer failed: %(message)s") % {"message": event.data.get("message", "")}
    if state != "started":
        return gettext("The trainer left: %(state)s.") % {"state": status_label(state)}
    values = {"attempt": event.attempt, "device": event.data.get("device", ""), "step": event.step}
    if event.data.get("resumed_from"):
        text = gettext("Attempt %(attempt)s goes on from step %(step)s on %(device)s, with %(file)s.")
        return text % (values | {"file": event.data["resumed_from"]})
    return gettext("Attempt %(attempt)s starts on %(device)s.") % values


@register.filter
def marks_attempt(event: RunEvent) -> bool:
    """Whether the line is where a trainer process begins."""
    return event.type == "status" and event.data.get("state") == "started"


@register.filter
def unlocalized(number: float) -> str:
    """A number for machines: no separator of thousands, a dot for the decimals."""
    return f"{number:.4f}" if isinstance(number, float) else str(number)


@register.simple_tag
def status_icon(status: str) -> SafeString:
    return icon(STATUSES.get(status, ("bi-circle", ""))[0])


@register.simple_tag
def notice_icon(level: str) -> SafeString:
    names = {"error": "bi-x-octagon-fill", "warning": "bi-exclamation-triangle-fill"}
    good = {"good": "bi-check-circle-fill", "success": "bi-check-circle-fill"}
    return icon((names | good).get(level, "bi-info-circle-fill"))


@register.simple_tag
def event_icon(event: RunEvent) -> SafeString:
    """The sign before a line of the log: that of its level, or of what it is about."""
    if event.level in ("warning", "error"):
        return notice_icon(event.level)
    return icon({"status": "bi-flag-fill", "checkpoint": "bi-save-fill"}.get(event.type, "bi-dot"))


@register.simple_tag
def split_count(dataset: Dataset, split: str) -> int:
    return dataset.count(split)


@register.simple_tag
def advice(error_class: str) -> dict[str, Any]:
    """What happened in a few words, and what a person can do."""
    title, todo = ADVICE.get(error_class, ADVICE["error"])
    return {"title": title, "todo": todo}


@register.filter
def reason_label(reason: str) -> Any:
    return REASONS.get(reason, reason)


@register.filter
def checkpoint_result(checkpoint: Checkpoint, run: TrainingRun) -> str:
    """The metric that decides, as it stood at this checkpoint."""
    return metric(checkpoint.metrics.get(run.best_metric_name), run.best_metric_name)


@register.filter
def setting_value(value: object) -> Any:
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    return f"{value:g}" if isinstance(value, float) else value
