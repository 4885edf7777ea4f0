"""How the studio writes durations, numbers and states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.presentation.choices import choice_label
from trainingapp.presentation.sentences import in_readers_language, words_in_readers_language

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
    "force_stop": ("bi-lightning-charge-fill", _("Force to stop"), "btn-outline-danger"),
    "delete": ("bi-trash3", _("Delete"), "btn-outline-danger"),
}
#: Entries of a run's menu -> (icon, label, route, whether it is pressed and not opened).
MENU: dict[str, tuple[str, Any, str, bool]] = {
    "checkpoint": ("bi-save", _("Save a checkpoint now"), "run_order", True),
    "evaluate": ("bi-clipboard-data", _("Evaluate now"), "run_order", True),
    "epochs": ("bi-arrows-expand-vertical", _("Change the epochs"), "run_epochs", False),
    "fork": ("bi-signpost-split", _("Fork from a checkpoint"), "run_fork", False),
    "clone": ("bi-copy", _("Clone and edit"), "run_new", False),
    "retry": ("bi-arrow-repeat", _("Try again"), "run_order", True),
    "edit": ("bi-sliders", _("Name and limits"), "run_edit", False),
    "share": ("bi-people", _("Sharing"), "run_detail", False),
    "force_stop": ("bi-lightning-charge-fill", _("Force to stop"), "run_force_stop", False),
    "delete": ("bi-trash3", _("Delete"), "run_delete", False),
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
    "masks": _("Images with masks"),
    "csv": _("CSV list"),
    "scenes": _("Demo scenes"),
}
#: Why a checkpoint was saved.
REASONS: dict[str, Any] = {
    "epoch": _("end of an epoch"),
    "autosave": _("autosave"),
    "pause": _("paused"),
    "stop": _("stopped"),
    "interrupt": _("interrupted"),
    "command": _("asked for"),
    "epochs": _("change of epochs"),
}
#: What a trainer can be asked to do between two steps.
ORDERS: dict[str, Any] = {
    "checkpoint": _("Asked for a checkpoint"),
    "evaluate": _("Asked for an evaluation"),
    "epochs": _("Asked for another number of epochs"),
}
#: What a step made again after a reload has shown -> (icon, words, explanation).
PROOFS: dict[str, tuple[str, Any, Any]] = {
    "exact": (
        "bi-patch-check-fill",
        _("Goes on exactly"),
        _("A step was made again after the reload: it is the same bit by bit."),
    ),
    "near": (
        "bi-patch-check",
        _("Goes on nearly exactly"),
        _("A step was made again after the reload: it differs a little."),
    ),
    "differs": (
        "bi-exclamation-triangle-fill",
        _("Goes on differently"),
        _("A step was made again after the reload: it is another one."),
    ),
    "unknown": (
        "bi-question-circle",
        _("Exactness not shown"),
        _("The trainer ended before it made a step after that checkpoint: there is nothing to compare with."),
    ),
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
        _("An image or the dataset could not be read"),
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
    "damaged_weights": (
        _("The weights to start from are damaged"),
        _("Restore the file from a backup, then resume; or start a new run from other weights."),
    ),
    "disk_full": (
        _("The disk is full"),
        _("Delete runs or datasets that you no longer need, then resume: nothing saved before is lost."),
    ),
    "read_only": (
        _("Nothing can be written to the run's folder"),
        _("Look at the disk (dmesg, mount), make it writable again, then resume: nothing saved before is lost."),
    ),
    "lost_trainer": (
        _("The trainer process died again and again"),
        _("The lines show its last words. When the system killed it for its memory, use less; then resume."),
    ),
    "lost_worker": (
        _("The worker was lost again and again"),
        _("Look after the machine that it ran on, then resume: the run goes on from its newest checkpoint."),
    ),
    "hang": (
        _("The trainer hung"),
        _("The lines show where each of its threads stood. Loader processes that wait for each other are one cause."),
    ),
    "device_error": (
        _("The GPU or its driver reported an error"),
        _("A label outside the classes can cause it, and so can a failing GPU: look at the lines, then at nvidia-smi."),
    ),
    "still_running": (
        _("Another trainer still works on this run"),
        _("It is tried again. When it stays so, end the process that holds trainer.lock in the run's folder."),
    ),
    "superseded": (
        _("The run was taken over by another host"),
        _("Nothing: the trainer here saw it and left. See that this machine reaches the database."),
    ),
    "time_limit": (
        _("The time limit was reached"),
        _("Resume it to go on for as long again, or give it a higher limit first."),
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


@register.simple_tag
def menu_entry(verb: str, run: TrainingRun) -> dict[str, Any]:
    """An entry of the run's menu: what it says and where it leads; `posts` where it is pressed and not opened."""
    symbol, label, route, posts = MENU[verb]
    if verb == "clone":
        url = f"{reverse(route)}?clone={run.pk}"
    else:
        url = reverse(route, args=[run.pk, verb] if posts else [run.pk])
    return {"icon": symbol, "label": label, "url": f"{url}#sharing" if verb == "share" else url, "posts": posts}


