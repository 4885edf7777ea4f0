"""Evaluating the present weights on the validation split."""

import math
from collections.abc import Callable

import torch

from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages.training import DIVERGED, VALIDATION_NOT_FINITE
from trainingapp.engine.control import Ending
from trainingapp.engine.device import Precision
from trainingapp.engine.report import Reporter
from trainingapp.engine.state import TrainingState


def evaluate_split(
    state: TrainingState, precision: Precision, report: Reporter, ending: Callable[[], Ending | None]
) -> Evaluation | Ending:
    """Evaluate the whole validation split, or return how to end as soon as `ending` returns that.

    The model stays in evaluation mode. Raises NonFiniteLoss for a result that is not finite.
    """
    meter = state.task.validation_meter()
    model = state.evaluated_model.eval()
    for batch in state.task.val_batches():
        if requested := ending():
            return requested
        with torch.inference_mode(), precision.autocast():
            state.task.evaluate(model, batch, meter)
        report.progress("validate")
    found = state.task.evaluation(meter)
    for name, value in found.values.items():
        if not math.isfinite(value):
            fact = VALIDATION_NOT_FINITE(metric=name, epoch=state.epoch, value=str(value))
            raise NonFiniteLoss(DIVERGED(fact=fact))
    return found
