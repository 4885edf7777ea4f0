"""Verbs of the weights library and of checkpoints, as far as this studio has them.

Where a verb is missing the answer says so (409, not-available), and nothing is made up.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from trainingapp import lifecycle
from trainingapp.api.problems import Problem
from trainingapp.models import Checkpoint, Job, TrainingRun, Weights

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


def export_weights(weights: Weights, formats: Sequence[str], user: Any) -> Job:
    """Have a worker pack the weights in these formats."""
    _need("export_weights")
    job: Job = _verbs.export_weights(weights, formats=formats, by=user)
    return job


def delete_checkpoint(checkpoint: Checkpoint, user: Any) -> dict[str, Any]:
    _need("delete_checkpoints")
    removal = _verbs.delete_checkpoints(checkpoint.run, [checkpoint.file], by=user.get_username())
    return {"bytes": removal.freed_bytes, "files": len(removal.removed)}


def _need(name: str) -> None:
    if not hasattr(_verbs, name):
        raise Problem(409, _("This studio cannot do that yet."), kind="not-available")


def _freed(size: Any) -> dict[str, Any]:
    return {"bytes": size.bytes, "files": size.files}
