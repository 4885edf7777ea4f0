"""Creating, changing and deleting runs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp import tasks
from trainingapp.bell import ring
from trainingapp.engine.config import RunConfig
from trainingapp.lifecycle.common import (
    DeletionSize,
    VerbError,
    checked_name,
    checked_priority,
    folder_size,
    locked,
    remove_trash,
)
from trainingapp.models import Checkpoint, Dataset, TrainingRun, Weights
from trainingapp.models.run import Status
from trainingapp.supervisor import batch_preview
from trainingapp.trash import moved, trash_name


def create_run(
    *,
    owner: Any,
    name: str,
    dataset: Dataset,
    config: RunConfig,
    corrections: Sequence[str] = (),
    priority: int = 0,
) -> TrainingRun:
    """Store a new run, pending. Raises VerbError when the dataset cannot be trained on with this configuration."""
    _check_dataset(dataset, config)
    return TrainingRun.objects.create(
        owner=owner,
        name=checked_name(name),
        recipe=config.recipe,
        dataset=dataset,
        config=config.model_dump(mode="json"),
        corrections=list(corrections),
        priority=checked_priority(priority),
        total_epochs=config.epochs,
    )


def preview_batch(dataset: Dataset, config: RunConfig) -> str:
    """Have the first training batch of such a run drawn; returns the id to ask for it by. Raises VerbError."""
    _check_dataset(dataset, config)
    preview_id = batch_preview.prepare(config.model_dump(mode="json"), dataset.folder)
    transaction.on_commit(partial(tasks.draw_batch_preview, preview_id), robust=True)
    return preview_id


def _check_dataset(dataset: Dataset, config: RunConfig) -> None:
    name = dataset.name
    if dataset.status != Dataset.Status.READY:
        raise VerbError(_("The dataset “%(name)s” is not ready.") % {"name": name})
    if config.recipe not in dataset.recipes:
        message = _("The dataset “%(name)s” is for %(recipe)s, not for %(wanted)s.")
        raise VerbError(message % {"name": name, "recipe": ", ".join(dataset.recipes), "wanted": config.recipe})
    if not dataset.count("train") or not dataset.count("val"):
        raise VerbError(_("The dataset “%(name)s” needs pictures for training and for validation.") % {"name": name})
    _check_start(config)
    if len(dataset.classes) < 2 and config.recipe == "classification":
        raise VerbError(_("The dataset “%(name)s” has fewer than two classes.") % {"name": name})


def _check_start(config: RunConfig) -> None:
    if not config.start_from:
        return
    kind, number, *file = config.start_from.split("/")
    if kind == "weights":
        _check_start_weights(config, int(number))
        return
    found = Checkpoint.objects.filter(run_id=int(number), file=file[0]).select_related("run").first()
    if found is None:
        raise VerbError(_("There is no checkpoint %(name)s to start from.") % {"name": config.start_from})
    if found.run.recipe != config.recipe:
        message = _("The checkpoint %(name)s is of a run for %(recipe)s, not for %(wanted)s.")
        names = {"name": config.start_from, "recipe": found.run.recipe, "wanted": config.recipe}
        raise VerbError(message % names)


def _check_start_weights(config: RunConfig, number: int) -> None:
    found = Weights.objects.filter(pk=number).first()
    if found is None:
        raise VerbError(_("There are no weights %(name)s to start from.") % {"name": config.start_from})
    if not found.is_ready:
        raise VerbError(_("“%(name)s” is %(state)s.") % {"name": found, "state": found.get_state_display()})
    if found.recipe != config.recipe:
        message = _("The weights “%(name)s” are for %(recipe)s, not for %(wanted)s.")
        raise VerbError(message % {"name": found, "recipe": found.recipe, "wanted": config.recipe})


def update_run(run: TrainingRun, *, name: str | None = None, priority: int | None = None) -> TrainingRun:
    """Change the name or the place in the queue."""
    with locked(run):
        run.name = run.name if name is None else checked_name(name)
        run.priority = run.priority if priority is None else checked_priority(priority)
        run.save(update_fields=["name", "priority", "updated_at"])
    return run


def deletion_size(run: TrainingRun) -> DeletionSize:
    """What deleting the run would free."""
    return folder_size(run.folder)


def delete_run(run: TrainingRun) -> DeletionSize:
    """Remove the run, its events and its files. Not while it waits or runs: pause or stop it first.

    A run whose worker fell silent counts as running until a worker has taken it back.
    """
    size = deletion_size(run)
    run_id, trash = run.pk, trash_name(run.folder)
    with locked(run):
        if run.status in (Status.QUEUED, Status.RUNNING):
            raise VerbError(_("The run “%(name)s” is in work. Stop it before deleting it.") % {"name": run.name})
        with moved(run.folder, trash):
            run.delete()
    remove_trash(trash)
    ring(run_id)
    return size
