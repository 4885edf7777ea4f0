"""What pages show of prediction jobs."""

from django import template

from trainingapp.contract.model_card import EXPORT_FILES
from trainingapp.models import Job, Weights
from trainingapp.presentation.messages import rendered_data
from trainingapp.weights.predictions import PredictedImage, Predictions, prediction_lines, read_predictions

LINES_SHOWN = 5

register = template.Library()


@register.simple_tag
def predictions(job: Job) -> Predictions | None:
    return read_predictions(job)


@register.simple_tag
def first_lines(job: Job) -> list[PredictedImage]:
    """The first of many predictions; none where the file is gone."""
    path = job.folder / "predictions.jsonl"
    return prediction_lines(path, LINES_SHOWN) if path.is_file() else []


@register.filter
def export_file(name: str) -> str:
    """The file of an export format."""
    return EXPORT_FILES.get(name, name)


@register.filter
def column(row: dict[str, object], name: str) -> object:
    return row.get(name)


@register.filter
def weights_problem(weights: Weights) -> str:
    """Why the file could not be made, in the reader's language; that of an older version as it was stored."""
    return rendered_data({**weights.problem_data, "message": weights.problem})
