"""Advice about learning rates with which published weights are trained on (no torch).

The usual ones are lower than those of training from scratch, which the defaults of a network are for: what the weights
know would be lost in the first steps.
"""

from collections.abc import Mapping

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.published import FINE_TUNING_RATE
from trainingapp.contract.number_text import field_number

USUAL_OPTIMIZERS = ("Adam", "AdamW")
"""Those of the usual rates."""

MUCH_HIGHER = 3.0
"""Factor above the usual rate from which on the form says so."""


def usual_rate(rates: Mapping[str, float], model: str) -> float | None:
    """The rate of the network among those of its task, by beginnings of names; None where none is known."""
    return next((rate for name, rate in rates.items() if model.startswith(name)), None)


def rate_advice(usual: float | None, *, optimizer: str, learning_rate: float) -> Message | None:
    """What the form says where the run will start from published weights; None where its rate is not much higher."""
    if usual is None or optimizer not in USUAL_OPTIMIZERS or learning_rate < MUCH_HIGHER * usual:
        return None
    return FINE_TUNING_RATE(rate=field_number(usual), optimizer=optimizer, present=field_number(learning_rate))
