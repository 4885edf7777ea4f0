"""What the charts of a run show: their lines by group, and the marks of what happened to the run."""

from collections.abc import Collection, Mapping
from typing import TypedDict

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import JsonValue

from trainingapp.contract.system_series import CHARTS, MEASURES, SYSTEM, measure_and_rank
from trainingapp.contract.tasks.registry import METRICS, TASKS
from trainingapp.models import RunEvent, TrainingRun

#: The newest marks that charts get: a run that was paused more often has them closer than lines can be told apart.
MARKS_SHOWN = 100


_NO_VALIDATION_LOSS = _("Training only: this task has no validation loss.")


class Series(TypedDict):
    """One line of a chart. `colour` is the number of a colour of the theme; a share is shown in per cent.

    Values are divided by `divisor` and shown with `unit`.
    """

    metric: str
    split: str
    label: str | Promise
    colour: int
    dashed: bool
    is_share: bool
    unit: str
    divisor: int


class Chart(TypedDict):
    """A chart with its lines. `note` explains what it lacks; the axis of values may have to begin at zero."""

    name: str
    title: str | Promise
    series: list[Series]
    note: str | Promise
    from_zero: bool


class Mark(TypedDict):
    """Something that happened at a step; `time` is in Unix seconds."""

    step: int
    time: float
    label: str


def _series(
    metric: str, split: str, label: str | Promise, colour: int, *, dashed: bool = False, is_share: bool = False
) -> Series:
    return {
        "metric": metric,
        "split": split,
        "label": label,
        "colour": colour,
        "dashed": dashed,
        "is_share": is_share,
        "unit": "",
        "divisor": 1,
    }


def charts_of(name: str, config: Mapping[str, JsonValue]) -> list[Chart]:
    """The charts of runs of a task with such a configuration. Each split and each metric keeps its colour.

    Of a task that is not installed only the curves are known that every task has.
    """
    task = TASKS.get(name)
    has_validation_loss = task is None or task.has_validation_loss
    loss = [_series("loss", "train", _("Training"), 1)]
    if has_validation_loss:
        loss.append(_series("loss", "val", _("Validation"), 2))
    lines = enumerate(task.quality_chart_of(config) if task else (), start=1)
    quality = []
    for colour, (metric, split) in lines:
        known = METRICS[metric]
        label = gettext(known.label)
        if split == "train":
            label = gettext("%(metric)s, training") % {"metric": label}
        quality.append(_series(metric, split, label, colour, dashed=split == "train", is_share=known.is_share))
    parts = [
        _series(part, "train", gettext(label), colour)
        for colour, (part, label) in enumerate(task.loss_parts.items() if task else (), start=1)
    ]
    charts = [
        _chart("loss", _("Loss"), loss, "" if has_validation_loss else _NO_VALIDATION_LOSS),
        _chart("quality", _("Metrics"), quality),
        _chart("loss_parts", _("Loss components"), parts),
        _chart("learning_rate", _("Learning rate"), [_series("lr", "train", _("Learning rate"), 3)]),
        _chart("throughput", _("Throughput"), [_series("images_per_s", "train", _("img/s"), 4)]),
    ]
    return [chart for chart in charts if chart["series"]]


def _chart(name: str, title: str | Promise, series: list[Series], note: str | Promise = "") -> Chart:
    return {"name": name, "title": title, "series": series, "note": note, "from_zero": False}


#: Colours of lines in one chart (`--chart-1` and so on); runs on many devices use them again.
COLOURS = 8
#: Units in which measures are shown, with the divisor of the stored values.
_SHOWN_UNITS = {"bytes": ("GB", 1 << 30), "W": ("W", 1), "s": ("s", 1), "°C": ("°C", 1)}


def system_charts(measured: Collection[str]) -> list[Chart]:
    """The charts of what the run has measured of its machine, by the names of the measures."""
    charts: list[Chart] = []
    places = {name: measure_and_rank(name) for name in measured}
    order = list(MEASURES)
    known = [name for name, (measure, _rank) in places.items() if measure in MEASURES]
    known.sort(key=lambda name: (places[name][1], order.index(places[name][0])))
    has_ranks = any(rank for _measure, rank in places.values())
    for name, title in CHARTS.items():
        found = [measured_name for measured_name in known if MEASURES[places[measured_name][0]].chart == name]
        if not found:
            continue
        lines: list[Series] = []
        for number, measured_name in enumerate(found):
            measure, rank = places[measured_name]
            about = MEASURES[measure]
            label = gettext(about.label)
            if has_ranks:
                label = gettext("%(measure)s, rank %(rank)d") % {"measure": label, "rank": rank}
            colour = number % COLOURS + 1
            line = _series(measured_name, SYSTEM, label, colour, is_share=about.unit == "share")
            line["unit"], line["divisor"] = _SHOWN_UNITS.get(about.unit, ("", 1))
            lines.append(line)
        unit = lines[0]["unit"]
        words = {"title": gettext(title), "unit": unit}
        chart = _chart(name, gettext("%(title)s (%(unit)s)") % words if unit else gettext(title), lines)
        chart["from_zero"] = True
        charts.append(chart)
    return charts


def marks_of(run: TrainingRun) -> list[Mark]:
    """Where attempts resumed and the number of epochs, and with it the schedule of the learning rate, changed."""
    rows = run.events.filter(type=RunEvent.Type.STATUS, data__state__in=("started", "request_done"), step__gt=0)
    newest = [mark for row in rows.order_by("-seq")[:MARKS_SHOWN] if (mark := _mark(row))]
    return newest[::-1]


def _mark(row: RunEvent) -> Mark | None:
    if row.data["state"] == "started":
        label = resumed_label(row.attempt)
    elif row.data.get("command") == "epochs":
        label = gettext("Total epochs: %(epochs)s") % {"epochs": row.data.get("epochs") or "–"}
    else:
        return None
    return {"step": row.step or 0, "time": row.time.timestamp(), "label": label}


def resumed_label(attempt: int) -> str:
    """The mark of an attempt that continued from a checkpoint."""
    return gettext("Resumed (attempt %(attempt)d)") % {"attempt": attempt}
