"""Evaluating the present weights on the validation split."""

import math
import time
from collections.abc import Callable

import torch

from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages.training import DIVERGED, VALIDATION_NOT_FINITE
from trainingapp.engine.control import Ending
from trainingapp.engine.device import Precision
from trainingapp.engine.ranks import Order, Ranks, Word
from trainingapp.engine.report import Reporter
from trainingapp.engine.state import TrainingState
from trainingapp.engine.tasks.task import SharedMeter


def evaluate_split(
    state: TrainingState, precision: Precision, report: Reporter, ending: Callable[[], Ending | None]
) -> Evaluation | Ending:
    """Evaluate the whole validation split, or return how to end as soon as `ending` returns that.

    Other ranks evaluate their share of it meanwhile (`evaluate_share`), if the task's meter can be shared.
    The model stays in evaluation mode. Raises NonFiniteLoss for a result that is not finite.
    """
    meter = state.task.validation_meter()
    model = state.evaluated_model.eval()
    ranks = state.ranks if isinstance(meter, SharedMeter) else Ranks()
    ranks.tell(Word.VALIDATE)
    for batch in state.task.val_batches():
        if requested := ending():
            ranks.tell(Word.LEAVE)
            return requested
        ranks.tell(Word.NEXT)
        began = time.monotonic()
        with torch.inference_mode(), precision.autocast():
            state.task.evaluate(model, batch, meter)
        ranks.note_duration(time.monotonic() - began)
        report.progress("validate")
    if ranks.world > 1:
        ranks.tell(Word.GATHER)
        meter.join(ranks.gathered())
    found = state.task.evaluation(meter)
    for name, value in found.values.items():
        if not math.isfinite(value):
            fact = VALIDATION_NOT_FINITE(metric=name, epoch=state.epoch, value=str(value))
            raise NonFiniteLoss(DIVERGED(fact=fact))
    return found


def evaluate_share(state: TrainingState, precision: Precision, carry_out: Callable[[Order], None]) -> None:
    """Evaluate the batches of a rank above 0, as rank 0 tells, and give it the results.

    `carry_out` gets what rank 0 tells between two batches that is not about the validation, as for a request to save.
    """
    meter = state.task.validation_meter()
    model, batches = state.evaluated_model.eval(), state.task.val_batches()
    while (order := state.ranks.listen()).word not in (Word.GATHER, Word.LEAVE):
        if order.word is not Word.NEXT:
            carry_out(order)
        elif (batch := next(batches, None)) is not None:  # the last round may have none for this rank
            with torch.inference_mode(), precision.autocast():
                state.task.evaluate(model, batch, meter)
    if order.word is Word.GATHER:
        state.ranks.give(meter.shared())
