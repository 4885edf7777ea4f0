"""The verbs: what people do with runs and datasets. Pages, API, admin and commands all call these functions.

A verb that asks for what is already so is no error. Each one locks the row of its run, looks again at how it stands
and only then acts, so two people (or a person and a worker) who act at once get one sound result.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp import tasks
from trainingapp.bell import ring
from trainingapp.datasets.options import ImportOptions
from trainingapp.engine.config import RunConfig
from trainingapp.models import Checkpoint, Dataset, RunEvent, TrainingRun
from trainingapp.models.run import Status, Wanted, append_events
from trainingapp.supervisor import batch_preview
from trainingapp.trash import moved, remove, trash_name

logger = logging.getLogger(__name__)

MAX_PRIORITY = 1000
MAX_NAME_LENGTH = 120

#: What a run forgets when a person starts it or lets it go on.
FRESH: dict[str, Any] = {
    "wanted": Wanted.NOTHING,
    "recoveries": 0,
    "worker": "",
    "host": "",
    "pid": None,
    "phase": "",
    "error_class": "",
    "error_message": "",
    "error_lines": [],
}


class VerbError(ValueError):
    """The verb is not possible now; the message is for people."""


@dataclass(frozen=True)
class DeletionSize:
    """What a deletion frees."""

    bytes: int
    files: int


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
        name=_checked_name(name),
        recipe=config.recipe,
        dataset=dataset,
        config=config.model_dump(mode="json"),
        corrections=list(corrections),
        priority=_checked_priority(priority),
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
    _run, run_id, file = config.start_from.split("/")
    found = Checkpoint.objects.filter(run_id=int(run_id), file=file).select_related("run").first()
    if found is None:
        raise VerbError(_("There is no checkpoint %(name)s to start from.") % {"name": config.start_from})
    if found.run.recipe != config.recipe:
        message = _("The checkpoint %(name)s is of a run for %(recipe)s, not for %(wanted)s.")
        names = {"name": config.start_from, "recipe": found.run.recipe, "wanted": config.recipe}
        raise VerbError(message % names)


def possible_verbs(run: TrainingRun) -> list[str]:
    """What may be asked of the run as it stands, in the order of the buttons."""
    if run.status == Status.RUNNING:
        return {Wanted.NOTHING.value: ["pause", "stop"], Wanted.PAUSE.value: ["stop"]}.get(run.wanted, [])
    return {
        Status.PENDING.value: ["start", "delete"],
        Status.QUEUED.value: ["pause", "stop"],
        Status.PAUSED.value: ["resume", "stop", "delete"],
        Status.COMPLETED.value: ["delete"],
        Status.FAILED.value: ["resume", "delete"],
        Status.STOPPED.value: ["resume", "delete"],
    }[run.status]


def start_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a new run and wake a worker."""
    with _locked(run):
        if run.status == Status.PENDING:
            _queue(run, by)
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise _not_possible(run, _("started"))
    return run


def resume_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a run that was paused, failed or stopped; it goes on from its newest sound checkpoint."""
    with _locked(run):
        if run.status in (Status.PAUSED, Status.FAILED, Status.STOPPED):
            _queue(run, by)
        elif run.status == Status.RUNNING and run.wanted:
            raise VerbError(_("The run “%(name)s” is still ending; resume it then.") % {"name": run.name})
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise _not_possible(run, _("resumed"))
    return run


def pause_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Have the run leave its device after a checkpoint. A run that only waits is paused at once."""
    with _locked(run):
        if run.status == Status.QUEUED:
            run.transition(Status.PAUSED, data={"by": by})
        elif run.status == Status.RUNNING and run.wanted != Wanted.STOP:
            _wish(run, Wanted.PAUSE, by)
        elif run.status != Status.PAUSED:
            raise _not_possible(run, _("paused"))
    return run


def stop_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """End the run after a checkpoint. A run that waits or is paused is stopped at once."""
    with _locked(run):
        if run.status in (Status.QUEUED, Status.PAUSED):
            run.transition(Status.STOPPED, data={"by": by})
        elif run.status == Status.RUNNING:
            _wish(run, Wanted.STOP, by)
        elif run.status != Status.STOPPED:
            raise _not_possible(run, _("stopped"))
    return run


def update_run(run: TrainingRun, *, name: str | None = None, priority: int | None = None) -> TrainingRun:
    """Change the name or the place in the queue."""
    with _locked(run):
        run.name = run.name if name is None else _checked_name(name)
        run.priority = run.priority if priority is None else _checked_priority(priority)
        run.save(update_fields=["name", "priority", "updated_at"])
    return run


def deletion_size(run: TrainingRun) -> DeletionSize:
    """What deleting the run would free."""
    return _folder_size(run.folder)


def delete_run(run: TrainingRun) -> DeletionSize:
    """Remove the run, its events and its files. Not while it waits or runs: pause or stop it first.

    A run whose worker fell silent counts as running until a worker has taken it back.
    """
    size = deletion_size(run)
    run_id, trash = run.pk, trash_name(run.folder)
    with _locked(run):
        if run.status in (Status.QUEUED, Status.RUNNING):
            raise VerbError(_("The run “%(name)s” is in work. Stop it before deleting it.") % {"name": run.name})
        with moved(run.folder, trash):
            run.delete()
    _remove(trash)
    ring(run_id)
    return size


def may_import_from(user: Any, folder: Path) -> bool:
    """Whether this user may import pictures from this folder of the server."""
    if not settings.IMPORT_DIRS:
        return bool(user.is_staff)
    return any(folder.resolve().is_relative_to(allowed) for allowed in settings.IMPORT_DIRS)


