"""Comparing runs."""

from typing import Literal

from django.utils.translation import gettext as _
from ninja import Query, Router, Schema
from pydantic import Field, JsonValue

from trainingapp.api.access import run_for, visible
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, MOST_ITEMS, MOST_SKIPPED, Text
from trainingapp.api.problems import Problem, not_found, wrong_parameter
from trainingapp.models import TrainingRun
from trainingapp.runs.comparison import MOST_RUNS, Comparison, ComparisonError, compare
from trainingapp.runs.regressions import Regression, outcomes, regression, truths
from trainingapp.runs.significance import NoInterval, images_of_epoch, significance

router = Router(tags=["training"])

#: A list of MOST_RUNS numbers of up to 19 digits with commas and spaces is shorter.
RUNS_LENGTH = 21 * MOST_RUNS


class ComparisonFilters(Schema):
    """Query parameters of a comparison."""

    runs: Text = Field(max_length=RUNS_LENGTH, description="Numbers of the runs, separated by commas.")
    base: int | None = Field(None, ge=1, le=MOST_ID, description="Baseline of the changes; by default the first run.")
    at: Literal["best", "newest"] = Field("best", description="The validation of the best epoch, or the newest.")
    intervals: bool = Field(False, description="Whether to compute 95 % intervals of the differences.")


class ComparedRunEntry(Schema):
    """A run with its metrics. `changes` are from the baseline; empty without a validation."""

    id: int
    name: str
    status: str
    dataset: int
    epoch: int | None = Field(description="Epoch of the validation; null before the first.")
    step: int | None
    values: dict[str, float]
    changes: dict[str, float]


class ComparedMetric(Schema):
    """A metric that at least one of the runs has."""

    name: str
    label: str
    higher_is_better: bool
    is_share: bool
    best: float | None
    best_runs: list[int]


class ComparedSetting(Schema):
    """A setting that is not the same in all runs; `values` by the number of the run."""

    name: str
    label: str
    values: dict[str, JsonValue]


class ComparedInterval(Schema):
    """The difference of a run from the baseline in one metric, with its 95 % interval over the validation images.

    `text` says it in words; without an interval it says why there is none.
    """

    run: int
    metric: str
    difference: float | None
    low: float | None
    high: float | None
    images: int | None
    resamples: int | None
    text: str


class ComparisonResponse(Schema):
    """Runs of one task beside each other. Runs that you may not see are left out."""

    task: str
    base: int
    at: str
    runs: list[ComparedRunEntry]
    metrics: list[ComparedMetric]
    settings: list[ComparedSetting]
    intervals: list[ComparedInterval] | None = Field(None, description="Null unless they were requested.")


@router.get("/compare", response=ComparisonResponse, summary="Compare runs")
def compare_runs(request: ApiRequest, filters: Query[ComparisonFilters]) -> dict[str, object]:
    """Metrics, their changes from a baseline, and the settings that differ, of at most 20 runs of one task."""
    parts = [part.strip() for part in filters.runs.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) <= MOST_ID for part in parts):
        raise wrong_parameter("runs", _("Numbers of runs, separated by commas."))
    rows = visible(request, TrainingRun.objects.all())
    try:
        comparison = compare(rows, [int(part) for part in parts], base=filters.base, at=filters.at)
    except ComparisonError as error:
        raise wrong_parameter("runs", str(error)) from None
    if comparison is None:
        raise not_found()
    return _response(comparison) | ({"intervals": _interval_rows(comparison)} if filters.intervals else {})


def _interval_rows(comparison: Comparison) -> list[dict[str, object]]:
    found = significance(comparison)
    name = str(comparison.base.run.config.get("best_metric", ""))
    empty = dict.fromkeys(("difference", "low", "high", "images", "resamples"))
    if found.problem:
        others = [item.run.pk for item in comparison.shown if not item.is_base]
        return [{"run": number, "metric": name, **empty, "text": found.problem} for number in others]
    return [
        {"run": row.item.run.pk, "metric": name, **(vars(row.interval) if row.interval else empty), "text": row.text}
        for row in found.rows
    ]


