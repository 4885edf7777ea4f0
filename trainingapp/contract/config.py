"""RunConfig: the one definition of what a run can be told.

Form, API, command, stored JSON and trainer all use these models, so a field's bounds, default, unit and help exist
once. No torch here: the web process imports this module.
"""

from typing import Any

from pydantic import BaseModel

from trainingapp.contract.base_config import MOST_ACCUMULATION, BaseRunConfig
from trainingapp.contract.corrections import corrected
from trainingapp.contract.old_names import with_new_names
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS, TaskName

RunConfig = BaseRunConfig
"""The configuration of a run of any task: an instance of the `config` of the task's descriptor."""

LEAST_BATCH = 2


class _Task(BaseModel):
    """Says what is wrong with a task that there is none of."""

    task: TaskName = DEFAULT_TASK


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Check `values` as they are. Raises pydantic.ValidationError, which names each wrong field."""
    values = with_new_names(values)
    name = _Task.model_validate({"task": values["task"]} if "task" in values else {}).task
    return TASKS[name].config.model_validate(values)


def config_schema(task: str) -> dict[str, dict[str, Any]]:
    """JSON schema of each field of a task's configuration, with its label, unit, group and bounds."""
    return dict(TASKS[task].config.model_json_schema()["properties"])


def config_defaults(task: str, model: str) -> dict[str, Any]:
    """The value of each field where nothing is said, for this network; without the task's name."""
    config = TASKS[task].config
    general = {name: field.default for name, field in config.model_fields.items() if name != "task"}
    return general | config.architecture_defaults(model) | {"model": model}


def correct_config(values: dict[str, Any]) -> tuple[RunConfig, list[str]]:
    """Check `values` after correcting what has one plain meaning; returns the config and a sentence per correction.

    Everything else that is wrong raises pydantic.ValidationError.
    """
    values = with_new_names(values)
    name = values.get("task", DEFAULT_TASK)
    if not isinstance(name, str) or name not in TASKS:
        return parse_config(values), []  # which refuses it
    values, corrections = corrected(values, TASKS[name].config)
    return parse_config(values), corrections


def with_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """The same run with another number of epochs. Raises pydantic.ValidationError."""
    return parse_config({**config.model_dump(mode="json"), "epochs": epochs})


def smaller_batch(config: RunConfig, batch_size: int | None = None) -> RunConfig | None:
    """The same run in less memory: half the batch and twice the accumulation; None where that is not possible.

    `batch_size` is what the run had where it found it itself (`auto_batch_size`). An odd batch is divided by its
    smallest factor, so that the optimizer sees as many images a step as before, and an epoch keeps its steps: a
    checkpoint in the midst of one goes on with the very next image. Only a prime number of images has no such
    factor; it is halved, rounding down. Batch norm needs two images, so that is the least.
    """
    size = batch_size or config.batch_size
    factor = next((number for number in range(2, size // LEAST_BATCH + 1) if size % number == 0), 2)
    values = {
        "batch_size": size // factor,
        "accumulation_steps": config.accumulation_steps * factor,
        "auto_batch_size": False,
    }
    if values["batch_size"] < LEAST_BATCH or values["accumulation_steps"] > MOST_ACCUMULATION:
        return None
    return parse_config({**config.model_dump(mode="json"), **values})
