"""What is wrong in a configuration and has one plain meaning: it is put right, and said."""

from typing import Any

from trainingapp.contract.base_config import IMAGE_SIZE_MULTIPLE, BaseRunConfig
from trainingapp.contract.number_text import number_text

MOST_PIXELS = 2048
MOST_WARMUP = 100


def corrected(values: dict[str, Any], task: type[BaseRunConfig]) -> tuple[dict[str, Any], list[str]]:
    """The values as they were meant, and a sentence for each that was changed.

    A choice in other letters, such as sgd or ADAMW; a size of images that is no multiple of 32, which is rounded up
    to one; a warm-up longer than the run, which is cut to a tenth of it. What has no plain meaning stays as it is.
    """
    values = dict(values)
    said = [*_spell_choices(values, task), *_round_size(values), *_cut_warmup(values, task)]
    return values, said


def _spell_choices(values: dict[str, Any], task: type[BaseRunConfig]) -> list[str]:
    said = []
    for name, about in task.model_json_schema()["properties"].items():
        given, choices = values.get(name), about.get("enum", [])
        if isinstance(given, str) and given not in choices:
            meant = [choice for choice in choices if _letters(choice) == _letters(given)]
            if len(meant) == 1:
                values[name] = meant[0]
                said.append(f"{name} {given.strip()} became {meant[0]}.")
    return said


def _letters(text: str) -> str:
    return text.strip().casefold().replace("_", "-").replace(" ", "-")


def _round_size(values: dict[str, Any]) -> list[str]:
    size = _number(values.get("image_size"))
    if size is None or not size.is_integer() or not 0 < size <= MOST_PIXELS or size % IMAGE_SIZE_MULTIPLE == 0:
        return []
    values["image_size"] = -(-int(size) // IMAGE_SIZE_MULTIPLE) * IMAGE_SIZE_MULTIPLE
    return [f"image_size {number_text(size)} became {values['image_size']}, a multiple of {IMAGE_SIZE_MULTIPLE}."]


def _cut_warmup(values: dict[str, Any], task: type[BaseRunConfig]) -> list[str]:
    """Some networks warm up for longer than a short run lasts, without anybody having said so."""
    fields = task.model_fields
    defaults = {name: fields[name].default for name in ("epochs", "warmup_epochs")}
    model = values.get("model", fields["model"].default)
    if isinstance(model, str):
        defaults |= task.architecture_defaults(model)
    epochs, warmup = (_number(values.get(name, defaults[name])) for name in ("epochs", "warmup_epochs"))
    if epochs is None or warmup is None or not 0 < epochs < warmup <= MOST_WARMUP:
        return []
    values["warmup_epochs"] = epochs / 10
    return [f"warmup_epochs {number_text(warmup)} became {number_text(epochs / 10)}: it was longer than the run."]


def _number(value: object) -> float | None:
    """The number that pydantic would take it for; None where it would take it for none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
