"""The classes that train the tasks, imported when a task is first used."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module

import torch

from trainingapp.contract.dataset_index import DatasetIndex, read_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.folds import folded
from trainingapp.contract.messages import message_of
from trainingapp.contract.messages.tasks import OTHER_TASK
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.tasks.task import BaseTask, Task


@cache
def implementation(name: str) -> type[Task]:
    """The class of a registered task, from the `implementation` of its descriptor.

    Other tasks, and the libraries that they need, are not imported. Raises TypeError for anything else than a task.
    """
    module, _, attribute = TASKS[name].implementation.partition(":")
    found = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, BaseTask)):
        raise TypeError(f"{TASKS[name].implementation} is not derived from BaseTask")
    return found


def read_dataset(spec: RunSpec) -> DatasetIndex:
    """The dataset of the run with the splits of its fold.

    Raises BadData where it is damaged, or made for other tasks.
    """
    try:
        dataset = read_index(spec.dataset_dir)
    except ValueError as error:
        raise BadData(message_of(error)) from error
    if spec.config.task not in dataset.tasks:
        raise BadData(OTHER_TASK(tasks=dataset.tasks, task=spec.config.task))
    return folded(dataset, spec.config.folds, spec.config.fold)


def make_task(spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()) -> Task:
    """The task of the run's configuration. Raises BadData where the dataset lacks the required annotations."""
    return implementation(spec.config.task)(spec, dataset, device, unwanted_fds=unwanted_fds)
