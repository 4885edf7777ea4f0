"""Creating, changing and deleting runs."""

from collections.abc import Sequence

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, refusal
from trainingapp.contract.config import RunConfig
from trainingapp.contract.messages import Message
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.jobs.verbs import request_job
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun, Weights
from trainingapp.models.bell import ring
from trainingapp.models.run import Status
from trainingapp.models.trash import moved, trash_name
from trainingapp.models.verbs import (
    DeletionSize,
    VerbError,
    changed_meanwhile,
    checked_name,
    checked_priority,
    folder_size,
    locked,
    remove_trash,
)
from trainingapp.runs.limits import Count, Hours, changed_limits
from trainingapp.weights.verbs import check_undamaged


def create_run(
    *,
    owner: User,
    name: str,
    dataset: Dataset,
    config: RunConfig,
    corrections: Sequence[Message] = (),
    priority: int = 0,
    forked_from: TrainingRun | None = None,
    forked_checkpoint: str = "",
    soft_limit_h: Hours = None,
    hard_limit_h: Hours = None,
    max_recoveries: Count = None,
) -> TrainingRun:
    """Store a new run, pending. Raises VerbError when the dataset does not fit the configuration.

    For a limit that is None, the studio's applies.
    """
    check_request(dataset, config, owner)
    limits = changed_limits(TrainingRun(), soft_limit_h, hard_limit_h, max_recoveries)
    with transaction.atomic():
        run = TrainingRun.objects.create(
            owner=owner,
            name=checked_name(name),
            task=config.task,
            dataset=dataset,
            config=config.model_dump(mode="json"),
            corrections=[{**correction.as_data(), "message": str(correction)} for correction in corrections],
            priority=checked_priority(priority),
            total_epochs=config.epochs,
            forked_from=forked_from,
            forked_checkpoint=forked_checkpoint,
            **limits,
        )
        audit.record("create", run, by=owner.get_username(), details={"dataset": dataset.name})
    return run


def preview_batch(dataset: Dataset, config: RunConfig, *, owner: User) -> Job:
    """Request a job that draws the first training batch of such a run. Raises VerbError."""
    check_request(dataset, config, owner)
    params = {"config": config.model_dump(mode="json"), "dataset_dir": str(dataset.folder)}
    return request_job(Job.Kind.BATCH_PREVIEW, owner=owner, params=params)


def check_first(dataset: Dataset, config: RunConfig, *, owner: User) -> Job:
    """Request a job that trains a few steps of such a run, to measure what it needs. Raises VerbError."""
    check_request(dataset, config, owner)
    params = {
        "config": config.model_dump(mode="json"),
        "dataset_dir": str(dataset.folder),
        "runs_dir": str(settings.RUNS_DIR),
        "weights_cache_dir": str(settings.WEIGHTS_CACHE_DIR),
        "published_weights": settings.PUBLISHED_WEIGHTS,
    }
    with transaction.atomic():
        audit.record("check", dataset, by=owner.get_username())
        return request_job(Job.Kind.PREFLIGHT, owner=owner, params=params)


def check_request(dataset: Dataset, config: RunConfig, owner: User) -> None:
    """Whether the owner may train with this dataset and configuration. Raises VerbError."""
    if not can(owner, Verb.CREATE):
        raise VerbError(refusal(Verb.CREATE))
    name = dataset.name
    if not can(owner, Verb.SEE, dataset):
        message = _("The dataset “%(name)s” is not shared with %(user)s.")
        raise VerbError(message % {"name": name, "user": owner.get_username()})
    if dataset.status != Dataset.Status.READY:
        raise VerbError(_("The dataset “%(name)s” is not ready.") % {"name": name})
    if config.task not in dataset.tasks:
        message = _("The dataset “%(name)s” is for %(task)s, not for %(wanted)s.")
        raise VerbError(message % {"name": name, "task": ", ".join(dataset.tasks), "wanted": config.task})
    if hasattr(config, "label_mode") and config.labels_per_image != dataset.label_mode:
        message = _("label_mode: the dataset “%(name)s” needs %(mode)s.")
        raise VerbError(message % {"name": name, "mode": dataset.label_mode})
    if not dataset.count("train") or not dataset.count("val"):
        raise VerbError(_("The dataset “%(name)s” needs images for training and for validation.") % {"name": name})
    if dataset.count("train") + dataset.count("val") < config.folds:
        raise VerbError(_("The dataset “%(name)s” has fewer images than folds.") % {"name": name})
    _check_start(config, owner)
    least = TASKS[config.task].least_classes
    if len(dataset.classes) < least:
        message = _("The dataset “%(name)s” has too few classes for this task (at least %(count)d).")
        raise VerbError(message % {"name": name, "count": least})


