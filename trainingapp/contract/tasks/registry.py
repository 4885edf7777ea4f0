"""The tasks of this installation by name, in the order in which pages offer them.

The built-in tasks come first. Further ones come from the environment variable STUDIO_TASKS: dotted names of modules,
separated by commas, each with a `TASK`. Every process of the studio and every trainer reads it when it starts, so the
variable must be the same for all of them. Without its entry, runs and models of a task can be viewed, downloaded and
deleted only (`models.verbs.task_problem`).
"""

import os
from importlib import import_module
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.tasks import classification, detection, instances, segmentation
from trainingapp.contract.tasks.descriptor import Annotation, TaskDescriptor

VARIABLE = "STUDIO_TASKS"

TASKS: dict[str, TaskDescriptor] = {}

METRICS: dict[str, Metric] = {"loss": LOSS}
"""The metrics of all tasks by name. A name means the same in every task."""

DEFAULT_TASK = classification.TASK.name


def register(task: TaskDescriptor) -> None:
    """Make the task known to this process.

    Raises ValueError where a task has its name already, or gives one of its metrics another meaning.
    """
    if task.name in TASKS:
        raise ValueError(f"the task {task.name} is registered twice")
    if other := [name for name, metric in task.metrics.items() if METRICS.get(name, metric) != metric]:
        raise ValueError(f"task {task.name}: other tasks define the metrics {', '.join(other)} differently")
    TASKS[task.name] = task
    METRICS.update(task.metrics)


def tasks_for(annotations: list[Annotation]) -> list[str]:
    """The tasks that a dataset with these annotations suffices for, in the order of the annotations."""
    found = [
        task.name
        for kind in annotations
        for task in TASKS.values()
        if kind == task.annotation or kind in task.other_annotations
    ]
    return list(dict.fromkeys(found))


def _known(name: str) -> str:
    if name not in TASKS:
        *others, last = (repr(known) for known in TASKS)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return name


class _KnownTask:
    """Looks the name up when it is checked, so that tasks can be registered after a schema was built."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_known, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(TASKS)}


TaskName = Annotated[str, _KnownTask()]
"""The name of a registered task, as a field of a pydantic model."""


for _module in (classification, detection, segmentation, instances):
    register(_module.TASK)
for _name in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
    register(import_module(_name).TASK)
