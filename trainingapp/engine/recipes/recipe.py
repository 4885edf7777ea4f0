"""What the loop asks of a recipe: the training procedure of one vision task."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn


class Meter(Protocol):
    """Sums over batches that live on the device and are part of a checkpoint."""

    def reset(self) -> None: ...

    def seen(self) -> int:
        """Pictures since the last reset."""

    def training_values(self) -> dict[str, float]:
        """What a point of the training curves shows; "loss" is among them."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Recipe(Protocol):
    """A recipe knows its data, its model and its metrics; the loop knows steps, saving and commands.

    Batches are whatever the recipe's own methods understand.
    """

    steps_per_epoch: int
    #: The validation value that decides which checkpoint is best; higher is better.
    best_metric: str

    def build_model(self, *, pretrained: bool) -> nn.Module:
        """The network on its device. Raises WeightsUnavailable."""

    def train_batches(self, epoch: int, *, skip: int) -> Iterator[Any]:
        """The batches of an epoch but the first `skip`, the same at every attempt. Raises BadData."""

    def val_batches(self) -> Iterator[Any]:
        """The validation split, in its order. Raises BadData."""

    def new_meter(self, *, validation: bool) -> Any:
        """An empty meter on the recipe's device."""

    def loss(self, model: nn.Module, batch: Any, meter: Any) -> torch.Tensor:
        """Forward pass of a training batch, added to the meter: a scalar with a gradient."""

    def evaluate(self, model: nn.Module, batch: Any, meter: Any) -> None:
        """Forward pass of a validation batch, added to the meter."""

    def val_report(self, meter: Any) -> dict[str, Any]:
        """The payload of the validation event: "values" and what else the recipe shows."""

    def description(self) -> dict[str, Any]:
        """What a checkpoint should tell about the recipe so that it can be used alone, such as class names."""
