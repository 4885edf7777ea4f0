"""Corrections: what is wrong in a configuration but has one plain meaning is put right, and reported."""

from collections.abc import Mapping

from trainingapp.contract.base_config import IMAGE_SIZE_MULTIPLE, BaseRunConfig
from trainingapp.contract.limits import MAX_IMAGE_SIZE
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.config import (
    CHOICE_CORRECTED,
    CHOICE_RULED_OUT,
    IMAGE_SIZE_ROUNDED,
    WARMUP_SHORTENED,
)
from trainingapp.contract.number_text import number_text
from trainingapp.contract.setting import ConfigField


def corrected(
    values: Mapping[str, object], config: type[BaseRunConfig], fields: Mapping[str, ConfigField]
) -> tuple[dict[str, object], list[Message]]:
    """The corrected values, and a message for each that was changed.

    A choice in other letters, such as sgd or ADAMW; a default choice that the other values rule out, which becomes the
    first one that they allow; an image size that is no multiple of 32, which is rounded up to one; a warm-up longer
    than the run, which is reduced to a tenth of it. What has no plain meaning stays as it is.
    """
    meant = dict(values)
    messages = [*_spell_choices(meant, fields), *_replace_ruled_out(meant, fields), *_round_size(meant)]
    return meant, [*messages, *_shorten_warmup(meant, config, fields)]


def _spell_choices(values: dict[str, object], fields: Mapping[str, ConfigField]) -> list[Message]:
    messages = []
    for name, field in fields.items():
        given = values.get(name)
        if isinstance(given, str) and given not in field.choices:
            meant = [choice for choice in field.choices if _letters(choice) == _letters(given)]
            if len(meant) == 1:
                values[name] = meant[0]
                messages.append(CHOICE_CORRECTED(name=name, given=given.strip(), taken=meant[0]))
    return messages


def _replace_ruled_out(values: dict[str, object], fields: Mapping[str, ConfigField]) -> list[Message]:
    messages = []
    for name, field in fields.items():
        if values.get(name) == field.default and not field.setting.can_choose(field.default, values):
            taken, when = field.default_beside(values), field.setting.choice_when[str(field.default)]
            values[name] = taken
            facts = {"given": str(field.default), "taken": str(taken)}
            messages.append(CHOICE_RULED_OUT(name=name, **facts, other=when.field, value=str(values[when.field])))
    return messages


def _letters(text: str) -> str:
    return text.strip().casefold().replace("_", "-").replace(" ", "-")


def _round_size(values: dict[str, object]) -> list[Message]:
    size = _number(values.get("image_size"))
    if size is None or not size.is_integer() or not 0 < size <= MAX_IMAGE_SIZE or size % IMAGE_SIZE_MULTIPLE == 0:
        return []
    taken = -(-int(size) // IMAGE_SIZE_MULTIPLE) * IMAGE_SIZE_MULTIPLE
    values["image_size"] = taken
    return [IMAGE_SIZE_ROUNDED(given=number_text(size), taken=taken, factor=IMAGE_SIZE_MULTIPLE)]


def _shorten_warmup(
    values: dict[str, object], config: type[BaseRunConfig], fields: Mapping[str, ConfigField]
) -> list[Message]:
    """Some networks have a default warm-up that is longer than a short run."""
    defaults = {name: fields[name].default for name in ("epochs", "warmup_epochs")}
    model = values.get("model", fields["model"].default)
    if isinstance(model, str):
        defaults |= config.architecture_defaults(model)
    epochs, warmup = (_number(values.get(name, defaults[name])) for name in ("epochs", "warmup_epochs"))
    if epochs is None or warmup is None or not 0 < epochs < warmup <= (fields["warmup_epochs"].maximum or 0):
        return []
    values["warmup_epochs"] = epochs / 10
    return [WARMUP_SHORTENED(given=number_text(warmup), taken=number_text(epochs / 10))]


def _number(value: object) -> float | None:
    """The number that pydantic would read from the value; None where it would refuse it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