def _check_start(config: RunConfig, owner: User) -> None:
    if not config.start_from:
        return
    kind, number, *file = config.start_from.split("/")
    if kind == "weights":
        _check_start_weights(config, int(number), owner)
        return
    found = Checkpoint.objects.filter(run_id=int(number), file=file[0]).select_related("run").first()
    if found is None or not can(owner, Verb.SEE, found):
        raise VerbError(_("The checkpoint %(name)s does not exist.") % {"name": config.start_from})
    if found.run.task != config.task:
        message = _("The checkpoint %(name)s is of a run for %(task)s, not for %(wanted)s.")
        names = {"name": config.start_from, "task": found.run.task, "wanted": config.task}
        raise VerbError(message % names)


def _check_start_weights(config: RunConfig, number: int, owner: User) -> None:
    found = Weights.objects.filter(pk=number).first()
    if found is None or not can(owner, Verb.SEE, found):
        raise VerbError(_("The model %(name)s does not exist.") % {"name": config.start_from})
    if not found.is_ready:
        raise VerbError(_("“%(name)s” is %(state)s.") % {"name": found, "state": found.get_state_display()})
    check_undamaged(found)
    if found.task != config.task:
        message = _("The model “%(name)s” is for %(task)s, not for %(wanted)s.")
        raise VerbError(message % {"name": found, "task": found.task, "wanted": config.task})


def run_tag(run: TrainingRun) -> str:
    """The version of what users have set of a run, as an ETag. It changes with each change."""
    return str(run.version)


def update_run(
    run: TrainingRun,
    *,
    name: str | None = None,
    priority: int | None = None,
    soft_limit_h: Hours = None,
    hard_limit_h: Hours = None,
    max_recoveries: Count = None,
    tag: str | None = None,
) -> TrainingRun:
    """Change the name, the priority or the limits, also while the run trains. None leaves a value as it is.

    STUDIO_LIMIT restores the studio's limit. `tag` is the `run_tag` that the caller read: raises VersionError where
    the run was changed since.
    """
    with locked(run):
        if tag is not None and tag != run_tag(run):
            raise changed_meanwhile(run)
        given: dict[str, object] = {**changed_limits(run, soft_limit_h, hard_limit_h, max_recoveries)}
        if name is not None:
            given["name"] = checked_name(name)
        if priority is not None:
            given["priority"] = checked_priority(priority)
        changed = {field: value for field, value in given.items() if getattr(run, field) != value}
        if changed:
            for field, value in changed.items():
                setattr(run, field, value)
            run.version += 1
            run.save(update_fields=[*changed, "version", "updated_at"])
            audit.record("change", run, details=changed)
    return run


def deletion_size(run: TrainingRun) -> DeletionSize:
    """The bytes and files that deleting the run would free."""
    return folder_size(run.folder)


def can_be_deleted(run: TrainingRun) -> bool:
    return run.status not in (Status.QUEUED, Status.RUNNING)


def delete_run(run: TrainingRun, *, by: str = "") -> DeletionSize:
    """Delete the run, its events and its files. Raises VerbError while it is queued or running.

    A run whose worker no longer responds counts as running until another worker has recovered it.
    """
    size = deletion_size(run)
    run_id, trash = run.pk, trash_name(run.folder)
    with locked(run):
        if not can_be_deleted(run):
            message = _("The run “%(name)s” is queued or running. Stop it before deleting it.")
            raise VerbError(message % {"name": run.name})
        with moved(run.folder, trash):
            audit.record("delete", run, by=by, details={"bytes": size.bytes})
            run.delete()
    remove_trash(trash)
    ring(run_id)
    return size
