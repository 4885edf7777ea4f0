"""What a trainer is told of the file that its run begins with: where it lies, and what it must be."""

from typing import Any

from trainingapp.models import Checkpoint, TrainingRun, Weights
from trainingapp.models.checkpoint import checkpoint_path


def starting_points(run: TrainingRun) -> dict[str, Any]:
    """Of the weights that the configuration starts from, and of the checkpoint that the run was forked from.

    The words are for the trainer's messages, which are plain English.
    """
    names = {"start_from": run.config.get("start_from", "")}
    if run.forked_checkpoint and run.forked_from_id:
        names["fork_from"] = f"run/{run.forked_from_id}/{run.forked_checkpoint}"
    told: dict[str, Any] = {}
    for key, name in names.items():
        if name:
            told |= {key: str(checkpoint_path(name)), f"{key}_stored": _stored(name)}
    return told


def _stored(name: str) -> dict[str, str] | None:
    """What `start_from` names, for people, and its hash; None where the studio knows none."""
    kind, number, *file = name.split("/")
    if kind == "weights":
        weights = Weights.objects.filter(pk=number).exclude(sha256="").first()
        about = f"file of the weights “{weights}” (number {number})"
        return {"name": about, "sha256": weights.sha256} if weights else None
    checkpoint = Checkpoint.objects.filter(run_id=int(number), file=file[0]).exclude(sha256="").first()
    about = f"checkpoint {file[0]} of run {number}"
    return {"name": about, "sha256": checkpoint.sha256} if checkpoint else None
