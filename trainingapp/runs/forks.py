"""Runs made from other runs: a copy, a branch from one of its checkpoints, a new try."""

from collections.abc import Sequence
from typing import Any, Literal

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract.config import RunConfig, kept_by_continuing, parse_config
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.contract.messages import Message
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, locked, not_possible
from trainingapp.runs.control import queue_run
from trainingapp.runs.records import create_run

#: What a branch takes from the checkpoint: everything, to go on from its very step; or the weights alone.
ForkMode = Literal["continue", "weights"]


def clone_run(run: TrainingRun, *, owner: Any, name: str = "") -> TrainingRun:
    """A new run, pending, with the same dataset and configuration."""
    with transaction.atomic():
        copy = create_run(
            owner=owner,
            name=name or copied_name(run),
            dataset=run.dataset,
            config=parse_config(run.config),
            priority=run.priority,
            forked_from=run,
        )
        audit.record("clone", run, by=owner.get_username(), details={"run": copy.pk})
    return copy


def fork_run(
    run: TrainingRun,
    checkpoint: Checkpoint,
    *,
    owner: Any,
    config: RunConfig,
    mode: ForkMode = "continue",
    name: str = "",
    corrections: Sequence[Message] = (),
    priority: int = 0,
    **limits: Any,
) -> TrainingRun:
    """A new run, pending, that begins with a checkpoint of `run` and an edited configuration.

    "continue" goes on from the step of the checkpoint with optimizer and schedule; "weights" takes over the weights
    that fit and starts at epoch 1. `limits` are those of create_run. Raises VerbError.
    """
    if checkpoint.run_id != run.pk or checkpoint.damage:
        raise VerbError(_("%(file)s is no sound checkpoint of “%(name)s”.") % {"file": checkpoint.file, "name": run})
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


def retry_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Queue a failed run again; it goes on from its newest sound checkpoint, or begins anew where there is none."""
    with locked(run):
        if run.status == Status.FAILED:
            queue_run(run, by)
            audit.record("retry", run, by=by)
        elif run.status not in (Status.QUEUED, Status.RUNNING):
            raise not_possible(run, _("tried again"))
    return run


def copied_name(run: TrainingRun) -> str:
    """What a copy is called when nobody says."""
    return _("%(name)s (copy)") % {"name": run.name[: NAME_LENGTH - 20]}


def _check_continuing(run: TrainingRun, checkpoint: Checkpoint, config: RunConfig) -> None:
    wanted = config.model_dump(mode="json")
    changed = [name for name in kept_by_continuing(run.task) if wanted[name] != run.config[name]]
    if changed:
        message = _("To go on from the step of a checkpoint, %(names)s must stay. Take over the weights alone instead.")
        raise VerbError(message % {"names": ", ".join(changed)})
    if config.epochs < checkpoint.epoch:
        message = _("epochs: the checkpoint is of epoch %(epoch)d; give the run at least as many.")
        raise VerbError(message % {"epoch": checkpoint.epoch})
