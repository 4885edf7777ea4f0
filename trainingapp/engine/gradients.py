"""The gradients of the batches of a step, in one process."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch

from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.device import Precision
from trainingapp.engine.state import TrainingState
from trainingapp.engine.tasks.task import Meter

Seen = Callable[[TensorBatch], None]


def backward(state: TrainingState, batch: TensorBatch, number: int, meter: Meter, precision: Precision) -> torch.Tensor:
    """Add the gradients of a batch, the one with this number of the next step; returns its loss, on the device."""
    state.seed_batch(state.batches_done + number)
    with precision.autocast():
        loss: torch.Tensor = state.task.loss(state.model, batch, meter)
    state.scaler.scale(loss / state.batches_in_step).backward()
    return loss.detach()  # not .item(), which would wait for a GPU


def accumulated(
    state: TrainingState, batches: Iterator[TensorBatch], precision: Precision, seen: Seen
) -> list[torch.Tensor]:
    """Accumulate the gradients of the batches of the next step; returns their losses. `seen` is called with each."""
    losses = []
    for number, batch in enumerate(islice(batches, state.batches_in_step)):
        seen(batch)
        losses.append(backward(state, batch, number, state.meter, precision))
    return losses
