"""The score of each class through the epochs, for the table by class.

A run may have hundreds of evaluations, and their files hold boxes and images beside the table. So only so many epochs
are read, spread evenly, and of each file only the beginning, where the table is; what was read is remembered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from trainingapp.contract.evaluation import evaluation_path
from trainingapp.models import TrainingRun
from trainingapp.runs.evaluations import CurveLines, Evaluated, EvaluationFile, Series, TableColumn

#: Epochs of which files are read.
MOST_EPOCHS = 40
#: Bytes that are read of a file. A class takes about a hundred.
HEAD_BYTES = 1 << 19
#: Name of the curve of all classes.
CURVE = "by-epoch-classes"
WIDTH, HEIGHT = 96.0, 22.0
_TABLE = '"per_class": ['


@dataclass(frozen=True)
class ClassHistory:
    """The values of `column`, a share, of each class: [(epoch, value), ...] by the name of the class."""

    column: TableColumn
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def has_some(self) -> bool:
        """Whether there is more than one epoch of some class."""
        return any(len(points) > 1 for points in self.points.values())

    def spark(self, name: str) -> str:
        """The line of a class as points of an SVG of WIDTH by HEIGHT; the axes are the same for all classes."""
        points = self.points.get(name, [])
        if len(points) < 2:
            return ""
        first, last = self._span
        places = [
            ((epoch - first) / (last - first) * WIDTH, 1 + (HEIGHT - 2) * (1 - min(1.0, max(0.0, value))))
            for epoch, value in points
        ]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)

    @cached_property
    def _span(self) -> tuple[float, float]:
        """The first and the last epoch of any class."""
        epochs = [epoch for every in self.points.values() for epoch, _value in every]
        return min(epochs), max(epochs)

    def curve(self, title: str, x: str, names: Sequence[str] = ()) -> CurveLines:
        """The lines of all classes as one curve, those of `names` first: a plot shows the first few."""
        order = dict.fromkeys([*names, *self.points])
        series = [Series(label=name or "?", points=self.points[name]) for name in order if name in self.points]
        return CurveLines(name=CURVE, title=title, x=x, y=self.column.label, series=series)


def class_history(run: TrainingRun, content: EvaluationFile, found: Sequence[Evaluated]) -> ClassHistory | None:
    """The first share of the table of `content` through the epochs of `found`; None for a table without shares."""
    column = next((column for column in content.columns if column.is_share), None)
    if column is None:
        return None
    history = ClassHistory(column, {str(row.get("class", "")): [] for row in content.per_class})
    for one in spread(found, MOST_EPOCHS):
        path = evaluation_path(run.folder, one.epoch)
        try:
            values = _values(path, path.stat().st_mtime_ns, column.name)
        except OSError:
            continue
        for name, value in values:
            if name in history.points:
                history.points[name].append((float(one.epoch), value))
    return history


def spread(found: Sequence[Evaluated], most: int) -> list[Evaluated]:
    """At most so many, spread evenly, with the first and the last."""
    if len(found) <= most:
        return list(found)
    return [found[round(place * (len(found) - 1) / (most - 1))] for place in range(most)]


@lru_cache(maxsize=2048)
def _values(path: Path, mtime_ns: int, column: str) -> list[tuple[str, float]]:
    """Class and value of each row of the table in this file; none where it is damaged or too long."""
    with path.open("rb") as file:
        text = file.read(HEAD_BYTES).decode(errors="replace")
    # A name cannot look like the key: its quotation marks would have backslashes before them.
    start = text.find(_TABLE)
    try:
        rows = json.JSONDecoder().raw_decode(text, start + len(_TABLE) - 1)[0] if start >= 0 else []
    except ValueError:
        return []
    return [
        (str(row.get("class", "")), float(row[column]))
        for row in rows
        if isinstance(row, dict) and isinstance(row.get(column), int | float)
    ]
