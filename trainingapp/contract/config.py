"""RunConfig: the one definition of the configuration of a run.

Form, API, command, stored JSON and trainer all use these models, so that each fact about a field exists once: in its
annotation. No torch here: the web process imports this module.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from trainingapp.contract.base_config import LEAST_BATCH, MOST_ACCUMULATION, BaseRunConfig
from trainingapp.contract.corrections import corrected
from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.messages import Message
from trainingapp.contract.old_names import with_new_names
from trainingapp.contract.setting import SECTIONS, ConfigField, Kind, Label, Setting
from trainingapp.contract.tasks.registry import DEFAULT_TASK, METRICS, TASKS, TaskName

RunConfig = BaseRunConfig
"""The configuration of a run of any task: an instance of the `config` of the task's descriptor."""


class _Task(BaseModel):
    """Validates the name of a task."""

    task: TaskName = DEFAULT_TASK


def parse_config(values: Mapping[str, object]) -> RunConfig:
    """Check `values` without correcting them. Raises pydantic.ValidationError, which names each wrong field."""
    values = with_new_names(dict(values))
    name = _Task.model_validate({"task": values["task"]} if "task" in values else {}).task
    return TASKS[name].config.model_validate(values)


def config_fields(task: str) -> dict[str, ConfigField]:
    """The fields of a task's configuration by name, in the order of the form: by section, then as declared."""
    return dict(_fields_of(TASKS[task].config))


@cache
def _fields_of(config: type[BaseRunConfig]) -> dict[str, ConfigField]:
    found = [_described(config, name, field) for name, field in config.model_fields.items()]
    return {field.name: field for field in sorted(found, key=lambda field: SECTIONS.index(field.setting.section))}


def _described(config: type[BaseRunConfig], name: str, field: FieldInfo) -> ConfigField:
    number, words = _number_and_words(field.annotation)
    bounds = [*field.metadata, *number.metadata]
    lower, above, upper, below = (
        next((getattr(item, bound) for item in bounds if hasattr(item, bound)), None)
        for bound in ("ge", "gt", "le", "lt")
    )
    is_literal = get_origin(field.annotation) is Literal
    choices = tuple(config.architectures) if name == "model" else get_args(field.annotation) if is_literal else ()
    kinds: dict[object, Kind] = {bool: "switch", int: "whole", float: "number"}
    return ConfigField(
        name=name,
        kind="choice" if choices else kinds.get(number.annotation, "text"),
        default=field.default,
        setting=_setting(field),
        minimum=lower if above is None else above,
        maximum=upper if below is None else below,
        is_open_below=above is not None,
        is_open_above=below is not None,
        choices=choices,
        words=words,
    )


def _number_and_words(annotation: object) -> tuple[FieldInfo, tuple[str, ...]]:
    """The type of a field without the words that it accepts beside numbers, with its bounds, and these words."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    plain = [member for member in members if get_origin(member) is not Literal] or [annotation]
    words = tuple(word for member in members[1:] if get_origin(member) is Literal for word in get_args(member))
    return FieldInfo.from_annotation(cast(Any, plain[0])), words


def _setting(field: FieldInfo) -> Setting:
    """Raises StopIteration for a field without one; a test goes through all fields."""
    return next(item for item in field.metadata if isinstance(item, Setting))


def config_defaults(task: str, model: str) -> dict[str, JsonValue]:
    """The default of each field for a new run of this network; without the task's name."""
    config = TASKS[task].config
    general = {name: field.default for name, field in config.model_fields.items() if name != "task"}
    return general | config.new_run_defaults() | config.architecture_defaults(model) | {"model": model}


def known_label(name: str, value: object) -> Label | None:
    """The label of a value of this field in any task; None where it has none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    value = value if isinstance(value, str) else f"{value:g}"
    # Tasks and metrics are named by the descriptors of the tasks, for pages that show no configuration as well.
    if name == "task":
        return TASKS[value].label if value in TASKS else None
    if name == "best_metric":
        return METRICS[value].label if value in METRICS else None
    fields = [task.config.model_fields[name] for task in TASKS.values() if name in task.config.model_fields]
    return next((_setting(field).labels[value] for field in fields if value in _setting(field).labels), None)


def kept_by_continuing(task: str) -> list[str]:
    """The fields that a fork must keep to continue from a step: the tensors of a checkpoint belong to their values."""
    return [field.name for field in config_fields(task).values() if field.setting.kept_by_continuing]


def changed_by_continuing(task: str, stored: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> list[str]:
    """The fields that a fork must keep and that two whole configurations differ in.

    A field without effect counts as its default: a rank of adapters belongs to the frozen backbone.
    """
    fields = config_fields(task)

    def effective(name: str, values: Mapping[str, JsonValue]) -> JsonValue:
        return values[name] if fields[name].setting.has_effect(values) else fields[name].default

    return [name for name in kept_by_continuing(task) if effective(name, stored) != effective(name, wanted)]


def result_changes(
    before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Fields that may explain why two configurations of one task compute other weights: name, both values.

    A field that an older version did not store had the effect of its default.
    """
    then, now = with_new_names(dict(before)), with_new_names(dict(after))
    for name, field in config_fields(str(now["task"])).items():
        old, new = (field.setting.stored(name, values, field.default) for values in (then, now))
        has_effect = field.setting.has_effect(then) or field.setting.has_effect(now)
        if field.setting.changes_result and has_effect and old != new:
            yield name, old, new


def correct_config(
    values: Mapping[str, object], label_mode: LabelMode | None = None
) -> tuple[RunConfig, list[Message]]:
    """Check `values` of a new run after correcting what has one plain meaning; returns the config and a message per
    correction.

    What is not set takes the default of new runs. `label_mode` is that of the dataset, for a configuration that does
    not name one. Everything else that is wrong raises pydantic.ValidationError.
    """
    values = with_new_names(dict(values))
    name = values.get("task", DEFAULT_TASK)
    if not isinstance(name, str) or name not in TASKS:
        return parse_config(values), []  # which refuses it
    if label_mode and "label_mode" in TASKS[name].config.model_fields:
        values.setdefault("label_mode", label_mode)
    config = TASKS[name].config
    model = values.get("model", config.model_fields["model"].default)
    suited = config.architecture_defaults(model) if isinstance(model, str) else {}
    values = {**{field: value for field, value in config.new_run_defaults().items() if field not in suited}, **values}
    corrected_values, corrections = corrected(values, config, config_fields(name))
    return parse_config(corrected_values), corrections


def with_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """The same run with another number of epochs. Raises pydantic.ValidationError."""
    return parse_config({**config.model_dump(mode="json"), "epochs": epochs})


def smaller_batch(config: RunConfig, batch_size: int | None = None) -> RunConfig | None:
    """The same run in less memory: half the batch size and twice the accumulation; None where that is not possible.

    `batch_size` is the one that the run found itself, if it did (`auto_batch_size`).
    """
    size = batch_size or config.batch_size
    # An odd batch is divided by its smallest factor: a step still sees as many images, so that an epoch keeps its
    # steps and a checkpoint within one continues with the very next image. Only a prime size is rounded down.
    factor = next((number for number in range(2, size // LEAST_BATCH + 1) if size % number == 0), 2)
    values = {
        "batch_size": size // factor,
        "accumulation_steps": config.accumulation_steps * factor,
        "auto_batch_size": False,
    }
    if values["batch_size"] < LEAST_BATCH or values["accumulation_steps"] > MOST_ACCUMULATION:
        return None
    return parse_config({**config.model_dump(mode="json"), **values})
