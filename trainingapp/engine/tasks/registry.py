"""Which task trains which configuration: adding a task is one file beside this one and one entry here."""

from collections.abc import Sequence
from typing import Any

import torch

from trainingapp.contract.dataset_index import DatasetIndex, read_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.run_directory import Order
from trainingapp.engine.tasks.classification.task import ClassificationTask
from trainingapp.engine.tasks.detection.task import DetectionTask
from trainingapp.engine.tasks.segmentation.task import SegmentationTask
from trainingapp.engine.tasks.task import Task

TASKS: dict[str, Any] = {
    "classification": ClassificationTask,
    "detection": DetectionTask,
    "segmentation": SegmentationTask,
}


def read_dataset(order: Order) -> DatasetIndex:
    """The dataset of the order. Raises BadData where it is damaged, or made for other tasks."""
    try:
        dataset = read_index(order.dataset_dir)
    except ValueError as error:
        raise BadData(str(error)) from error
    if order.config.task not in dataset.tasks:
        raise BadData(f"The dataset is for {', '.join(dataset.tasks)}, not for {order.config.task}.")
    return dataset


def make_task(order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()) -> Task:
    """The task of the order's configuration. Raises BadData where the dataset does not suffice."""
    task: Task = TASKS[order.config.task](order, dataset, device, unwanted_fds=unwanted_fds)
    return task