class ImagesFilters(Schema):
    """Query parameters of the comparison of two validations."""

    before: int = Field(ge=1, le=MOST_ID, description="Number of a run.")
    after: int = Field(ge=1, le=MOST_ID, description="Number of a run; the same for two epochs of one run.")
    before_epoch: int | None = Field(None, ge=0, le=MOST_ID, description="By default the best epoch, or the newest.")
    after_epoch: int | None = Field(None, ge=0, le=MOST_ID, description="By default the best epoch, or the newest.")
    skip: int = Field(0, ge=0, le=MOST_SKIPPED, description="Images of either list to skip.")
    limit: int = Field(50, ge=1, le=MOST_ITEMS, description="Maximum number of images in either list.")


class ChangedImage(Schema):
    """An image by its index in the validation split, with what both runs made of it."""

    index: int
    truth: str
    before: str
    after: str


class ChangedClass(Schema):
    name: str
    newly_wrong: int
    newly_right: int
    images: int


class ChangedImages(Schema):
    """The images that the second validation gets wrong and the first did not, and the other way round."""

    rule: str = Field(description="When an image counts as right.")
    newly_wrong: int
    newly_right: int
    worse: list[ChangedImage]
    better: list[ChangedImage]
    classes: list[ChangedClass]


@router.get("/compare/images", response=ChangedImages, summary="Compare two validations by image")
def compare_images(request: ApiRequest, filters: Query[ImagesFilters]) -> dict[str, object]:
    """Newly wrong and newly right images, the largest change first, of two runs or of two epochs of a run."""
    pairs = [(filters.before, filters.before_epoch), (filters.after, filters.after_epoch)]
    runs = [(run_for(request, number), epoch) for number, epoch in pairs]
    try:
        before, after = (images_of_epoch(run, epoch) for run, epoch in runs)
        found = regression(before, after)
    except NoInterval as error:
        raise Problem(409, str(error), kind="not-possible") from None
    window = slice(filters.skip, filters.skip + filters.limit)
    return {
        "rule": found.rule,
        "newly_wrong": len(found.order_worse),
        "newly_right": len(found.order_better),
        "worse": _changed(found, found.order_worse[window]),
        "better": _changed(found, found.order_better[window]),
        "classes": found.by_class,
    }


def _changed(found: Regression, indices: list[int]) -> list[dict[str, object]]:
    names, old, new = truths(found.before, indices), outcomes(found.before, indices), outcomes(found.after, indices)
    return [
        {"index": index, "truth": names[index], "before": old[index].text, "after": new[index].text}
        for index in indices
    ]


def _response(comparison: Comparison) -> dict[str, object]:
    return {
        "task": comparison.task,
        "base": comparison.base.run.pk,
        "at": comparison.at,
        "runs": [
            {
                "id": row.item.run.pk,
                "name": row.item.run.name,
                "status": row.item.run.status,
                "dataset": row.item.run.dataset_id,
                "epoch": row.item.validation.epoch if row.item.validation else None,
                "step": row.item.validation.step if row.item.validation else None,
                "values": row.item.validation.values if row.item.validation else {},
                "changes": {
                    cell.row.name: cell.row.change
                    for cell in row.cells
                    if cell.row is not None and cell.row.change is not None
                },
            }
            for row in comparison.rows
        ],
        "metrics": [
            {
                **{name: getattr(column, name) for name in ("name", "label", "higher_is_better", "is_share", "best")},
                "best_runs": [row.item.run.pk for row in comparison.rows if row.cells[place].is_best],
            }
            for place, column in enumerate(comparison.columns)
        ],
        "settings": [
            {
                "name": difference.name,
                "label": difference.label,
                "values": {
                    str(item.run.pk): value.value
                    for item, value in zip(comparison.shown, difference.values, strict=True)
                },
            }
            for difference in comparison.differences
        ],
    }
