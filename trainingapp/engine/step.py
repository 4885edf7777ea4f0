"""One step of the optimizer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.device import Precision
from trainingapp.engine.optim import clip_gradients, set_learning_rate
from trainingapp.engine.state import TrainingState


@dataclass(frozen=True)
class Step:
    """A finished step: its learning rate, and the loss of each of its batches, scalars on the device."""

    rate: float
    losses: list[torch.Tensor]


def training_step(
    state: TrainingState,
    batches: Iterator[TensorBatch],
    precision: Precision,
    seen: Callable[[TensorBatch], None] = lambda batch: None,
) -> Step:
    """Accumulate the gradients of the batches of the next step, and make the step. `seen` is called with each batch."""
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    rate = state.schedule.lr_at(state.step)
    set_learning_rate(optimizer, rate)
    parts, losses = state.batches_in_step, []
    for batch in islice(batches, parts):
        seen(batch)
        with precision.autocast():
            loss = state.task.loss(model, batch, state.meter)
        scaler.scale(loss / parts).backward()
        losses.append(loss.detach())  # not .item(), which would wait for a GPU
    clip_gradients(model, optimizer, scaler, state.config.gradient_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    state.step_in_epoch += 1
    if state.ema:
        state.ema.update(state.step)
    return Step(rate, losses)
