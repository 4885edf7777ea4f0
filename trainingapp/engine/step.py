"""One step of the optimizer."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.device import Precision
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.gradients import Seen, accumulated
from trainingapp.engine.optim import begin_momenta, clip_gradients, set_learning_rate, set_momentum
from trainingapp.engine.state import TrainingState


@dataclass(frozen=True)
class Step:
    """A finished step: its learning rate, and the loss of each of its batches, scalars on the device.

    `images_elsewhere` counts the images that other ranks computed.
    """

    rate: float
    losses: list[torch.Tensor]
    images_elsewhere: int = 0


def epoch_batches(state: TrainingState) -> Iterator[TensorBatch]:
    """The remaining batches of the epoch, with the model in training mode."""
    set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
    begin_momenta(state.optimizer)
    return state.task.train_batches(state.epoch, skip=state.batches_done)


def training_step(
    state: TrainingState, batches: Iterator[TensorBatch], precision: Precision, seen: Seen = lambda batch: None
) -> Step:
    """Accumulate the gradients of the batches of the next step, and make the step. `seen` is called with each batch
    that this rank computes."""
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    rate = state.schedule.lr_at(state.step)
    set_learning_rate(optimizer, rate)
    set_momentum(optimizer, state.schedule, state.step, state.config.momentum)
    images_elsewhere = _images_elsewhere(state)
    gradients = state.shared_gradients or accumulated
    losses = gradients(state, batches, precision, seen)
    clip_gradients(model, optimizer, scaler, state.config.gradient_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    state.step_in_epoch += 1
    if state.ema:
        state.ema.update(state.step)
    return Step(rate, losses, images_elsewhere)


def _images_elsewhere(state: TrainingState) -> int:
    """Images of the next step that other ranks compute."""
    ranks, count, first = state.ranks, state.batches_in_step, state.batches_done
    if ranks.world == 1:
        return 0
    others = set(range(count)) - set(ranks.numbers(count))
    return sum(state.task.images_in(first + number) for number in others)
