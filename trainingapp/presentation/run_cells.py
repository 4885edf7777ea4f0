"""The cells of lists that change while a run trains, rendered by pages and streams alike.

Made here and not in templates: a list has hundreds of them.
"""

from collections.abc import Callable

from django.utils.html import format_html
from django.utils.translation import gettext

from trainingapp.models import TrainingRun
from trainingapp.presentation.badges import status_badge
from trainingapp.presentation.labels import metric_label
from trainingapp.presentation.numbers import metric, unlocalized
from trainingapp.presentation.text import Text
from trainingapp.presentation.times import duration


def _progress(run: TrainingRun) -> Text:
    """A bar, and the epoch below it."""
    label = gettext("Progress of %(name)s") % {"name": run.name}
    text = gettext("Epoch %(epoch)s of %(total)s") % {"epoch": run.epoch, "total": run.total_epochs}
    return format_html(
        '<progress class="bar bar-thin bar-slim" max="1" value="{}" aria-label="{}"></progress>'
        '<div class="quiet small numbers mt-1 text-nowrap">{}</div>',
        unlocalized(run.progress),
        label,
        text,
    )


def _best(run: TrainingRun) -> Text:
    """The best value, and its metric below it."""
    value = metric(run.best_metric, run.best_metric_name)
    if not run.best_metric_name:
        return value
    return format_html('{}<div class="quiet small">{}</div>', value, metric_label(run.best_metric_name))


CELLS: dict[str, Callable[[TrainingRun], Text]] = {
    "badge": lambda run: status_badge(run.shown_status),
    "progress": _progress,
    "best": _best,
    "time": lambda run: duration(run.elapsed_s or None),
    "left": lambda run: duration(run.eta_s),
}


def run_cell(name: str, run: TrainingRun) -> Text:
    """The content of the cell `name` of a run."""
    return CELLS[name](run)
