"""The files that a run starts from, for its config.json: their paths, and the hashes that they must have."""

from typing import TypedDict

from trainingapp.contract.messages import MessageData
from trainingapp.contract.messages.runs import START_CHECKPOINT, START_WEIGHTS
from trainingapp.models import Checkpoint, TrainingRun, Weights
from trainingapp.models.checkpoint import checkpoint_path


class StoredFile(TypedDict):
    """The English name of the file, its SHA-256, and the name as message data."""

    name: str
    sha256: str
    label: MessageData


def starting_points(run: TrainingRun) -> dict[str, str | StoredFile | None]:
    """The weights that the configuration starts from, and the checkpoint that the run was forked from."""
    names = {"start_from": run.config.get("start_from", "")}
    if run.forked_checkpoint and run.forked_from_id:
        names["fork_from"] = f"run/{run.forked_from_id}/{run.forked_checkpoint}"
    found: dict[str, str | StoredFile | None] = {}
    for key, name in names.items():
        if name:
            found |= {key: str(checkpoint_path(name)), f"{key}_stored": _stored(name)}
    return found


def _stored(name: str) -> StoredFile | None:
    """Name and hash of the file that `start_from` names; None where the studio has no hash of it."""
    kind, number, *file = name.split("/")
    if kind == "weights":
        weights = Weights.objects.filter(pk=number).exclude(sha256="").first()
        about = START_WEIGHTS(weights=str(weights), number=int(number))
        return {"name": str(about), "sha256": weights.sha256, "label": about.as_data()} if weights else None
    checkpoint = Checkpoint.objects.filter(run_id=int(number), file=file[0]).exclude(sha256="").first()
    about = START_CHECKPOINT(file=file[0], number=int(number))
    return {"name": str(about), "sha256": checkpoint.sha256, "label": about.as_data()} if checkpoint else None
