"""Comparing runs."""

from typing import Literal

from django.utils.translation import gettext as _
from ninja import Query, Router, Schema
from pydantic import Field, JsonValue

from trainingapp.api.access import visible
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import MOST_ID, Text
from trainingapp.api.problems import not_found, wrong_parameter
from trainingapp.models import TrainingRun
from trainingapp.runs.comparison import MOST_RUNS, Comparison, ComparisonError, compare

router = Router(tags=["training"])

#: A list of MOST_RUNS numbers of up to 19 digits with commas and spaces is shorter.
RUNS_LENGTH = 21 * MOST_RUNS


class ComparisonFilters(Schema):
    """Query parameters of a comparison."""

    runs: Text = Field(max_length=RUNS_LENGTH, description="Numbers of the runs, separated by commas.")
    base: int | None = Field(None, ge=1, le=MOST_ID, description="Baseline of the changes; by default the first run.")
    at: Literal["best", "newest"] = Field("best", description="The validation of the best epoch, or the newest.")


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


class ComparisonResponse(Schema):
    """Runs of one task beside each other. Runs that you may not see are left out."""

    task: str
    base: int
    at: str
    runs: list[ComparedRunEntry]
    metrics: list[ComparedMetric]
    settings: list[ComparedSetting]


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
    return _response(comparison)


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
