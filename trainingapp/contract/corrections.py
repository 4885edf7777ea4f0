"""Corrections: what is wrong in a configuration but has one plain meaning is put right, and reported."""

from collections.abc import Mapping

from trainingapp.contract.base_config import IMAGE_SIZE_MULTIPLE, LEAST_BATCH, MOST_ACCUMULATION, BaseRunConfig
from trainingapp.contract.limits import MAX_IMAGE_SIZE
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.config import (
    BATCH_SHARED,
    CHOICE_CORRECTED,
    CHOICE_RULED_OUT,
    IMAGE_SIZE_ROUNDED,
    WARMUP_SHORTENED,
)
from trainingapp.contract.number_text import number_text
from trainingapp.contract.setting import SWITCHED_OFF, ConfigField


def corrected(
    values: Mapping[str, object], config: type[BaseRunConfig], fields: Mapping[str, ConfigField]
) -> tuple[dict[str, object], list[Message]]:
    """The corrected values, and a message for each that was changed.

    A choice in other letters, such as sgd or ADAMW; a default choice that the other values rule out, which becomes the
    first one that they allow; an image size that is no multiple of 32, which is rounded up to one; a warm-up longer
    than the run, which is reduced to a tenth of it; a batch that the devices of the run cannot share, which is divided.
    What has no plain meaning stays as it is.
    """
    meant = dict(values)
    messages = [*_spell_choices(meant, fields), *_replace_ruled_out(meant, fields), *_round_size(meant)]
    return meant, [*messages, *_shorten_warmup(meant, config, fields), *_share_batch(meant, config, fields)]


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


def _share_batch(
    values: dict[str, object], config: type[BaseRunConfig], fields: Mapping[str, ConfigField]
) -> list[Message]:
    """Each device needs a batch of every optimizer step: smaller batches, more of them, and as many images as before.

    Nothing where no smaller batch gives the same step: the trainer then uses fewer devices, and says so.
    """
    names = ("device_count", "batch_size", "accumulation_steps")
    defaults = {name: fields[name].default for name in (*names, "auto_batch_size")}
    model = values.get("model", fields["model"].default)
    if isinstance(model, str):
        defaults |= config.architecture_defaults(model)
    is_automatic = values.get("auto_batch_size", defaults["auto_batch_size"]) not in SWITCHED_OFF
    devices, size, steps = (_number(values.get(name, defaults[name])) for name in names)
    if is_automatic or devices is None or size is None or steps is None or not 1 <= steps < devices:
        return []
    count, batch, before = int(devices), int(size), int(steps)
    factors = [
        factor
        for factor in range(-(-count // before), min(batch // LEAST_BATCH, MOST_ACCUMULATION // before) + 1)
        if batch % factor == 0
    ]
    # The same number of batches for each device where possible.
    factor = min(factors, key=lambda factor: (bool(before * factor % count), factor), default=None)
    if factor is None:
        return []
    values["batch_size"], values["accumulation_steps"] = batch // factor, before * factor
    return [BATCH_SHARED(given=batch, taken=batch // factor, before=before, steps=before * factor, devices=count)]


def _number(value: object) -> float | None:
    """The number that pydantic would read from the value; None where it would refuse it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
