"""The files of the library of weights: what becomes of the jobs that make them."""

import shutil
from typing import Any

from django.db import transaction

from trainingapp.contract.model_card import WEIGHTS_FILE
from trainingapp.contract.storage.durable import flush
from trainingapp.models import Job, Weights

#: Jobs that make the file of an entry.
MAKING = frozenset({Job.Kind.SAVE_WEIGHTS, Job.Kind.CHECK_WEIGHTS})


def take_in(job: Job, result: dict[str, Any]) -> None:
    """Put what a job has made where it belongs. May be called again for the same job after a crash."""
    if job.kind in MAKING:
        _take_file(job, result)
    elif job.kind == Job.Kind.EXPORT:
        _note_export(job, result)


def note_failure(job: Job, message: str) -> None:
    """Say at the entry why its file could not be made."""
    if job.kind in MAKING:
        waiting = Weights.objects.filter(job=job, state=Weights.State.PENDING)
        waiting.update(state=Weights.State.FAILED, problem=message)


def _take_file(job: Job, result: dict[str, Any]) -> None:
    weights = Weights.objects.filter(job=job, state=Weights.State.PENDING).first()
    if weights is None:
        return
    made = job.folder / WEIGHTS_FILE
    weights.folder.mkdir(parents=True, exist_ok=True)
    if made.exists():
        made.replace(weights.path)
        flush(weights.path)
    fields = {name: result[name] for name in ("size_bytes", "sha256")}
    report = {**weights.report, **result["report"]}
    if not Weights.objects.filter(pk=weights.pk).update(state=Weights.State.READY, problem="", report=report, **fields):
        shutil.rmtree(weights.folder, ignore_errors=True)  # deleted while the file was on its way


def _note_export(job: Job, result: dict[str, Any]) -> None:
    with transaction.atomic():
        weights = Weights.objects.select_for_update().filter(pk=job.params["weights_id"]).first()
        if weights is not None:
            made = {name: {**outcome, "images": result["images"]} for name, outcome in result["formats"].items()}
            weights.report = {**weights.report, "exports": {**weights.report.get("exports", {}), **made}}
            weights.save(update_fields=["report"])