def start_import(
    *,
    owner: Any,
    name: str,
    source: Path,
    source_is_upload: bool,
    options: ImportOptions | None = None,
    from_shell: bool = False,
) -> Dataset:
    """Store a dataset that a worker then reads from `source`: an uploaded zip, or a folder of the server.

    With `options` it is imported so; without, a worker inspects it and proposes, and `confirm_import` says how.
    `from_shell` is for who works on the server itself and may read every folder there anyway.
    """
    if not source_is_upload and not from_shell and not may_import_from(owner, source):
        raise VerbError(_("Datasets may not be imported from %(folder)s.") % {"folder": source})
    if not source.exists():
        raise VerbError(_("%(path)s does not exist.") % {"path": source})
    fields: dict[str, Any] = {"owner": owner, "source": str(source.resolve()), "source_is_upload": source_is_upload}
    if options is None:
        fields["status"] = Dataset.Status.INSPECTING
    else:
        fields |= {"status": Dataset.Status.IMPORTING, "options": options.model_dump(mode="json")}
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(name=_checked_name(name), **fields)
            transaction.on_commit(tasks.wake_importer, robust=True)
    except IntegrityError:
        raise VerbError(_("There already is a dataset named “%(name)s”.") % {"name": name.strip()}) from None
    return dataset


def confirm_import(dataset: Dataset, options: ImportOptions, *, by: str = "") -> Dataset:
    """Have a worker import a proposed dataset as `options` say. Raises VerbError when it is not proposed."""
    with transaction.atomic():
        _refresh_locked(dataset)
        if dataset.status != Dataset.Status.PROPOSED:
            raise VerbError(_("“%(name)s” does not wait for a word on its import.") % {"name": dataset.name})
        dataset.status = Dataset.Status.IMPORTING
        dataset.options = options.model_dump(mode="json")
        dataset.heartbeat_at = None
        dataset.save(update_fields=["status", "options", "heartbeat_at"])
        transaction.on_commit(tasks.wake_importer, robust=True)
    logger.info("The import of dataset %s was confirmed by %s.", dataset.pk, by or "somebody")
    return dataset


def dataset_deletion_size(dataset: Dataset) -> DeletionSize:
    """What deleting the dataset would free: files that another dataset shares stay on the disk."""
    return _folder_size(dataset.folder)


def delete_dataset(dataset: Dataset) -> DeletionSize:
    """Remove the dataset and its files. Refused while runs use it, or while a worker imports it."""
    size = dataset_deletion_size(dataset)
    trash = trash_name(dataset.folder)
    with transaction.atomic():
        _refresh_locked(dataset)
        _check_unused(dataset)
        upload = Path(dataset.source) if dataset.source_is_upload else None
        with moved(dataset.folder, trash):
            dataset.delete()
    _remove(trash)
    if upload is not None:
        upload.unlink(missing_ok=True)
    return size


def _check_unused(dataset: Dataset) -> None:
    if dataset.status in tasks.IN_WORK and not tasks.import_is_free(dataset):
        raise VerbError(_("“%(name)s” is being imported. Delete it afterwards.") % {"name": dataset.name})
    names = list(dataset.runs.order_by("pk").values_list("name", flat=True)[:6])
    if not names:
        return
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    message = ngettext(
        "The run %(names)s uses this dataset. Delete it first.",
        "The runs %(names)s use this dataset. Delete them first.",
        len(names),
    )
    raise VerbError(message % {"names": listed})


def _queue(run: TrainingRun, by: str) -> None:
    run.transition(Status.QUEUED, data={"by": by}, **FRESH)
    transaction.on_commit(tasks.wake_trainer, robust=True)


def _wish(run: TrainingRun, wanted: Wanted, by: str) -> None:
    """Write down what is wanted of a running run; its supervisor makes it so. The caller holds the lock."""
    if run.wanted == wanted:
        return
    run.wanted = wanted
    data = {"wanted": wanted.value, "by": by}
    event = RunEvent(type=RunEvent.Type.STATUS, time=timezone.now(), data=data, epoch=run.epoch, step=run.step)
    append_events(run, [event])
    run.save(update_fields=["wanted", "event_seq", "updated_at"])


@contextmanager
def _locked(run: TrainingRun) -> Iterator[None]:
    """A transaction that holds the lock of the run's row, read again; rings the bell after the commit."""
    run_id = run.pk
    with transaction.atomic():
        _refresh_locked(run)
        yield
        transaction.on_commit(partial(ring, run_id))


def _refresh_locked(row: TrainingRun | Dataset) -> None:
    model: Any = type(row)
    try:
        row.refresh_from_db(from_queryset=model._default_manager.select_for_update())
    except model.DoesNotExist:
        raise VerbError(_("“%(name)s” was deleted.") % {"name": row}) from None


def _not_possible(run: TrainingRun, verb: str) -> VerbError:
    message = _("The run “%(name)s” is %(status)s and cannot be %(verb)s.")
    return VerbError(message % {"name": run.name, "status": Status(run.status).label, "verb": verb})


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name:
        raise VerbError(_("A name is needed."))
    if len(name) > MAX_NAME_LENGTH:
        raise VerbError(_("The name has more than %(count)d characters.") % {"count": MAX_NAME_LENGTH})
    return name


def _checked_priority(priority: int) -> int:
    if abs(priority) > MAX_PRIORITY:
        raise VerbError(_("The priority must lie between −%(max)d and %(max)d.") % {"max": MAX_PRIORITY})
    return priority


def _folder_size(folder: Path) -> DeletionSize:
    found = [path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return DeletionSize(bytes=sum(status.st_size for status in found if status.st_nlink < 2), files=len(found))


def _remove(trash: Path) -> None:
    if not remove(trash):
        raise VerbError(_("It was deleted, but its files could not be removed from %(path)s.") % {"path": trash})
