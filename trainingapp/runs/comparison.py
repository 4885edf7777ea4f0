"""Several runs of one task beside each other: their metrics, curves and configurations.

The pages, the API, the command and the Markdown text are made from one `Comparison`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, TypedDict

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from pydantic import JsonValue

from trainingapp.models import TrainingRun
from trainingapp.models.run import LARGE_COLUMNS, LARGE_COLUMNS_OF_DATASET
from trainingapp.presentation.labels import task_label
from trainingapp.presentation.numbers import NO_VALUE, metric, setting_value
from trainingapp.presentation.times import duration
from trainingapp.runs.charts import charts_of
from trainingapp.runs.evaluations import Evaluated, MetricRow, metric_of, metric_rows, validations_of
from trainingapp.runs.forms import config_table
from trainingapp.runs.markdown import escaped, table_lines
from trainingapp.runs.series import Line, series_of

MOST_RUNS = 20
COLOURS = 10
"""Colours of runs in css/compare.css; beyond, they are used again with dashed lines."""

CURVE_POINTS = 500
"""Points of a curve; longer ones are thinned out so that peaks stay."""

OFFERED_RUNS = 30
"""Runs that a form offers to add; others are selected in the list of runs."""

_NOT_SHOWN = tuple(name for name in LARGE_COLUMNS if name != "metrics")

At = Literal["best", "newest"]
"""Which validation of each run is compared."""


class ComparisonError(ValueError):
    """The runs cannot be compared; the message is the reason."""


@dataclass(frozen=True)
class ComparedRun:
    """A run of a comparison. `number` counts from 1 in the order of the request; `validation` is None before the
    first. A run that `is_hidden` keeps its colour and is left out of tables and charts."""

    run: TrainingRun
    number: int
    validation: Evaluated | None
    is_base: bool
    is_hidden: bool

    @property
    def colour(self) -> int:
        return (self.number - 1) % COLOURS + 1

    @property
    def is_dashed(self) -> bool:
        return self.number > COLOURS


@dataclass(frozen=True)
class MetricColumn:
    """A metric that at least one of the runs has. `best` is the best value."""

    name: str
    label: str
    is_share: bool
    higher_is_better: bool
    best: float | None


@dataclass(frozen=True)
class MetricCell:
    """A value of a run; None where it has none. `row` compares it with that of the baseline."""

    column: MetricColumn
    row: MetricRow | None
    is_best: bool


@dataclass(frozen=True)
class RunRow:
    """A run in the table of metrics."""

    item: ComparedRun
    cells: list[MetricCell]


@dataclass(frozen=True)
class ConfigValue:
    """A value of a field in one of the runs."""

    value: JsonValue
    unit: str
    has_effect: bool
    differs: bool
    """From that of the baseline."""

    def text(self, name: str) -> str:
        shown = str(setting_value(self.value, name))
        return f"{shown} {self.unit}" if self.unit and shown != NO_VALUE else shown


@dataclass(frozen=True)
class ConfigDifference:
    """A field that is not the same in all runs; `values` are in their order."""

    name: str
    label: str
    section: str
    values: list[ConfigValue]

    @property
    def texts(self) -> list[str]:
        return [value.text(self.name) for value in self.values]

    @property
    def cells(self) -> list[tuple[ConfigValue, str]]:
        return list(zip(self.values, self.texts, strict=True))


class ChartFrame(TypedDict):
    """A chart of one metric of one split; `series` stays empty, as its lines are the runs."""

    name: str
    title: str
    metric: str
    split: str
    is_share: bool
    series: list[str]


class Curve(TypedDict):
    """The line of one run; `points` are [step, seconds since its first point, value]."""

    chart: str
    run: int
    name: str
    colour: int
    dashed: bool
    is_share: bool
    per_epoch: float
    points: list[tuple[int, float, float]]


@dataclass(frozen=True)
class Comparison:
    """Runs of one task that the reader may see, in the order of the request; the first is the baseline by default."""

    items: list[ComparedRun]
    at: At

    @property
    def task(self) -> str:
        return self.items[0].run.task

    @property
    def base(self) -> ComparedRun:
        return next(item for item in self.items if item.is_base)

    @cached_property
    def shown(self) -> list[ComparedRun]:
        return [item for item in self.items if not item.is_hidden]

    @property
    def numbers(self) -> list[int]:
        return [item.run.pk for item in self.items]

    @cached_property
    def columns(self) -> list[MetricColumn]:
        """The metrics in the order in which the task gives them."""
        found: dict[str, list[float]] = {}
        for item in self.shown:
            for name, value in (item.validation.values if item.validation else {}).items():
                found.setdefault(name, []).append(value)
        columns = []
        for name, values in found.items():
            about = metric_of(name)
            best = max(values) if about.higher_is_better else min(values)
            columns.append(MetricColumn(name, _(about.label), about.is_share, about.higher_is_better, best))
        return columns

    @cached_property
    def rows(self) -> list[RunRow]:
        """The runs with their metrics."""
        base = self.base.validation
        rows = []
        for item in self.shown:
            compared = metric_rows(item.validation, base) if item.validation else []
            by_name = {row.name: row for row in compared}
            found = [(column, by_name.get(column.name)) for column in self.columns]
            cells = [MetricCell(column, row, row is not None and row.value == column.best) for column, row in found]
            rows.append(RunRow(item, cells))
        return rows

    @cached_property
    def differences(self) -> list[ConfigDifference]:
        """The fields of the configurations that differ, in the order of the form; the dataset first."""
        tables = [{row.name: row for row in config_table(item.run.config)} for item in self.shown]
        base = {row.name: row for row in config_table(self.base.run.config)}
        names = dict.fromkeys(name for table in tables for name in table)
        found = []
        if len({item.run.dataset_id for item in self.shown}) > 1:
            own, common = [item.run.dataset for item in self.shown], self.base.run.dataset_id
            values = [ConfigValue(dataset.name, "", has_effect=True, differs=dataset.pk != common) for dataset in own]
            found.append(ConfigDifference("dataset", _("Dataset"), _("Data"), values))
        for name in names:
            rows = [table.get(name) for table in tables]
            if len({str(row.value) if row else "" for row in rows}) < 2:
                continue
            about = next(row for row in rows if row)
            values = [
                ConfigValue(row.value, row.unit, row.has_effect, name in base and row.value != base[name].value)
                if row
                else ConfigValue(None, "", False, True)
                for row in rows
            ]
            found.append(ConfigDifference(name, about.label, about.section, values))
        return found

    @property
    def difference_groups(self) -> list[tuple[str, list[ConfigDifference]]]:
        """The differences by section of the form."""
        return [(section, list(rows)) for section, rows in groupby(self.differences, key=lambda row: row.section)]

    @property
    def same_count(self) -> int:
        """The number of fields that are the same in all runs."""
        return len(config_table(self.base.run.config)) - sum(row.name != "dataset" for row in self.differences)

    @cached_property
    def charts(self) -> list[ChartFrame]:
        """One chart for each line of the charts of such runs."""
        frames: dict[str, ChartFrame] = {}
        for chart in (chart for item in self.shown for chart in charts_of(self.task, item.run.config)):
            for one in chart["series"]:
                name, title = f"{one['metric']}-{one['split']}", str(one["label"])
                if chart["name"] == "loss":
                    title = _("Loss, validation") if one["split"] == "val" else _("Loss, training")
                frames.setdefault(
                    name,
                    ChartFrame(
                        name=name,
                        title=title,
                        metric=one["metric"],
                        split=one["split"],
                        is_share=one["is_share"],
                        series=[],
                    ),
                )
        return list(frames.values())

    def curves(self) -> Iterator[Curve]:
        """The lines of the charts, run by run."""
        metrics = {chart["name"]: f"{chart['split']}/{chart['metric']}" for chart in self.charts}
        stored = series_of([item.run.pk for item in self.shown], [*metrics.values()], CURVE_POINTS)
        for item in self.shown:
            lines = stored[item.run.pk]
            since = min((line.time_s[0] for line in lines.values()), default=0.0)
            for chart in self.charts:
                if metrics[chart["name"]] in lines:
                    yield _curve(item, chart, lines[metrics[chart["name"]]], since)


def _curve(item: ComparedRun, chart: ChartFrame, line: Line, since: float) -> Curve:
    run = item.run
    points = zip(line.step, line.time_s, line.value, strict=True)
    return {
        "chart": chart["name"],
        "run": run.pk,
        "name": run.name,
        "colour": item.colour,
        "dashed": item.is_dashed,
        "is_share": chart["is_share"],
        "per_epoch": run.total_steps / run.total_epochs if run.total_epochs else 0.0,
        "points": [(step or 0, round(time_s - since, 3), value) for step, time_s, value in points],
    }


def compare(
    rows: QuerySet[TrainingRun],
    numbers: Sequence[int],
    *,
    base: int | None = None,
    hidden: Iterable[int] = (),
    at: At = "best",
) -> Comparison | None:
    """The comparison of the runs with these numbers; None where `rows`, what the reader may see, has none of them.

    Runs that are not among `rows` are left out as if they did not exist. `base` is the number of the baseline, by
    default (and where it is not among them) the first. Raises ComparisonError for more than MOST_RUNS numbers and for
    runs of different tasks.
    """
    wanted = list(dict.fromkeys(numbers))
    if len(wanted) > MOST_RUNS:
        text = _("At most %(most)d runs can be compared; %(count)d were requested.")
        raise ComparisonError(text % {"most": MOST_RUNS, "count": len(wanted)})
    chosen = rows.filter(pk__in=wanted).select_related("dataset", "owner").defer(*_NOT_SHOWN, *LARGE_COLUMNS_OF_DATASET)
    found = {run.pk: run for run in chosen}
    runs = [found[number] for number in wanted if number in found]
    if not runs:
        return None
    _require_one_task(runs)
    validations = validations_of(runs, best=at == "best")
    first = base if base in found else runs[0].pk
    left_out = {number for number in hidden if number != first}  # the baseline is always shown
    items = [
        ComparedRun(run, number, validations.get(run.pk), is_base=run.pk == first, is_hidden=run.pk in left_out)
        for number, run in enumerate(runs, start=1)
    ]
    return Comparison(items, at)


def _require_one_task(runs: Sequence[TrainingRun]) -> None:
    by_task: dict[str, list[str]] = {}
    for run in runs:
        by_task.setdefault(run.task, []).append(run.name)
    if len(by_task) > 1:
        tasks = "; ".join(f"{task_label(task)}: {', '.join(names)}" for task, names in by_task.items())
        text = _("Runs of different tasks have no common metrics. Choose runs of one task. Selected: %(tasks)s.")
        raise ComparisonError(text % {"tasks": tasks})


def comparable_runs(rows: QuerySet[TrainingRun], task: str, without: Iterable[int]) -> list[TrainingRun]:
    """The newest of the rows with the task, without those numbers: what a form offers to add."""
    return list(rows.filter(task=task).exclude(pk__in=list(without)).only("pk", "name", "created_at")[:OFFERED_RUNS])


def markdown(comparison: Comparison) -> str:
    """The metrics and the differences of the configurations as Markdown, in the active language."""
    heads = [_("Run"), _("Epoch"), *(column.label for column in comparison.columns), _("Training time")]
    lines = ["## " + _("Comparison of runs"), "", *table_lines(heads, [_text_row(row) for row in comparison.rows])]
    lines += ["", _("Differences are from %(name)s.") % {"name": escaped(comparison.base.run.name)}]
    names = [item.run.name for item in comparison.shown]
    lines += ["", "## " + _("Configuration"), ""]
    if comparison.differences:
        lines += table_lines([_("Setting"), *names], [[row.label, *row.texts] for row in comparison.differences])
    else:
        lines.append(_("The configuration is identical."))
    return "\n".join(lines) + "\n"


def _text_row(row: RunRow) -> list[str]:
    validation = row.item.validation
    cells = []
    for cell in row.cells:
        if cell.row is None:
            cells.append(NO_VALUE)
            continue
        text = metric(cell.row.value, cell.column.name)
        text = f"**{text}**" if cell.is_best else text
        cells.append(text if row.item.is_base else f"{text} ({cell.row.change_text})")
    epoch = str(validation.epoch) if validation else NO_VALUE
    time = str(duration(row.item.run.elapsed_s)) if row.item.run.elapsed_s else NO_VALUE
    return [row.item.run.name, epoch, *cells, time]
