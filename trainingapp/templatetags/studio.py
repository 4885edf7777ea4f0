"""Template tags and filters of all pages; what they show is written in `trainingapp.presentation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from django import template

from trainingapp.models import Checkpoint, Dataset, TrainingRun
from trainingapp.models.verbs import task_problem
from trainingapp.presentation import badges, event_text, labels, numbers, punctuation, times
from trainingapp.presentation.failure_advice import advice
from trainingapp.presentation.messages import text_of
from trainingapp.presentation.run_cells import run_cell

register = template.Library()
Value = TypeVar("Value")

for tag in (
    badges.icon,
    badges.status_badge,
    badges.model_badge,
    badges.status_icon,
    badges.notice_icon,
    badges.log_line,
    badges.star_button,
    advice,
):
    register.simple_tag(tag)
register.simple_tag(times.time_range, name="span")
register.simple_tag(run_cell)

for read in (
    *(event_text.failure_text, event_text.journal_text, event_text.damage_text, event_text.resume_check_reason),
    *(labels.status_label, labels.phase_label, labels.format_label, labels.task_label, labels.metric_label),
    *(labels.split_label, labels.level_label, labels.history_label, labels.precision_used),
    *(labels.reason_label, labels.request_label, labels.kept_because, labels.space_label, labels.resume_check_look),
    *(numbers.metric, numbers.percent, numbers.whole_percent, numbers.small_share, numbers.heat, numbers.times),
    *(numbers.unlocalized, numbers.grouped, numbers.setting_value),
    *(punctuation.listed, punctuation.labelled),
    *(times.duration, times.worker_start, times.worker_host, times.as_moment),
):
    register.filter(read)
register.filter("readable", text_of)
register.filter(task_problem)


@register.filter
def beside(values: Iterable[Value], others: Iterable[object]) -> list[tuple[Value, object]]:
    """Pairs of two lists of the same length: the cells of a row, and what heads their columns."""
    return list(zip(values, others, strict=True))


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