@register.filter
def order_label(command: str) -> Any:
    return ORDERS.get(command, command)


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
def task_label(name: str) -> Any:
    return choice_label("task", name)


@register.filter
def metric_label(name: str) -> Any:
    known = METRICS.get(name)
    return gettext(known.label) if known else name.replace("_", " ").capitalize()


@register.filter
def metric(value: float | None, name: str = "") -> str:
    """A metric as people read it: shares in per cent, others with four significant digits at most."""
    if value is None:
        return "–"
    return percent(value) if name in METRICS and METRICS[name].is_share else number_text(value)


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


@register.simple_tag
def span(first: datetime | None, last: datetime | None) -> str:
    """A range of times: 14:05 – 14:20, with the date where it is not today; empty where nothing is known."""
    if first is None or last is None:
        return ""
    texts = list(dict.fromkeys(_moment(each) for each in (first, last)))
    return " – ".join(texts)


def _moment(when: datetime) -> str:
    local = timezone.localtime(when)
    time = date_format(local, "H:i")
    return time if local.date() == timezone.localdate() else f"{date_format(local, 'MONTH_DAY_FORMAT')} {time}"


@register.filter
def worker_start(worker: str) -> datetime | None:
    """When the worker "host:pid:start" was started."""
    try:
        return datetime.fromtimestamp(float(worker.rpartition(":")[2]), UTC)
    except ValueError:
        return None


@register.filter
def worker_host(worker: str) -> str:
    return worker.rsplit(":", 2)[0]


@register.filter
def as_moment(text: str | None) -> datetime | None:
    """A time that is kept as text, as the pages show times."""
    return datetime.fromisoformat(text) if text else None


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


#: Messages that say no more than the status that they come with.
_SAID_BY_STATUS = ("Completed.", "Paused.", "Stopped.")


@register.filter
def event_text(event: RunEvent) -> str:
    """One event as a line of the log."""
    data = event.data
    if event.type == "checkpoint":
        return _checkpoint_text(data)
    if event.type != "status":
        return in_readers_language(str(data.get("message", "")))
    if "to" in data:
        text = gettext("The run is now %(status)s") % {"status": str(status_label(data["to"])).lower()}
        text = _full_stop(text + _by(data))
        message = data.get("message", "")
        return text if message in ("", *_SAID_BY_STATUS) else f"{text} {in_readers_language(message)}"
    if data.get("wanted"):
        wishes = {
            "pause": gettext("Asked to pause"),
            "stop": gettext("Asked to stop"),
            "kill": gettext("To be stopped by force"),
        }
        return _full_stop(wishes.get(data["wanted"], data["wanted"]) + _by(data))
    if data.get("waits") is False:
        return _full_stop(gettext("To be tried again at once") + _by(data))
    return _state_text(event)


def _by(data: dict[str, Any]) -> str:
    return gettext(" (%(name)s)") % {"name": data["by"]} if data.get("by") else ""


