"""Two validations image by image: what became wrong and what became right, by class; and classes of several runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from django.utils.translation import gettext as _

from trainingapp.contract.image_results import Array, ImageResults
from trainingapp.presentation.labels import score_label
from trainingapp.presentation.numbers import NO_VALUE, heat, metric, percent
from trainingapp.runs.comparison import ComparedRun, Comparison
from trainingapp.runs.evaluations import EvaluationError, EvaluationFile, read
from trainingapp.runs.significance import ImagesOfRun, require_same_images

#: The quality from which an image counts as right, by kind of prediction: of a mask, a mean IoU.
RIGHT_FROM = {"classes": 1.0, "labels": 1.0, "boxes": 1.0, "mask": 0.5}
MOST_NAMES = 5
#: Columns of the tables by class of which more is neither better nor worse.
FACTS = ("share", "threshold")

Change = Literal["worse", "better"]


@dataclass(frozen=True)
class ClassChange:
    """Images that show a class, by what happened to them."""

    label: int
    name: str
    newly_wrong: int
    newly_right: int
    images: int


@dataclass(frozen=True)
class Regression:
    """Two validations of the same images. `order_worse` and `order_better` are indices of images whose verdict changed,
    the largest change of quality first."""

    before: ImagesOfRun
    after: ImagesOfRun
    order_worse: list[int]
    order_better: list[int]
    by_class: list[ClassChange]

    def order(self, change: Change, label: int | None = None) -> list[int]:
        """The images of one kind of change, optionally only those that show a class."""
        order = self.order_worse if change == "worse" else self.order_better
        if label is None:
            return order
        images, labels = self.before.stored.results.shown_labels()
        shown = set(images[labels == label].tolist())
        return [index for index in order if index in shown]

    @property
    def rule(self) -> str:
        """When an image counts as right."""
        return {
            "classes": _("An image is right when the most likely class is its label."),
            "labels": _("An image is right when exactly its labels reach their thresholds."),
            "boxes": _("An image is right when every object is found and no box is wrong (F1 of 100 %)."),
            "mask": _("An image is right when its mean IoU is at least 50 %."),
        }[self.before.stored.results.kind]


def regression(before: ImagesOfRun, after: ImagesOfRun) -> Regression:
    """Compare two validations. Raises NoInterval unless they have the same images, classes and ground truth."""
    require_same_images(before, after)
    old, new = before.stored.results, after.stored.results
    was_N, is_N = is_right(old), is_right(new)
    known_N = ~(np.isnan(old.quality_N) | np.isnan(new.quality_N))
    change_N = np.where(known_N, new.quality_N - old.quality_N, 0)
    worse_N, better_N = was_N & ~is_N & known_N, ~was_N & is_N & known_N
    order_N = np.argsort(change_N, kind="stable")
    images, labels = old.shown_labels()
    count = len(before.classes)
    counts = [np.bincount(labels[chosen[images]], minlength=count) for chosen in (worse_N, better_N)]
    total = np.bincount(labels, minlength=count)
    by_class = [
        ClassChange(label, before.classes[label], int(counts[0][label]), int(counts[1][label]), int(total[label]))
        for label in range(count)
        if counts[0][label] or counts[1][label]
    ]
    return Regression(
        before,
        after,
        [index for index in order_N.tolist() if worse_N[index]],
        [index for index in order_N[::-1].tolist() if better_N[index]],
        sorted(by_class, key=lambda one: (-one.newly_wrong, -one.newly_right)),
    )


def is_right(results: ImageResults) -> Array:
    """bool [N]; False where the quality is not defined."""
    with np.errstate(invalid="ignore"):
        return np.asarray(results.quality_N >= RIGHT_FROM[results.kind] - 1e-6)


@dataclass(frozen=True)
class Outcome:
    """What a run made of an image."""

    is_right: bool
    text: str


def outcomes(found: ImagesOfRun, indices: Sequence[int]) -> dict[int, Outcome]:
    """The outcome of each of the images, by index."""
    right_N = is_right(found.stored.results)
    return {index: Outcome(bool(right_N[index]), _outcome(found, index)) for index in indices}


def _outcome(found: ImagesOfRun, index: int) -> str:
    results = found.stored.results
    if results.kind == "classes":
        return _name(found.classes, int(results.arrays["guess_N"][index]))
    if results.kind == "labels":
        reached_C = results.arrays["chance_NC"][index] >= results.arrays["thresholds_C"]
        return _names(found.classes, np.flatnonzero(reached_C).tolist())
    title = _("F1") if results.kind == "boxes" else _("Mean IoU")
    quality = float(results.quality_N[index])
    return f"{title} {NO_VALUE if np.isnan(quality) else percent(quality)}"


def truths(found: ImagesOfRun, indices: Sequence[int]) -> dict[int, str]:
    """The classes that each of the images shows, as text."""
    images, labels = found.stored.results.shown_labels()
    return {index: _names(found.classes, labels[images == index].tolist()) for index in indices}


def _names(classes: Sequence[str], labels: Sequence[int]) -> str:
    if not labels:
        return _("No labels")
    text = ", ".join(_name(classes, label) for label in labels[:MOST_NAMES])
    return f"{text}, …" if len(labels) > MOST_NAMES else text


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


# Classes of several runs


@dataclass(frozen=True)
class ClassCell:
    """A value of a class in one run; `heat` is 0 to 10 for shares, `change` from the baseline as text."""

    text: str
    heat: int
    change: str
    verdict: Literal["better", "worse", "same"]


@dataclass(frozen=True)
class ClassRow:
    """A class; `spread` is the difference of its greatest and its least value."""

    name: str
    cells: list[ClassCell]
    spread: float


@dataclass(frozen=True)
class ClassTable:
    """A column of the tables by class of all runs. `columns` are (name, label); `problems` say which runs lack one."""

    columns: list[tuple[str, str]]
    column: str
    items: list[ComparedRun]
    rows: list[ClassRow]
    problems: list[str]


def class_table(comparison: Comparison, column: str = "", *, by_spread: bool = True) -> ClassTable:
    """The values of `column` (the first share by default) by class and run; by default the largest spread first."""
    contents: dict[int, EvaluationFile] = {}
    problems = []
    for item in comparison.shown:
        try:
            if item.validation is None:
                raise EvaluationError(_("The run has no validation yet."))
            contents[item.run.pk] = read(item.run, item.validation.epoch)
        except EvaluationError as error:
            problems.append(f"{item.run.name}: {error}")
    items = [item for item in comparison.shown if item.run.pk in contents]
    known = {one.name: one for item in items for one in contents[item.run.pk].columns}
    if column not in known:
        column = next((name for name, one in known.items() if one.is_share), next(iter(known), ""))
    values = {item.run.pk: _values(contents[item.run.pk], column) for item in items}
    base = values.get(comparison.base.run.pk, {})
    is_share = bool(column) and known[column].is_share
    names = dict.fromkeys(name for item in items for name in values[item.run.pk])
    rows = [
        _class_row(
            name, [values[item.run.pk].get(name) for item in items], base.get(name), is_share, column not in FACTS
        )
        for name in names
    ]
    if by_spread:
        rows.sort(key=lambda row: -row.spread)
    columns = [(name, score_label(one.label)) for name, one in known.items()]
    return ClassTable(columns, column, items, rows, problems)


def _values(content: EvaluationFile, column: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for row in content.per_class:
        value = row.get(column)
        found[str(row.get("class", ""))] = float(value) if isinstance(value, int | float) else None
    return found


def _class_row(
    name: str, values: Sequence[float | None], base: float | None, is_share: bool, is_quality: bool
) -> ClassRow:
    known = [value for value in values if value is not None]
    cells = []
    for value in values:
        change = ""
        verdict: Literal["better", "worse", "same"] = "same"
        if is_share and value is not None and base is not None and value != base:
            change = f"{(value - base) * 100:+.1f}"
        if change and is_quality:
            verdict = "worse" if change.startswith("-") else "better"
        text = NO_VALUE if value is None else percent(value) if is_share else metric(value)
        cells.append(ClassCell(text, heat(value) if is_share and value is not None else 0, change, verdict))
    return ClassRow(name, cells, max(known) - min(known) if known else 0.0)
