"""What pages show of prediction jobs."""

from collections.abc import Mapping

from django import template
from django.utils.translation import gettext
from pydantic import JsonValue

from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.export_options import options_of
from trainingapp.contract.model_card import EXPORT_FILES
from trainingapp.contract.number_text import number_text
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
def export_choices(data: Mapping[str, JsonValue] | None) -> list[str]:
    """The choices of an export that differ from the defaults, in the reader's language."""
    options = options_of(data)
    texts = {
        gettext("dynamic batch size"): options.batch == "dynamic",
        gettext("dynamic height and width"): options.size == "dynamic",
        gettext("opset %(number)d") % {"number": options.opset or 0}: options.opset is not None,
        gettext("weights in half precision"): options.half,
        gettext("non-maximum suppression inside"): options.nms,
    }
    return [text for text, is_chosen in texts.items() if is_chosen]


@register.filter
def result_text(result: Mapping[str, JsonValue], name: str) -> str:
    """The message `name` of a job's result in the reader's language; that of an older version as it was stored."""
    data = result.get(f"{name}_data")
    return rendered_data({**(data if isinstance(data, dict) else {}), "message": result.get(name)})


@register.filter
def conversion_lines(weights: Weights) -> list[str]:
    """How the model converts images of more than 8 bits, in the reader's language; none where its dataset had none."""
    conversion = Conversion.from_data(weights.conversion)
    if conversion is None:
        return []
    lines = []
    kinds = ((gettext("integers"), conversion.integers), (gettext("floats"), conversion.floats))
    for kind, scale in kinds:
        if scale:
            values = {"kind": kind, "low": number_text(scale.low), "high": number_text(scale.high, digits=6)}
            lines.append(gettext("%(kind)s: %(low)s becomes 0, %(high)s becomes 255") % values)
    if conversion.bands:
        lines.append(gettext("bands of a TIFF: %(bands)s") % {"bands": ", ".join(map(str, conversion.bands))})
    return lines


@register.filter
def column(row: dict[str, object], name: str) -> object:
    return row.get(name)


@register.filter
def weights_problem(weights: Weights) -> str:
    """Why the file could not be made, in the reader's language; that of an older version as it was stored."""
    return rendered_data({**weights.problem_data, "message": weights.problem})
