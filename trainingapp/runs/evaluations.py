"""The results of the validations of a run, read from its files for the pages.

Which validations there are is known from the run's events: a file may be left from one that was made again. What stands
in a file is checked when it is read, so that pages can rely on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainingapp.contract.evaluation import EVALUATIONS_DIR, evaluation_path
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.number_text import number_text
from trainingapp.contract.series import Frame
from trainingapp.contract.tasks.descriptor import BOXES_KINDS
from trainingapp.contract.tasks.registry import METRICS, TASKS
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.series import number, validations, validations_by_run


class EvaluationError(ValueError):
    """An evaluation cannot be shown; the message is the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TableColumn(_Part):
    name: str
    label: str = Field(min_length=1)
    is_share: bool = True


class Series(_Part):
    label: str = Field(min_length=1)
    points: list[tuple[float, float]]


class CurveLines(_Part):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    title: str = Field(min_length=1)
    x: str = Field(min_length=1)
    y: str = Field(min_length=1)
    series: list[Series]


class Confusion(_Part):
    """`counts` has the truth in its rows and the model's word in its columns, as many of both as `names`."""

    names: list[str]
    counts: list[list[int]]

    @model_validator(mode="after")
    def _square(self) -> Self:
        if {len(self.counts), *map(len, self.counts)} != {len(self.names)}:
            raise ValueError(f"counts must be {len(self.names)} rows of as many columns")
        return self


class Prediction(_Part):
    """One of the three: guesses [(label, probability)], boxes [(label, confidence, left, top, right, bottom)], mask.

    `masks` are the packed run lengths of each box, where the task finds them (see `contract/run_lengths.py`).

    `labels` are the guesses that reach their threshold, where an image can have several labels.
    """

    classes: list[tuple[int, float]] | None = None
    labels: list[int] | None = None
    boxes: list[tuple[int, float, float, float, float, float]] | None = None
    masks: list[str] | None = None
    mask: str | None = None


class NotableImage(_Part):
    index: int = Field(ge=0)
    path: str
    score: float
    labels: list[int]


class EvaluationFile(_Part):
    """The content of RUN_DIR/evaluations/epoch_{n}.json; see engine/evaluation.py for what the parts mean."""

    format: Literal[1]
    task: str
    epoch: int
    step: int
    classes: list[str]
    values: dict[str, float]
    score: str = Field(min_length=1)
    score_higher_is_better: bool
    columns: list[TableColumn]
    per_class: list[dict[str, int | float | str | None]]
    confusion: Confusion | None
    curves: list[CurveLines]
    best_confidence: float | None
    thresholds: list[float] | None = None
    images: list[NotableImage]
    fixed: list[int]
    paths: dict[int, str]
    predictions: dict[int, Prediction]

    @property
    def kind(self) -> str:
        """What predictions of the task are (`PredictionKind`); empty for a task that is not installed."""
        return TASKS[self.task].prediction if self.task in TASKS else ""

    @property
    def has_boxes(self) -> bool:
        return self.kind in BOXES_KINDS

    def class_name(self, label: int) -> str:
        """The name of a class, or its number where the file knows no such class."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)


@dataclass(frozen=True)
class Evaluated:
    """A validation that counts."""

    epoch: int
    step: int
    values: dict[str, float]
    is_extra: bool = False
    """Asked for within the epoch; the one at the epoch's end takes its place."""


@dataclass(frozen=True)
class MetricRow:
    """A metric of one epoch against the best epoch; `change` is from that one to this, None where one lacks it."""

    name: str
    label: str
    is_share: bool
    value: float
    best: float | None
    change: float | None
    verdict: Literal["better", "worse", "same"]

    @property
    def change_text(self) -> str:
        """With its sign: percentage points of shares, three significant digits at most of others."""
        if self.change is None:
            return "–"
        if self.is_share:
            return f"{self.change * 100:+.1f}"
        return f"{'+' if self.change >= 0 else ''}{number_text(self.change, digits=3)}"


@dataclass(frozen=True)
class Cell:
    count: int
    share: float
    hit: bool


@dataclass(frozen=True)
class MatrixRow:
    """A class of the truth; a cell's share is that of the row."""

    name: str
    total: int
    cells: list[Cell]


@dataclass(frozen=True)
class TableRow:
    """A class; `values` are in the order of the table's columns."""

    name: str
    values: list[tuple[TableColumn, float | None]]
    bar: float | None
    """The first share, for the bar beside the name."""


def history(run: TrainingRun) -> list[Evaluated]:
    """The run's validations that have a file by what their events say, one an epoch, the oldest first."""
    by_epoch: dict[int, Evaluated] = {}
    for one in _validations(run):  # newest first: the last one of an epoch counts
        by_epoch.setdefault(one.epoch, one)
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def of_epoch(run: TrainingRun, epoch: int) -> Evaluated | None:
    """The validation of an epoch; None where there is none that counts."""
    return next((one for one in _validations(run) if one.epoch == epoch), None)


def newest(run: TrainingRun) -> Evaluated | None:
    """The newest validation. It is read whenever a run has news."""
    return next(_validations(run, only_newest=True), None)


