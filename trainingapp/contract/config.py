"""RunConfig: the one definition of what a run can be told.

Form, API, command, stored JSON and trainer all use these models, so a field's bounds, default, unit and help exist
once. No torch here: the web process imports this module.
"""

from typing import Any, cast

from pydantic import BaseModel

from trainingapp.contract.architectures import architecture_defaults
from trainingapp.contract.base_config import MOST_ACCUMULATION, BaseRunConfig
from trainingapp.contract.corrections import corrected
from trainingapp.contract.dataset_index import TaskName
from trainingapp.contract.old_names import with_new_names
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.contract.tasks.segmentation import SegmentationConfig

RunConfig = ClassificationConfig | DetectionConfig | SegmentationConfig

TASKS: dict[str, type[BaseRunConfig]] = {
    "classification": ClassificationConfig,
    "detection": DetectionConfig,
    "segmentation": SegmentationConfig,
}

LEAST_BATCH = 2


class _Task(BaseModel):
    """Says what is wrong with a task that there is none of."""

    task: TaskName = "classification"


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Check `values` as they are. Raises pydantic.ValidationError, which names each wrong field."""
    values = with_new_names(values)
    name = _Task.model_validate({"task": values["task"]} if "task" in values else {}).task
    return cast(RunConfig, TASKS[name].model_validate(values))


def config_schema(task: str) -> dict[str, dict[str, Any]]:
    """JSON schema of each field of a task's configuration, with its label, unit, group and bounds."""
    return dict(TASKS[task].model_json_schema()["properties"])


def config_defaults(task: str, model: str) -> dict[str, Any]:
    """The value of each field where nothing is said, for this network; without the task's name."""
    fields = TASKS[task].model_fields
    general = {name: field.default for name, field in fields.items() if name != "task"}
    return general | architecture_defaults(task, model) | {"model": model}


def correct_config(values: dict[str, Any]) -> tuple[RunConfig, list[str]]:
    """Check `values` after correcting what has one plain meaning; returns the config and a sentence per correction.

    Everything else that is wrong raises pydantic.ValidationError.
    """
    values = with_new_names(values)
    name = values.get("task", _Task().task)
    if not isinstance(name, str) or name not in TASKS:
        return parse_config(values), []  # which refuses it
    values, corrections = corrected(values, TASKS[name])
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
