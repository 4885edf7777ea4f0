"""The files of stored models: what follows from the end of the jobs that make or export them."""

import shutil
from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

from django.db import transaction

from trainingapp.contract.messages import Message
from trainingapp.contract.model_card import WEIGHTS_FILE
from trainingapp.contract.storage.durable import flush
from trainingapp.models import Job, Weights
from trainingapp.models.text import storable

#: Jobs that make the file of a model.
MAKING = frozenset({Job.Kind.SAVE_WEIGHTS, Job.Kind.CHECK_WEIGHTS})


class MadeFile(TypedDict):
    """The result of a job that makes the file of a model."""

    size_bytes: int
    sha256: str
    report: dict[str, object]
    normalisation: NotRequired[dict[str, list[float]]]
    """Of the checkpoint that the file was made from."""


class MadeExport(TypedDict):
    """The result of an export; `formats` holds the outcome of each."""

    formats: dict[str, dict[str, object]]
    images: int


def take_file(job: Job, result: Mapping[str, object]) -> None:
    """Move the file that a job made to its model. May be called again for the same job after a crash."""
    found = cast(MadeFile, result)
    weights = Weights.objects.filter(job=job, state=Weights.State.PENDING).first()
    if weights is None:
        return
    made = job.folder / WEIGHTS_FILE
    weights.folder.mkdir(parents=True, exist_ok=True)
    if made.exists():
        made.replace(weights.path)
        flush(weights.path)
    is_stored = Weights.objects.filter(pk=weights.pk).update(
        state=Weights.State.READY,
        problem="",
        report={**weights.report, **found["report"]},
        size_bytes=found["size_bytes"],
        sha256=found["sha256"],
        normalisation=found.get("normalisation", weights.normalisation),
    )
    if not is_stored:  # deleted while its file was being moved
        shutil.rmtree(weights.folder, ignore_errors=True)


def note_failure(job: Job, message: Message) -> bool:
    """Store at the model why its file could not be made; False where it was made before."""
    weights = Weights.objects.filter(job=job).first()
    if weights is None:
        return True
    pending = Weights.objects.filter(pk=weights.pk, state=Weights.State.PENDING)
    fields = {"problem": str(message), "problem_data": message.as_data()}
    return bool(pending.update(state=Weights.State.FAILED, **storable(fields)))


def note_export(job: Job, result: Mapping[str, object]) -> None:
    """Store at the model what each format differed by from PyTorch."""
    found = cast(MadeExport, result)
    with transaction.atomic():
        weights = Weights.objects.select_for_update().filter(pk=job.params["weights_id"]).first()
        if weights is not None:
            made = {name: {**outcome, "images": found["images"]} for name, outcome in found["formats"].items()}
            weights.report = {**weights.report, "exports": {**weights.report.get("exports", {}), **made}}
            weights.save(update_fields=["report"])
