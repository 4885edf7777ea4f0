"""Parallel coordinates of compared runs: an axis for each setting that differs and one for the main metric.

A line is a run. Places are computed here and drawn as SVG, so that the plot needs no script; its lines are links. The
table of differences says the same in words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from trainingapp.presentation.numbers import metric
from trainingapp.runs.comparison import ComparedRun, Comparison, ConfigDifference

WIDTH, TOP, BOTTOM, HEIGHT = 1000.0, 48.0, 290.0, 310.0
LEFT, RIGHT = 90.0, 90.0
#: Axes of settings; the table has all.
MOST_SETTINGS = 7
#: Up to so many different values, each is a tick of its axis.
MOST_TICKS = 6
#: Positive numbers that are further apart than this factor stand on a logarithmic axis.
LOGARITHMIC_FROM = 20.0
LONGEST_LABEL, LONGEST_TICK = 22, 14


@dataclass(frozen=True)
class Axis:
    """An axis at `x`; `ticks` are (y, text), all as texts for SVG."""

    label: str
    x: str
    ticks: list[tuple[str, str]]


@dataclass(frozen=True)
class ParallelLine:
    """A run: `parts` are its polylines, more than one where it lacks a value, `dots` the places of its values.

    `words` lists its values for people who do not see the line.
    """

    item: ComparedRun
    parts: list[str]
    dots: list[tuple[str, str]]
    words: str


@dataclass(frozen=True)
class ParallelPlot:
    """All axes and lines; `left_out` is the number of settings without an axis."""

    axes: list[Axis]
    lines: list[ParallelLine]
    left_out: int
    box: str = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    top: str = f"{TOP:.0f}"
    bottom: str = f"{BOTTOM:.0f}"


def parallel_plot(comparison: Comparison) -> ParallelPlot | None:
    """The plot of the runs that are shown; None where there are no two of them or no setting differs."""
    differences = comparison.differences
    if len(comparison.shown) < 2 or not differences:
        return None
    # Settings that have an effect in some run come first: there is room for some only.
    ordered = sorted(differences, key=lambda row: not any(value.has_effect for value in row.values))
    shown = [row for row in differences if row in ordered[:MOST_SETTINGS]]
    columns = [_of_setting(row) for row in shown]
    if (measured := _of_metric(comparison)) is not None:
        columns.append(measured)
    axes, drawn = drawing(columns)
    lines = [
        ParallelLine(item, parts, dots, ", ".join(f"{label} {texts[number]}" for label, _values, texts in columns))
        for number, (item, (parts, dots)) in enumerate(zip(comparison.shown, drawn, strict=True))
    ]
    return ParallelPlot(axes, lines, len(differences) - len(shown))


def drawing(columns: Sequence["Column"]) -> tuple[list[Axis], list[tuple[list[str], list[tuple[str, str]]]]]:
    """The axes, and the polylines and dots of each row of the columns."""
    space = (WIDTH - LEFT - RIGHT) / max(1, len(columns) - 1)
    xs = [LEFT + number * space for number in range(len(columns))]
    scaled = [scaled_values(values, texts) for _label, values, texts in columns]
    axes = [
        Axis(_short(label, LONGEST_LABEL), f"{x:.1f}", value_ticks(ys, texts))
        for x, ys, (label, _values, texts) in zip(xs, scaled, columns, strict=True)
    ]
    lines = []
    for places in zip(*scaled, strict=True):
        line = list(zip(xs, places, strict=True))
        lines.append((_parts(line), [(f"{x:.1f}", f"{y:.1f}") for x, y in line if y is not None]))
    return axes, lines


Column = tuple[str, Sequence[JsonValue], list[str]]
"""Label of an axis, the value of each run, and its text."""


def _of_setting(row: ConfigDifference) -> Column:
    return row.label, [value.value for value in row.values], row.texts


def _of_metric(comparison: Comparison) -> Column | None:
    """The model-selection metric of the baseline; None where no run has it."""
    name = comparison.base.run.config.get("best_metric")
    column = next((column for column in comparison.columns if column.name == name), None)
    if column is None:
        return None
    found = [item.validation.values.get(column.name) if item.validation else None for item in comparison.shown]
    return column.label, found, [metric(value, column.name) for value in found]


def scaled_values(values: Sequence[JsonValue], texts: Sequence[str]) -> list[float | None]:
    """The y of each value: numbers by their size, others in the order in which they occur."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    known = [value for value in values if value is not None]
    if known and len(numbers) == len(known):
        is_log = min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC_FROM
        sizes = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]  # numbers
        return _spread([None if size is None else math.log(size) if is_log else size for size in sizes])
    order = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return _spread([float(order[text]) for text in texts])


def _spread(sizes: Sequence[float | None]) -> list[float | None]:
    """From the least at the bottom to the greatest at the top; in the middle where all are the same."""
    known = [size for size in sizes if size is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low == high:
        return [None if size is None else (TOP + BOTTOM) / 2 for size in sizes]
    return [None if size is None else BOTTOM - (size - low) / (high - low) * (BOTTOM - TOP) for size in sizes]


def value_ticks(ys: Sequence[float | None], texts: Sequence[str]) -> list[tuple[str, str]]:
    """The text of each value, or of the lowest and the highest where there are many."""
    found = {round(y, 1): text for y, text in zip(ys, texts, strict=True) if y is not None}
    places = sorted(found)
    if len(places) > MOST_TICKS:
        places = [places[0], places[-1]]
    return [(f"{place:.1f}", _short(found[place], LONGEST_TICK)) for place in places]


def _parts(places: Sequence[tuple[float, float | None]]) -> list[str]:
    """The polylines through the places that are known, interrupted where one is not."""
    parts: list[list[str]] = [[]]
    for x, y in places:
        if y is None:
            parts.append([])
        else:
            parts[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(part) for part in parts if len(part) > 1]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
