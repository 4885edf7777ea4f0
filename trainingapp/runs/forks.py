"""Runs created from other runs: a clone, a fork from a checkpoint; and the retry of a failed run."""

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract.config import RunConfig, changed_by_continuing, correct_config, parse_config
from trainingapp.contract.limits import MAX_EPOCHS, NAME_LENGTH
from trainingapp.contract.messages import Message
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import FieldError, VerbError, locked, not_possible, require_task
from trainingapp.runs.control import queue_run
from trainingapp.runs.limits import Limits
from trainingapp.runs.records import create_run

#: What a fork takes from the checkpoint: the whole state, to continue from its step, or the weights only.
ForkMode = Literal["continue", "weights"]


def clone_run(run: TrainingRun, *, owner: User, name: str = "") -> TrainingRun:
    """A new run, pending, with the same dataset and configuration. Raises VerbError."""
    require_task(run.task)
    with transaction.atomic():
        copy = create_run(
            owner=owner,
            name=name or copied_name(run),
            dataset=run.dataset,
            config=parse_config(run.config),
            priority=copied_priority(run),
            forked_from=run,
        )
        audit.record("clone", run, by=owner.get_username(), details={"run": copy.pk})
    return copy


def fork_run(
    run: TrainingRun,
    checkpoint: Checkpoint,
    *,
    owner: User,
    config: RunConfig,
    mode: ForkMode = "continue",
    name: str = "",
    corrections: Sequence[Message] = (),
    priority: int = 0,
    **limits: Unpack[Limits],
) -> TrainingRun:
    """A new run, pending, that starts from a checkpoint of `run` with an edited configuration.

    "continue" resumes from the step of the checkpoint with optimizer and schedule; "weights" takes over the weights
    whose names and shapes match and starts at epoch 1. `limits` are those of create_run. Raises VerbError.
    """
    require_task(run.task)
    if checkpoint.run_id != run.pk or checkpoint.damage:
        raise VerbError(_("%(file)s is not a valid checkpoint of “%(name)s”.") % {"file": checkpoint.file, "name": run})
    if mode == "continue":
        _check_continuing(run, checkpoint, config)
    else:
        config = config.model_copy(update={"start_from": f"run/{run.pk}/{checkpoint.file}"})
    with transaction.atomic():
        branch = create_run(
            owner=owner,
            name=name or copied_name(run),
            dataset=run.dataset,
            config=config,
            corrections=corrections,
            priority=priority,
            forked_from=run,
            forked_checkpoint=checkpoint.file if mode == "continue" else "",
            **limits,
        )
        details = {"run": branch.pk, "checkpoint": checkpoint.file, "mode": mode}
        audit.record("fork", run, by=owner.get_username(), details=details)
    return branch


def fork_from(
    run: TrainingRun,
    *,
    owner: User,
    checkpoint: str = "",
    mode: ForkMode = "continue",
    config: Mapping[str, object] | None = None,
    name: str = "",
    priority: int | None = None,
) -> TrainingRun:
    """Fork a run by the file name of its checkpoint and the fields that differ in the configuration.

    Without a file, from the best checkpoint, or else the last. Raises VerbError, FieldError for an unknown file, and
    pydantic's ValidationError for a configuration that is wrong.
    """
    require_task(run.task)
    if checkpoint:
        found = run.checkpoints.filter(file=checkpoint).first()
        if found is None:
            raise FieldError("checkpoint", _("The run has no such checkpoint."))
    else:
        found = run.checkpoints.order_by("-is_best", "-is_last", "-step").first()
        if found is None:
            raise VerbError(_("The run has no checkpoint yet."))
    corrected, corrections = correct_config({**run.config, **(config or {})})
    return fork_run(
        run,
        found,
        owner=owner,
        config=corrected,
        mode=mode,
        name=name,
        corrections=corrections,
        priority=copied_priority(run) if priority is None else priority,
    )


def retry_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a failed run again. It resumes from its newest valid checkpoint, or starts over where there is none."""
    with locked(run):
        if run.status == Status.FAILED:
            queue_run(run, by)
            audit.record("retry", run, by=by)
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise not_possible(run, _("retried"))
    return run


def copied_name(run: TrainingRun) -> str:
    """The default name of a clone or a fork."""
    return _("%(name)s (copy)") % {"name": run.name[: NAME_LENGTH - 20]}


def copied_priority(run: TrainingRun) -> int:
    """The default priority of a clone or a fork. That of a trial is below those of all runs that people start."""
    return 0 if hasattr(run, "trial") else run.priority


def least_epochs(checkpoint: Checkpoint) -> int:
    """The total epochs with which a fork that continues from the checkpoint has at least one step to train."""
    return checkpoint.epoch + (1 if checkpoint.reason == "epoch" else 0)


def default_epochs(checkpoint: Checkpoint, epochs: int) -> int:
    """The total epochs that a fork of a run with `epochs` gets by default: more than the checkpoint has."""
    return epochs if epochs >= least_epochs(checkpoint) else min(MAX_EPOCHS, checkpoint.epoch + epochs)


def too_few_epochs(checkpoint: Checkpoint) -> str:
    """Why a fork with fewer total epochs is refused."""
    message = _("Must be at least %(least)d: the checkpoint is from epoch %(epoch)d.")
    return message % {"least": least_epochs(checkpoint), "epoch": checkpoint.epoch}


def _check_continuing(run: TrainingRun, checkpoint: Checkpoint, config: RunConfig) -> None:
    wanted = config.model_dump(mode="json")
    stored = parse_config(run.config).model_dump(mode="json")  # with fields that are newer than the run
    changed = changed_by_continuing(run.task, stored, wanted)
    if changed:
        message = _(
            "To continue from the step of a checkpoint, %(names)s must not change. Take over the weights only instead."
        )
        raise VerbError(message % {"names": ", ".join(changed)})
    if config.epochs < least_epochs(checkpoint):
        raise VerbError(f"epochs: {too_few_epochs(checkpoint)}")
