"""Changing the total number of epochs of a run, in any state."""

from django.utils.translation import gettext as _
from pydantic import ValidationError

from trainingapp.accounts import audit
from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, locked, not_possible, require_task
from trainingapp.presentation.validation_errors import error_text
from trainingapp.runs.control import queue_run, send_request


def least_epochs(run: TrainingRun) -> int:
    """The smallest number of epochs that the run can have: an epoch that has started cannot be undone."""
    return max(1, run.epoch)


def with_epochs(run: TrainingRun, epochs: int) -> RunConfig:
    """The run's configuration with another number of epochs. Raises VerbError if that is not possible."""
    require_task(run.task)
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
        raise VerbError(f"{'.'.join(map(str, first['loc'])) or 'epochs'}: {error_text(first)}") from None


def extend_run(run: TrainingRun, epochs: int, *, by: str = "") -> TrainingRun:
    """Set the total number of epochs. A completed run is queued again; the trainer of a running one gets a command.

    From the current step on, the learning rate follows the schedule of the new length. Raises VerbError.
    """
    with locked(run):
        config = with_epochs(run, epochs)
        if epochs == run.config["epochs"] and run.status != Status.COMPLETED:
            return run
        run.config, run.total_epochs, run.version = config.model_dump(mode="json"), epochs, run.version + 1
        run.save(update_fields=["config", "total_epochs", "version", "updated_at"])
        audit.record("extend", run, by=by, details={"epochs": epochs})
        if run.status == Status.COMPLETED:
            queue_run(run, by)
        elif run.status == Status.RUNNING:
            if run.requested_action:
                raise not_possible(run, _("changed while it ends"))
            send_request(run, "epochs", by, epochs=epochs)
    return run