def validations_of(runs: Sequence[TrainingRun], *, best: bool) -> dict[int, Evaluated]:
    """One validation of each run by its number, in two queries: of the best epoch, or the newest (`best` is false).

    A run whose best epoch is not known has its newest; a run without validations is left out.
    """
    found: dict[int, Evaluated] = {}
    stored = validations_by_run(runs)
    for run in runs:
        epoch = run.best_epoch if best else None
        chosen = (one for one in map(_evaluated, stored[run.pk]) if epoch in (None, one.epoch))
        if (newest_one := next(chosen, None)) is not None:
            found[run.pk] = newest_one
    return found


def _validations(run: TrainingRun, *, only_newest: bool = False) -> Iterator[Evaluated]:
    return map(_evaluated, validations(run, only_newest=only_newest))


def _evaluated(found: tuple[Frame, int]) -> Evaluated:
    frame, index = found
    values = {name: value for name, value in frame.values_at(index).items() if isinstance(value, float)}
    is_extra = bool(frame.details_at(index).get("extra"))
    return Evaluated(int(frame.epoch[index]), number(int(frame.step[index])) or 0, values, is_extra)


def read(run: TrainingRun, epoch: int) -> EvaluationFile:
    """What the validation of an epoch found out. Raises EvaluationError where the file is missing or damaged."""
    path = evaluation_path(run.folder, epoch)
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError:
        raise EvaluationError(_("The evaluation file of epoch %(epoch)s is missing.") % {"epoch": epoch}) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or path.name
        text = _("The evaluation file of epoch %(epoch)s is corrupted (%(where)s: %(problem)s).")
        raise EvaluationError(text % {"epoch": epoch, "where": where, "problem": first["msg"]}) from None


@lru_cache(maxsize=32)
def _parsed(path: Path, mtime_ns: int) -> EvaluationFile:
    return EvaluationFile.model_validate_json(path.read_bytes())


def file_version(run: TrainingRun, epoch: int) -> str:
    """Changes when the evaluation of the epoch is repeated; empty without a file."""
    try:
        return f"{evaluation_path(run.folder, epoch).stat().st_mtime_ns:x}"
    except OSError:
        return ""


def predicted_mask(run: TrainingRun, content: EvaluationFile, index: int) -> Path:
    """The file of an image's predicted mask. Raises FileNotFoundError where there is none below the run's folder."""
    made = content.predictions.get(index)
    folder = (run.folder / EVALUATIONS_DIR).resolve()
    if made is None or not made.mask or "\0" in made.mask:
        raise FileNotFoundError(index)
    path = (folder / made.mask).resolve()
    if not path.is_relative_to(folder) or path.suffix != ".png" or not path.is_file():
        raise FileNotFoundError(made.mask)
    return path


def metric_of(name: str) -> Metric:
    """The metric of that name; of an unknown one only its name is known, and that it is no share."""
    return METRICS.get(name) or Metric(name.replace("_", " ").capitalize() or "?", is_share=False)


def metric_rows(now: Evaluated, best: Evaluated | None) -> list[MetricRow]:
    """The metrics of one epoch against the best one, in the order in which the task gives them."""
    rows = []
    for name, value in now.values.items():
        metric, old = metric_of(name), best.values.get(name) if best else None
        change = None if old is None else value - old
        verdict: Literal["better", "worse", "same"] = "same"
        if change:
            verdict = "better" if (change > 0) == metric.higher_is_better else "worse"
        rows.append(MetricRow(name, _(metric.label), metric.is_share, value, old, change, verdict))
    return rows


def matrix_rows(confusion: Confusion) -> list[MatrixRow]:
    """The confusion matrix with the shares of each row."""
    rows = []
    for place, (name, counts) in enumerate(zip(confusion.names, confusion.counts, strict=True)):
        total = sum(counts)
        cells = [Cell(count, count / total if total else 0.0, column == place) for column, count in enumerate(counts)]
        rows.append(MatrixRow(name, total, cells))
    return rows


def class_rows(content: EvaluationFile, sort: str = "") -> list[TableRow]:
    """The table by class; `sort` is "class" or a column's name, with "-" before it for the greatest first.

    Without (or with another) `sort` in the order of the classes. What has no value comes last in either direction.
    """
    key, descending = sort.removeprefix("-"), sort.startswith("-")
    rows = list(content.per_class)
    if key == "class":
        rows.sort(key=lambda row: str(row.get("class", "")).casefold(), reverse=descending)
    elif any(column.name == key for column in content.columns):
        known = [row for row in rows if _number(row.get(key)) is not None]
        known.sort(key=lambda row: _number(row.get(key)) or 0.0, reverse=descending)
        rows = known + [row for row in rows if _number(row.get(key)) is None]
    table = []
    for row in rows:
        values = [(column, _number(row.get(column.name))) for column in content.columns]
        bar = next((value for column, value in values if column.is_share), None)
        table.append(TableRow(str(row.get("class", "")), values, bar))
    return table


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def newest_batch(run: TrainingRun) -> RunEvent | None:
    """The event of the newest image of a training batch whose file is still there."""
    rows = run.events.filter(type=RunEvent.Type.SAMPLE, data__kind="batch").order_by("-seq")
    found = rows.first()
    return found if found and batch_path(run, Path(str(found.data.get("file", ""))).name) else None


def batch_path(run: TrainingRun, file: str) -> Path | None:
    """The image of a batch by the name of its file; None where there is none in the run's folder."""
    path = run.folder / "batches" / file
    return path if file and Path(file).name == file and path.is_file() else None
