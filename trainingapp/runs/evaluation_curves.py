"""Curves of an evaluation as SVG: where lines, ticks and words go. Nothing is drawn that the file does not hold."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _

from trainingapp.contract.number_text import numbers_apart
from trainingapp.runs.evaluations import CurveLines, Evaluated, EvaluationFile, Series, metric_of

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 66, 10, 10, 40
#: Places of the frame and its labels, as texts for SVG.
BOX = {
    "width": str(WIDTH),
    "height": str(HEIGHT),
    "left": str(LEFT),
    "right": str(WIDTH - RIGHT),
    "top": str(TOP),
    "bottom": str(HEIGHT - BOTTOM),
    "middle_x": str((LEFT + WIDTH - RIGHT) // 2),
    "middle_y": str((TOP + HEIGHT - BOTTOM) // 2),
    "tick_x": str(LEFT - 6),
    "tick_y": str(HEIGHT - BOTTOM + 16),
    "foot": str(HEIGHT - 6),
}
#: Lines in one plot, each in its own colour; the CSV has all.
MOST_LINES = 8
#: Lines of fewer points have a mark at each.
MARKED_POINTS = 40
#: The colours of tokens.css for the light theme: a downloaded plot has no style sheet.
INKS = ("#0e6b66", "#d2691e", "#6a4fb3", "#2f7fc1", "#b0266b", "#7a7a1e", "#4d5653", "#a3271f")
#: Prefix of the names of the curves of metrics by epoch.
HISTORY = "by-epoch-"
SHARES_CURVE = f"{HISTORY}shares"
#: Labels that the engine gives to lines; all others are the users' names of classes.
ENGINE_LABELS = frozenset({"All classes", "Model", "Even"})
Span = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Tick:
    place: str
    text: str


@dataclass(frozen=True)
class Line:
    """`number` counts from 1; `points` is as a polyline has it, `marks` are the places of its marks."""

    number: int
    label: str
    ink: str
    points: str
    marks: list[tuple[str, str]]


@dataclass(frozen=True)
class Plot:
    """A curve ready for the template; all numbers are texts, so that no language writes them with a comma."""

    name: str
    title: str
    x: str
    y: str
    lines: list[Line]
    more: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    box: dict[str, str]


def all_curves(content: EvaluationFile | None, found: list[Evaluated]) -> list[CurveLines]:
    """The metrics by epoch, and the curves of the file where there is one."""
    return [*_history_curves(found), *(content.curves if content else [])]


def _history_curves(found: list[Evaluated]) -> Iterator[CurveLines]:
    """One curve of all shares, and one for each other metric: they have no common axis."""
    names = list(dict.fromkeys(name for one in found for name in one.values))
    shares = [name for name in names if metric_of(name).is_share]
    if shares:
        yield _history_curve(SHARES_CURVE, _("Metrics by epoch"), shares, found)
    for name in names:
        if name not in shares:
            title = _("%(metric)s by epoch") % {"metric": _(metric_of(name).label)}
            plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
            yield _history_curve(f"{HISTORY}{plain}", title, [name], found)


def _history_curve(name: str, title: str, metrics: list[str], found: list[Evaluated]) -> CurveLines:
    series = [
        Series(
            label=_(metric_of(metric).label),
            points=[(one.epoch, one.values[metric]) for one in found if metric in one.values],
        )
        for metric in metrics
    ]
    is_single = len(metrics) == 1
    return CurveLines(
        name=name,
        title=title,
        x=_("Epoch"),
        y=series[0].label if is_single else _("Value"),
        series=series,
    )


def plot(curve: CurveLines) -> Plot:
    """Where everything goes. Axes reach a little beyond their values, in curves of shares from 0 to 1."""
    shown = [series for series in curve.series if series.points][:MOST_LINES]
    points = [point for series in shown for point in series.points]
    is_history = curve.name.startswith(HISTORY)
    xs = [x for x, _y in points]
    x_span = _span(xs)
    if is_history:  # from the first epoch to the last, without a margin
        low, high = min(xs, default=0.0), max(xs, default=1.0)
        x_span = (low, high) if low < high else (low - 1, high + 1)
    y_span = _span([y for _x, y in points], unit=not is_history)
    scale_x, scale_y = _scale(x_span, LEFT, WIDTH - RIGHT), _scale(y_span, HEIGHT - BOTTOM, TOP)
    return Plot(
        name=curve.name,
        title=_(curve.title),
        x=_(curve.x),
        y=_(curve.y),
        lines=[_line(number, series, scale_x, scale_y) for number, series in enumerate(shown, start=1)],
        more=max(0, len(curve.series) - MOST_LINES),
        x_ticks=_ticks(ticks(x_span, whole=is_history), scale_x),
        y_ticks=_ticks(ticks(y_span), scale_y),
        box=BOX,
    )


def _line(number: int, series: Series, scale_x: Scale, scale_y: Scale) -> Line:
    places = [(f"{scale_x(x):.1f}", f"{scale_y(y):.1f}") for x, y in series.points]
    marks = places if len(places) <= MARKED_POINTS else []
    label = _(series.label) if series.label in ENGINE_LABELS else series.label  # others are names of classes
    return Line(number, label, INKS[number - 1], " ".join(f"{x},{y}" for x, y in places), marks)


def _span(values: list[float], *, unit: bool = True) -> Span:
    """A little more than the values; with `unit` 0 to 1 where all are between."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if unit and low >= 0 and high <= 1:
        return 0.0, 1.0
    margin = (high - low) / 20 or (abs(high) or 1.0) / 10
    return low - margin, high + margin


def _scale(span: Span, first: int, last: int) -> Scale:
    low, high = span
    return lambda value: first + (value - low) / (high - low) * (last - first)


def ticks(span: Span, *, whole: bool = False, about: int = 5) -> list[float]:
    """Round values within the span, 1, 2 or 5 times a power of ten apart; optionally whole numbers."""
    low, high = span
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    step = max(1.0, round(step)) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _ticks(values: list[float], scale: Scale) -> list[Tick]:
    texts = numbers_apart(values)
    return [Tick(f"{scale(value):.1f}", text) for value, text in zip(values, texts, strict=True)]
