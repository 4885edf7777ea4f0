"""What the pages of sweeps show: the list, the history, the table of trials and the plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import JsonValue

from trainingapp.accounts.permissions import visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.config import config_fields
from trainingapp.contract.setting import ConfigField
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.models import Sweep, TrainingRun, Trial
from trainingapp.models.run import LARGE_COLUMNS
from trainingapp.models.sweep import Origin, Sampler, TrialState
from trainingapp.presentation.choices import label_text
from trainingapp.presentation.labels import metric_label
from trainingapp.presentation.numbers import NO_VALUE, metric, setting_value
from trainingapp.presentation.text import Text
from trainingapp.runs.parallel import BOTTOM, TOP, Axis, Column, drawing, scaled_values, value_ticks
from trainingapp.runs.sweeps.advance import device_hours, is_higher_better
from trainingapp.runs.sweeps.sampling import LEAST_FOR_IMPORTANCE, has_optuna
from trainingapp.runs.sweeps.space import Choice, Range, SearchSpace, grid_values
from trainingapp.runs.sweeps.verbs import trial_counts

#: Trials that the plots show: the best and the newest ones of longer sweeps.
MOST_DRAWN = 300
#: Rows of the table; the table of runs has all of them.
MOST_ROWS = 200
#: Classes of colour in the plots, from the best fifth to the last.
RANKS = 5
#: What the columns of the table can be sorted by, besides the values.
SORTS = ("number", "value", "state", "time")
ORIGIN_ICONS = {
    Origin.BASE: "bi-house",
    Origin.SUGGESTED: "bi-magic",
    Origin.CONTROL: "bi-dice-5",
    Origin.ENQUEUED: "bi-person",
}
STATE_ICONS = {
    TrialState.WAITING: "bi-hourglass-split",
    TrialState.RUNNING: "bi-play-circle-fill",
    TrialState.COMPLETED: "bi-check-circle-fill",
    TrialState.PRUNED: "bi-scissors",
    TrialState.STOPPED: "bi-stop-circle-fill",
    TrialState.FAILED: "bi-x-octagon-fill",
}
#: The lines of the history: name, label, colour, states and origins of their trials.
HISTORY: tuple[tuple[str, Text, str, frozenset[str], frozenset[str]], ...] = (
    (
        "suggested",
        gettext_lazy("Suggested"),
        "--chart-1",
        frozenset({TrialState.COMPLETED}),
        frozenset({Origin.SUGGESTED}),
    ),
    (
        "entered",
        gettext_lazy("Base and entered"),
        "--chart-3",
        frozenset({TrialState.COMPLETED}),
        frozenset({Origin.BASE, Origin.ENQUEUED}),
    ),
    (
        "control",
        gettext_lazy("Random control"),
        "--chart-4",
        frozenset({TrialState.COMPLETED}),
        frozenset({Origin.CONTROL}),
    ),
    (
        "pruned",
        gettext_lazy("Pruned"),
        "--chart-7",
        frozenset({TrialState.PRUNED, TrialState.STOPPED}),
        frozenset(Origin.values),
    ),
)
#: The line of a configuration that is repeated: none of its results is the best so far.
RESULTS = ("results", gettext_lazy("Results"), "--chart-1", frozenset({TrialState.COMPLETED}), frozenset(Origin.values))


def best_trial(sweep: Sweep) -> Trial | None:
    """The completed trial with the best result; of equal ones the first."""
    order = F("value").desc() if is_higher_better(sweep) else F("value").asc()
    done = sweep.trials.filter(state=TrialState.COMPLETED, value__isnull=False)
    return done.defer("curve").select_related("run").order_by(order, "number").first()


@dataclass(frozen=True)
class Spread:
    """The results of a configuration that is repeated; `deviation` is that of a sample, None for one result."""

    values: list[float]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        return stdev(self.values) if len(self.values) > 1 else None

    def text(self, name: str) -> str:
        """Mean and deviation in the format of the metric `name`."""
        center = metric(self.mean, name)
        return center if self.deviation is None else f"{center} ± {metric(self.deviation, name)}"


def spread_of(sweep: Sweep) -> Spread | None:
    """The results of repeated seeds and of cross-validations; None for other sweeps and before the first result."""
    return _spreads([sweep]).get(sweep.pk)


def _spreads(sweeps: Sequence[Sweep]) -> dict[int, Spread]:
    numbers = [sweep.pk for sweep in sweeps if sweep.repeated_field]
    done = Trial.objects.filter(sweep__in=numbers, state=TrialState.COMPLETED)
    found: dict[int, Spread] = {}
    for number, value in done.order_by("sweep", "number").values_list("sweep_id", "value"):
        if value is not None:
            found.setdefault(number, Spread([])).values.append(value)
    return found


@dataclass(frozen=True)
class ListedSweep:
    """A row of the list of sweeps; `best` is the best result, or mean and deviation of repeated ones."""

    sweep: Sweep
    trials: int
    finished: int
    best: str
    metric: str


def listed_sweeps(rows: QuerySet[Sweep]) -> list[ListedSweep]:
    complete = Q(trials__state=TrialState.COMPLETED)
    counted = rows.annotate(
        trial_count=Count("trials"),
        finished_count=Count("trials", filter=Q(trials__finished_at__isnull=False)),
        highest=Max("trials__value", filter=complete),
        lowest=Min("trials__value", filter=complete),
    )
    found, shown = [], list(counted.select_related("owner", "dataset"))
    spreads = _spreads(shown)
    for sweep in shown:
        name, spread = sweep.metric, spreads.get(sweep.pk)
        best = metric(sweep.highest if is_higher_better(sweep) else sweep.lowest, name)
        text = spread.text(name) if spread else best
        found.append(ListedSweep(sweep, sweep.trial_count, sweep.finished_count, text, str(metric_label(name))))
    return found


# One sweep


@dataclass(frozen=True)
class DimensionRow:
    """A dimension of the search space, as text."""

    name: str
    label: str
    values: str
    condition: str


@dataclass(frozen=True)
class TrialRow:
    """A row of the table of trials. `run` is None where there is none, or the reader may not see it."""

    trial: Trial
    run: TrainingRun | None
    value: str
    #: The label of a field, its value, and whether that is a number.
    cells: list[tuple[str, object, bool]]
    icon: str
    origin_icon: str
    elapsed_s: float
    is_best: bool


@dataclass(frozen=True)
class Heading:
    """A heading of the table: its key for sorting, and the order of now ("", ascending or descending)."""

    name: str
    label: str
    following: str
    way: str
    is_number: bool


@dataclass(frozen=True)
class DrawnTrial:
    """A trial in a plot. `rank` is 0 for the best fifth; `words` has its values for people who do not see it."""

    number: int
    url: str
    rank: int
    words: str
    parts: list[str]
    dots: list[tuple[str, str]]


@dataclass(frozen=True)
class ParallelTrials:
    axes: list[Axis]
    lines: list[DrawnTrial]
    left_out: int
    box: str = "0 0 1000 310"
    top: str = f"{TOP:.0f}"
    bottom: str = f"{BOTTOM:.0f}"


@dataclass(frozen=True)
class Scatter:
    """Two columns against each other. `x_ticks` and `y_ticks` are (place, text)."""

    x: str
    y: str
    choices: list[tuple[str, str]]
    x_label: str
    y_label: str
    x_ticks: list[tuple[str, str]]
    y_ticks: list[tuple[str, str]]
    points: list[DrawnTrial]


@dataclass(frozen=True)
class Repeats:
    """The results of repeated seeds or of a cross-validation, as texts."""

    count: int
    mean: str
    deviation: str
    lowest: str
    highest: str


class SweepPage:
    """Everything that the page of a sweep shows to a user."""

    def __init__(self, sweep: Sweep, user: AnyUser, *, sort: str = "number", x: str = "", y: str = "") -> None:
        self.sweep = sweep
        self.fields: dict[str, ConfigField] = config_fields(sweep.task)
        self.space = SearchSpace.model_validate(sweep.space)
        self.names = [sweep.repeated_field] if sweep.repeated_field else self.space.fields
        large = [f"run__{name}" for name in ("config", *LARGE_COLUMNS)]
        rows = sweep.trials.defer("curve", *large).select_related("run")
        self.trials = list(rows.order_by("number"))
        numbers = [trial.run_id for trial in self.trials if trial.run_id]
        visible = visible_to(user, TrainingRun.objects.filter(pk__in=numbers))
        self.visible = set(visible.values_list("pk", flat=True))
        self.best = best_trial(sweep)
        self.sort = sort if sort.removeprefix("-") in {*SORTS, *self.names} else "number"
        self._x, self._y = x, y

    @property
    def metric(self) -> str:
        return str(metric_label(self.sweep.metric))

    @property
    def is_cross_validation(self) -> bool:
        return self.sweep.sampler == Sampler.FOLDS

    @property
    def counts(self) -> dict[str, int]:
        return trial_counts(self.sweep)

    @property
    def finished(self) -> int:
        return sum(trial.is_finished for trial in self.trials)

    @property
    def hours(self) -> float:
        return self.sweep.running_s() / 3600

    @property
    def device_hours(self) -> float:
        return device_hours(self.sweep)

    @property
    def best_value(self) -> str:
        return metric(self.best.value if self.best else None, self.sweep.metric)

    @property
    def best_run(self) -> TrainingRun | None:
        return self._run(self.best) if self.best else None

    def best_params(self) -> list[tuple[str, object]]:
        return self._params(self.best) if self.best else []

    def dimensions(self) -> list[DimensionRow]:
        return [
            DimensionRow(
                dimension.field,
                self.label(dimension.field),
                self._values_text(dimension),
                self._condition_text(dimension),
            )
            for dimension in self.space
        ]

    def label(self, name: str) -> str:
        return label_text(self.fields[name].setting.label) if name in self.fields else name

    def _values_text(self, dimension: Range | Choice) -> str:
        if isinstance(dimension, Choice):
            return ", ".join(str(setting_value(value, dimension.field)) for value in dimension.values)
        if self.sweep.sampler == Sampler.GRID:
            values = grid_values(dimension, self.fields[dimension.field])
            return ", ".join(str(setting_value(value, dimension.field)) for value in values)
        whole = self.fields[dimension.field].kind == "whole"
        low, high = (int(bound) if whole else bound for bound in (dimension.low, dimension.high))
        texts = {"low": setting_value(low), "high": setting_value(high)}
        if dimension.log:
            return _("%(low)s to %(high)s, logarithmic") % texts
        return _("%(low)s to %(high)s") % texts

    def _condition_text(self, dimension: Range | Choice) -> str:
        """When the dimension counts; by its own condition, or as the configuration says about fields of the space."""
        when, own = self.fields[dimension.field].setting.when, dimension.when
        name, values = (own.field, own.values) if own else (when.field, when.values) if when else ("", ())
        if not name or (own is None and name not in self.space.fields):
            return ""
        shown = ", ".join(str(setting_value(value, name)) for value in values)
        return _("only with %(field)s: %(values)s") % {"field": self.label(name), "values": shown}

    def _run(self, trial: Trial) -> TrainingRun | None:
        return trial.run if trial.run_id in self.visible else None

    def _params(self, trial: Trial) -> list[tuple[str, object]]:
        names = [*self.names, *(name for name in trial.params if name not in self.names)]
        return [(self.label(name), setting_value(trial.params[name], name)) for name in names if name in trial.params]

    # The table

    def headings(self) -> list[Heading]:
        columns = [
            ("number", _("Trial"), True),
            ("state", _("State"), False),
            ("value", self.metric, True),
            *((name, self.label(name), self._is_number(name)) for name in self.names),
            ("time", _("Training time"), True),
        ]
        return [self._heading(*column) for column in columns]

    def _is_number(self, name: str) -> bool:
        return self.fields[name].kind in ("whole", "number")

    def _heading(self, name: str, label: str, is_number: bool) -> Heading:
        is_now = self.sort.removeprefix("-") == name
        descends = self.sort.startswith("-")
        best_first = f"-{name}" if name == "value" and is_higher_better(self.sweep) else name
        other = name if best_first != name else f"-{name}"
        following = other if self.sort == best_first else best_first
        way = ("descending" if descends else "ascending") if is_now else ""
        return Heading(name, label, following, way, is_number)

    def rows(self) -> list[TrialRow]:
        """The rows of the table in the chosen order; trials without a value come last."""
        name, descends = self.sort.removeprefix("-"), self.sort.startswith("-")
        known = [trial for trial in self.trials if self._key(trial, name) is not None]
        rest = [trial for trial in self.trials if self._key(trial, name) is None]
        known.sort(key=lambda trial: _comparable(self._key(trial, name)), reverse=descends)
        return [self._row(trial) for trial in (*known, *rest)[:MOST_ROWS]]

    @property
    def rows_left_out(self) -> int:
        return max(0, len(self.trials) - MOST_ROWS)

    def _key(self, trial: Trial, name: str) -> object:
        given = {
            "number": trial.number,
            "value": trial.value,
            "state": trial.state,
            "time": _elapsed(trial),
        }
        return given[name] if name in given else trial.params.get(name)

    def _row(self, trial: Trial) -> TrialRow:
        cells = [
            (
                self.label(name),
                setting_value(trial.params[name], name) if name in trial.params else NO_VALUE,
                self._is_number(name),
            )
            for name in self.names
        ]
        return TrialRow(
            trial=trial,
            run=self._run(trial),
            value=metric(self._latest(trial), self.sweep.metric),
            cells=cells,
            icon=STATE_ICONS[TrialState(trial.state)],
            origin_icon=ORIGIN_ICONS[Origin(trial.origin)],
            elapsed_s=_elapsed(trial),
            # That one fold is easier than another makes no trial the best.
            is_best=self.best is not None and trial.pk == self.best.pk and not self.is_cross_validation,
        )

    def _latest(self, trial: Trial) -> float | None:
        """The result; of a trial that trains, its best so far."""
        running = trial.run.best_metric if trial.run and trial.state == TrialState.RUNNING else None
        return trial.value if trial.value is not None else running

    # The history

    def history(self) -> list[dict[str, object]]:
        """The lines of the chart, as charts.js takes them: a point for each trial, and the best result so far."""
        known = METRICS.get(self.sweep.metric)
        is_share = known is not None and known.is_share
        kinds = (RESULTS,) if self.sweep.repeated_field else HISTORY
        best: list[dict[str, float]] = []
        for trial in self.trials:
            if trial.state == TrialState.COMPLETED and trial.value is not None:
                before = best[-1]["value"] if best else trial.value
                value = max(before, trial.value) if is_higher_better(self.sweep) else min(before, trial.value)
                best.append({"step": trial.number, "value": value})
        lines: list[dict[str, object]] = [
            {
                "id": name,
                "label": str(label),
                "colour": colour,
                "dots": True,
                "isScatter": True,
                "isShare": is_share,
                "values": [
                    {"step": trial.number, "value": trial.value}
                    for trial in self.trials
                    if trial.state in states and trial.origin in origins and trial.value is not None
                ],
            }
            for name, label, colour, states, origins in kinds
        ]
        if self.sweep.repeated_field:
            return [line for line in lines if line["values"]]
        first = {"id": "best", "label": _("Best so far"), "colour": "--chart-2", "isShare": is_share, "values": best}
        return [first, *(line for line in lines if line["values"])]

    # The plots

    def drawn_trials(self) -> list[Trial]:
        """The trials with a result: of very many, the best ones and the newest ones."""
        found = [trial for trial in self.trials if trial.value is not None]
        if len(found) <= MOST_DRAWN:
            return found
        ranked = sorted(found, key=lambda trial: trial.value or 0.0, reverse=is_higher_better(self.sweep))
        kept = {trial.pk for trial in (*ranked[: MOST_DRAWN // 2], *found[-MOST_DRAWN // 2 :])}
        return [trial for trial in found if trial.pk in kept]

    def _columns(self, trials: Sequence[Trial]) -> list[Column]:
        columns: list[Column] = []
        for name in self.names:
            values: list[JsonValue] = [trial.params.get(name) for trial in trials]
            texts = [str(setting_value(value, name)) for value in values]
            columns.append((self.label(name), values, texts))
        results: list[JsonValue] = [trial.value for trial in trials]
        columns.append((self.metric, results, [metric(trial.value, self.sweep.metric) for trial in trials]))
        return columns

    def parallel(self) -> ParallelTrials | None:
        """Parallel coordinates of the trials; None for fewer than two of them, and for repeated seeds."""
        trials = self.drawn_trials()
        if len(trials) < 2 or not len(self.space):
            return None
        columns = self._columns(trials)
        axes, lines = drawing(columns)
        ranks = self._ranks(trials)
        drawn = [
            self._drawn(trial, ranks[trial.pk], columns, index, parts, dots)
            for index, (trial, (parts, dots)) in enumerate(zip(trials, lines, strict=True))
        ]
        # The best ones are drawn last, above the others.
        drawn.sort(key=lambda line: -line.rank)
        return ParallelTrials(axes, drawn, sum(one.value is not None for one in self.trials) - len(trials))

    def scatter(self) -> Scatter | None:
        """Two columns against each other: by default the two most important values."""
        trials = self.drawn_trials()
        if len(trials) < 2 or not len(self.space):
            return None
        columns = dict(zip([*self.names, "value"], self._columns(trials), strict=True))
        ordered = [*sorted(self.names, key=lambda name: -self._importance().get(name, 0.0)), "value"]
        x = self._x if self._x in columns else ordered[0]
        y = self._y if self._y in columns else next((name for name in ordered if name != x), "value")
        x_places = scaled_values(*columns[x][1:])
        xs = [None if place is None else _across(place) for place in x_places]
        ys = scaled_values(*columns[y][1:])
        ranks = self._ranks(trials)
        shown = [columns[name] for name in dict.fromkeys((x, y, "value"))]
        points = [
            self._drawn(trial, ranks[trial.pk], shown, index, [], [(f"{at:.1f}", f"{ys[index]:.1f}")])
            for index, (trial, at) in enumerate(zip(trials, xs, strict=True))
            if at is not None and ys[index] is not None
        ]
        points.sort(key=lambda point: -point.rank)
        x_ticks = [(f"{_across(float(place)):.1f}", text) for place, text in value_ticks(x_places, columns[x][2])]
        choices = [(name, column[0]) for name, column in columns.items()]
        return Scatter(x, y, choices, columns[x][0], columns[y][0], x_ticks, value_ticks(ys, columns[y][2]), points)

    def _drawn(
        self,
        trial: Trial,
        rank: int,
        columns: Sequence[Column],
        index: int,
        parts: list[str],
        dots: list[tuple[str, str]],
    ) -> DrawnTrial:
        run = self._run(trial)
        words = ", ".join(f"{label} {texts[index]}" for label, _values, texts in columns)
        return DrawnTrial(trial.number, run.get_absolute_url() if run else "", rank, words, parts, dots)

    def _ranks(self, trials: Sequence[Trial]) -> dict[int, int]:
        ordered = sorted(trials, key=lambda trial: trial.value or 0.0, reverse=is_higher_better(self.sweep))
        return {trial.pk: place * RANKS // len(ordered) for place, trial in enumerate(ordered)}

    def _importance(self) -> dict[str, float]:
        return dict(self.sweep.importance.get("values", {}))

    def importance(self) -> list[tuple[str, float, str]]:
        """Label, share and its text, the greatest first."""
        found = sorted(self._importance().items(), key=lambda item: -item[1])
        return [(self.label(name), share, f"{share * 100:.0f} %") for name, share in found]

    @property
    def importance_trials(self) -> int:
        return int(self.sweep.importance.get("trials", 0))

    @property
    def importance_hint(self) -> str:
        """Why there is no importance yet."""
        if len(self.space) < 2:
            return _("With one field there is nothing to compare.")
        if not has_optuna():
            return _("It needs Optuna. Install it with: pip install 'cvstudio[sweeps]'")
        return _("It is computed once %(count)d trials are completed.") % {"count": LEAST_FOR_IMPORTANCE}

    def repeats(self) -> Repeats | None:
        """Mean and deviation; None for a search and before the first result."""
        found, name = spread_of(self.sweep), self.sweep.metric
        if found is None:
            return None
        deviation = NO_VALUE if found.deviation is None else metric(found.deviation, name)
        ends = (metric(end, name) for end in (min(found.values), max(found.values)))
        return Repeats(len(found.values), metric(found.mean, name), deviation, *ends)


def _elapsed(trial: Trial) -> float:
    return max(trial.elapsed_s, trial.run.elapsed_s if trial.run else 0.0)


def _comparable(value: object) -> tuple[int, float, str]:
    """Numbers before texts, so that a column with both can be sorted."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1, 0.0, str(value)
    return 0, value if math.isfinite(value) else 0.0, ""


#: The plane of the scatter plot: from left to right as from the bottom to the top of an axis.
SCATTER_LEFT, SCATTER_RIGHT = 80.0, 590.0


def _across(place: float) -> float:
    return SCATTER_LEFT + (BOTTOM - place) / (BOTTOM - TOP) * (SCATTER_RIGHT - SCATTER_LEFT)
