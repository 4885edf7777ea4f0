"""Template tags and filters of all pages; what they show is written in `trainingapp.presentation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django import template
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from trainingapp.models import Checkpoint, Dataset, TrainingRun
from trainingapp.presentation import badges, event_text, labels, numbers, times
from trainingapp.presentation.failure_advice import advice
from trainingapp.presentation.messages import text_of

register = template.Library()
Value = TypeVar("Value")

for tag in (badges.icon, badges.status_badge, badges.status_icon, badges.notice_icon, badges.event_icon, advice):
    register.simple_tag(tag)
register.simple_tag(times.time_range, name="span")

for read in (
    *(event_text.event_text, event_text.marks_attempt),
    *(event_text.failure_text, event_text.journal_text, event_text.damage_text, event_text.resume_check_reason),
    *(labels.status_label, labels.phase_label, labels.format_label, labels.task_label, labels.metric_label),
    *(labels.reason_label, labels.request_label, labels.kept_because, labels.space_label, labels.resume_check_look),
    *(numbers.metric, numbers.percent, numbers.whole_percent, numbers.small_share, numbers.heat, numbers.times),
    *(numbers.unlocalized, numbers.grouped, numbers.setting_value),
    *(times.duration, times.worker_start, times.worker_host, times.as_moment),
):
    register.filter(read)
register.filter("readable", text_of)


VERBS: dict[str, tuple[str, str | Promise, str]] = {
    "start": ("bi-play-fill", _("Start"), "btn-primary"),
    "resume": ("bi-play-fill", _("Resume"), "btn-primary"),
    "pause": ("bi-pause-fill", _("Pause"), "btn-outline-secondary"),
    "stop": ("bi-stop-fill", _("Stop"), "btn-outline-secondary"),
    "force_stop": ("bi-lightning-charge-fill", _("Force to stop"), "btn-outline-danger"),
    "delete": ("bi-trash3", _("Delete"), "btn-outline-danger"),
}
#: Entries of a run's menu -> (icon, label, route, whether it is pressed and not opened).
MENU: dict[str, tuple[str, str | Promise, str, bool]] = {
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


@register.simple_tag
def verb_button(verb: str) -> dict[str, object]:
    symbol, label, css = VERBS[verb]
    return {"icon": symbol, "label": label, "css": css}


@register.simple_tag
def menu_entry(verb: str, run: TrainingRun) -> dict[str, object]:
    """An entry of the run's menu: what it says and where it leads; `posts` where it is pressed and not opened."""
    symbol, label, route, posts = MENU[verb]
    if verb == "clone":
        url = f"{reverse(route)}?clone={run.pk}"
    else:
        url = reverse(route, args=[run.pk, verb] if posts else [run.pk])
    return {"icon": symbol, "label": label, "url": f"{url}#sharing" if verb == "share" else url, "posts": posts}


@register.filter
def lookup(mapping: Mapping[str, Value], key: str) -> Value | None:
    return mapping.get(key)


@register.simple_tag
def split_count(dataset: Dataset, split: str) -> int:
    return dataset.count(split)


@register.filter
def checkpoint_result(checkpoint: Checkpoint, run: TrainingRun) -> str:
    """The value of the metric that selects the best model, at this checkpoint."""
    return numbers.metric(checkpoint.metrics.get(run.best_metric_name), run.best_metric_name)
