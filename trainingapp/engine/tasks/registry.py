"""Which recipe trains which configuration: adding a recipe is one file beside this one and one entry here."""

from collections.abc import Sequence
from typing import Any

import torch

from trainingapp.contract.dataset_index import DatasetIndex, read_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.run_directory import Order
from trainingapp.engine.tasks.classification.task import ClassificationRecipe
from trainingapp.engine.tasks.detection.task import DetectionRecipe
from trainingapp.engine.tasks.segmentation.task import SegmentationRecipe
from trainingapp.engine.tasks.task import Recipe

RECIPES: dict[str, Any] = {
    "classification": ClassificationRecipe,
    "detection": DetectionRecipe,
    "segmentation": SegmentationRecipe,
}


def read_dataset(order: Order) -> DatasetIndex:
    """The dataset of the order. Raises BadData where it is damaged, or made for other recipes."""
    try:
        dataset = read_index(order.dataset_dir)
    except ValueError as error:
        raise BadData(str(error)) from error
    if order.config.recipe not in dataset.recipes:
        raise BadData(f"The dataset is for {', '.join(dataset.recipes)}, not for {order.config.recipe}.")
    return dataset


def make_recipe(
    order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
) -> Recipe:
    """The recipe of the order's configuration. Raises BadData where the dataset does not suffice."""
    recipe: Recipe = RECIPES[order.config.recipe](order, dataset, device, unwanted_fds=unwanted_fds)
    return recipe
