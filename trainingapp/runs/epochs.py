"""More epochs, or fewer: of a run that waits, trains, was stopped or is done."""

from typing import Any

from django.utils.translation import gettext as _
from pydantic import ValidationError

from trainingapp.accounts import audit
from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, locked, not_possible
from trainingapp.runs.control import give_order, queue_run


def least_epochs(run: TrainingRun) -> int:
    """The fewest epochs that the run can be given: what it has begun cannot be taken back."""
    return max(1, run.epoch)


def with_epochs(run: TrainingRun, epochs: int) -> RunConfig:
    """The run's configuration with another number of epochs. Raises VerbError where that cannot be."""
    if run.status == Status.COMPLETED and epochs <= run.epoch:
        raise VerbError(
            _("The run has already completed %(count)d epochs. Set a higher number.") % {"count": run.epoch}
        )
    if epochs < least_epochs(run):
        message = _("The run is already in epoch %(epoch)d and cannot end after epoch %(wanted)d.")
        raise VerbError(message % {"epoch": run.epoch, "wanted": epochs})
    try:
        return parse_config({**run.config, "epochs": epochs})
    except ValidationError as error:
        first = error.errors()[0]
        raise VerbError(f"{'.'.join(map(str, first['loc'])) or 'epochs'}: {first['msg']}") from None


def extend_run(run: TrainingRun, epochs: int, *, by: str = "") -> TrainingRun:
    """Have the run end after `epochs` epochs in all. One that is done goes on; one that trains is told.

    The learning-rate schedule is that of the new length from the present step on.
    """
    with locked(run):
        config = with_epochs(run, epochs)
        if epochs == run.config["epochs"] and run.status != Status.COMPLETED:
            return run
        changes: dict[str, Any] = {
            "config": config.model_dump(mode="json"),
            "total_epochs": epochs,
            "version": run.version + 1,
        }
        for name, value in changes.items():
            setattr(run, name, value)
        run.save(update_fields=[*changes, "updated_at"])
        audit.record("extend", run, by=by, details={"epochs": epochs})
        if run.status == Status.COMPLETED:
            queue_run(run, by)
        elif run.status == Status.RUNNING:
            if run.requested_action:
                raise not_possible(run, _("changed while it ends"))
            give_order(run, "epochs", by, epochs=epochs)
    return run