def _full_stop(text: str) -> str:
    return gettext("%(sentence)s.") % {"sentence": text}


def _checkpoint_text(data: dict[str, Any]) -> str:
    text = gettext("Saved %(file)s (%(size)s).") % {"file": data["file"], "size": filesizeformat(data["size_bytes"])}
    best = gettext("The best so far.")
    return f"{text} {best}" if data.get("is_best") else text


def _state_text(event: RunEvent) -> str:
    state = event.data.get("state", "")
    if "order" in event.data:
        return _order_text(event.data)
    if state in ("request_done", "order"):  # "order" and "proof": rows of version 0.1
        return gettext("Done as asked: %(result)s") % {"result": in_readers_language(event.data.get("result", ""))}
    if state in ("resume_check", "proof"):
        return in_readers_language(event.data.get("message", ""))
    if state == "failed":
        message = in_readers_language(event.data.get("message", ""))
        return gettext("The trainer failed: %(message)s") % {"message": message}
    if state != "started":
        return gettext("The trainer left: %(state)s.") % {"state": status_label(state)}
    values = {"attempt": event.attempt, "device": event.data.get("device", ""), "step": event.step}
    if event.data.get("resumed_from"):
        text = gettext("Attempt %(attempt)s goes on from step %(step)s on %(device)s, with %(file)s.")
        return text % (values | {"file": event.data["resumed_from"]})
    return gettext("Attempt %(attempt)s starts on %(device)s.") % values


def _order_text(data: dict[str, Any]) -> str:
    number = f": {data['epochs']}" if "epochs" in data else ""
    return _full_stop(f"{ORDERS.get(data['order'], data['order'])}{number}{_by(data)}")


@register.filter
def readable(sentence: str) -> str:
    """A sentence of a trainer or a worker in the reader's language, where it is known."""
    return in_readers_language(sentence)


@register.filter
def readable_words(words: str) -> str:
    """What is wrong with a file, or why something is so, in the reader's language where it is known."""
    return words_in_readers_language(words)


@register.filter
def marks_attempt(event: RunEvent) -> bool:
    """Whether the line is where a trainer process begins."""
    return event.type == "status" and event.data.get("state") == "started"


@register.filter
def unlocalized(number: float) -> str:
    """A number for machines: no separator of thousands, a dot for the decimals."""
    return f"{number:.4f}" if isinstance(number, float) else str(number)


@register.filter
def grouped(number: int) -> str:
    """A long number as people read it: 15,348,219."""
    return number_format(number, force_grouping=True)


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
    """What happened in a few words, and what a person can do. The words of an administrator's rule go first."""
    from trainingapp.models import FailureRule

    title, todo = ADVICE.get(error_class, ADVICE["error"])
    rule = FailureRule.objects.filter(error_class=error_class, is_enabled=True).first()
    if rule is None:
        return {"title": title, "todo": todo}
    return {"title": title if error_class in ADVICE else rule.name, "todo": rule.advice or todo}


@register.filter
def small_share(share: float) -> str:
    """A difference as people read it: 0.00012 -> 0.012 %."""
    return f"{number_text(share * 100, digits=2)} %"


@register.simple_tag
def proof_words(proof: dict[str, Any]) -> dict[str, Any]:
    """The proof of a resume as a badge: its icon, its words and what they mean."""
    symbol, label, meaning = PROOFS.get(proof.get("verdict", ""), PROOFS["unknown"])
    return {"icon": symbol, "label": label, "meaning": meaning}


@register.filter
def reason_label(reason: str) -> Any:
    return REASONS.get(reason, reason)


@register.filter
def checkpoint_result(checkpoint: Checkpoint, run: TrainingRun) -> str:
    """The metric that decides, as it stood at this checkpoint."""
    return metric(checkpoint.metrics.get(run.best_metric_name), run.best_metric_name)


@register.filter
def setting_value(value: object, name: str = "") -> Any:
    """A value of the setting `name` as people read it."""
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if value is None or value == "":
        return "–"
    return number_text(value, digits=6) if isinstance(value, float) else choice_label(name, value)
