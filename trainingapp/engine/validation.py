"""What the validation split says of the weights as they are."""

import math
from collections.abc import Callable

import torch

from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation
from trainingapp.engine.checkpoint import non_finite_message
from trainingapp.engine.control import Ending
from trainingapp.engine.device import Precision
from trainingapp.engine.report import Reporter
from trainingapp.engine.state import TrainingState


def evaluate_split(
    state: TrainingState, precision: Precision, report: Reporter, ending: Callable[[], Ending | None]
) -> Evaluation | Ending:
    """Look at the whole validation split; or say how to end, when `ending` does. Leaves the model in evaluation mode.

    Raises NonFiniteLoss for a result that is no number.
    """
    meter = state.task.validation_meter()
    model = state.evaluated_model.eval()
    for batch in state.task.val_batches():
        if wish := ending():
            return wish
        with torch.inference_mode(), precision.autocast():
            state.task.evaluate(model, batch, meter)
        report.progress("validate")
    found = state.task.evaluation(meter)
    for name, value in found.values.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(non_finite_message(f"The validation {name} of epoch {state.epoch} is {value}"))
    return found
