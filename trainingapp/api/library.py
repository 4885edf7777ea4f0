"""Verbs of the weights library and of checkpoints, as far as this studio has them.

Where a verb is missing the answer says so (409, not-available), and nothing is made up.
"""

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from trainingapp import lifecycle
from trainingapp.api.problems import Problem
from trainingapp.models import Checkpoint, TrainingRun, Weights

if TYPE_CHECKING:
    from trainingapp.api.schemas import TrainingSaveRequest

_verbs: Any = lifecycle


def save_weights(run: TrainingRun, order: "TrainingSaveRequest", user: Any) -> Weights:
    """Save a checkpoint of the run, by default the best, to the library."""
    _need("save_weights")
    weights: Weights = _verbs.save_weights(
        run, file=order.checkpoint, name=order.name, note=order.note, licence=order.licence, by=user
    )
    return weights


def delete_weights(weights: Weights) -> dict[str, Any]:
    _need("delete_weights")
    return _freed(_verbs.delete_weights(weights))


def delete_checkpoint(checkpoint: Checkpoint, user: Any) -> dict[str, Any]:
    _need("delete_checkpoint")
    return _freed(_verbs.delete_checkpoint(checkpoint, by=user.get_username()))


def _need(name: str) -> None:
    if not hasattr(_verbs, name):
        raise Problem(409, _("This studio cannot do that yet."), kind="not-available")


def _freed(size: Any) -> dict[str, Any]:
    return {"bytes": size.bytes, "files": size.files}
