"""Requests to the trainer, carried out between two steps and confirmed."""

import time
from collections import deque

from pydantic import ValidationError

from trainingapp.contract.commands import ChangeEpochs, Request, SaveCheckpoint
from trainingapp.contract.config import with_epochs
from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    EPOCHS_REFUSED,
    EPOCHS_SET,
    EPOCHS_SET_TO_STARTED,
    EPOCHS_UNCHANGED,
    JUST_VALIDATED,
    METRIC_VALUE,
    SAVED_AS,
    VALIDATED,
)
from trainingapp.contract.number_text import number_text
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.device import Precision
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.ranks import Word
from trainingapp.engine.report import Reporter
from trainingapp.engine.saving import Saving
from trainingapp.engine.seeding import rng_state, set_rng_state
from trainingapp.engine.state import TrainingState
from trainingapp.engine.validation import evaluate_split


class RequestHandler:
    """Carries out between two steps what is requested or due.

    Only a change of the number of epochs changes later results.
    """

    def __init__(
        self, control: Control, state: TrainingState, precision: Precision, report: Reporter, saving: Saving
    ) -> None:
        self._control, self._state, self._precision = control, state, precision
        self._report, self._saving = report, saving
        self._pending: deque[Request] = deque()
        #: (step, values) of the newest validation of an epoch
        self._validated: tuple[int, dict[str, float]] | None = None

    def between_steps(self) -> Ending | None:
        """Carry out requests, and save if that is due; return how to end when that is requested.

        Raises what went wrong in earlier saves.
        """
        self._saving.raise_failure()
        if ending := self._control.ending():
            return ending
        if self._carry_out():
            return self._control.ending()
        self._saving.autosave()
        return None

    def after_epoch(self) -> None:
        """Carry out what was requested while the epoch was validated and saved, before the run may end."""
        self._validated = (self._state.step, self._state.metrics)
        self._carry_out()

    def _carry_out(self) -> bool:
        """Carry out what is possible now; returns whether there was anything.

        An evaluation waits for a validation that is due anyway.
        """
        self._pending.extend(self._control.take_requests())
        now = [one for one in self._pending if one.command != "evaluate" or not self._state.validation_due]
        for request in now:
            if self._control.ending():
                break
            match request:
                case SaveCheckpoint():
                    result: Message | None = SAVED_AS(file=self._saving.save_now("command"))
                case ChangeEpochs():
                    result = self._change_epochs(request.epochs)
                case _:
                    result = self._evaluate()
            if result is None:  # the run is to end: the request stays pending and is not confirmed
                continue
            self._pending.remove(request)
            if request.id:
                self._report.confirmed(request, result)
        return bool(now)

    def _change_epochs(self, requested: int) -> Message:
        """Change the total number of epochs, to at least the number that has started.

        A checkpoint is saved immediately, so that an attempt after a kill changes the learning rate at the same step.
        """
        state = self._state
        epochs = max(requested, state.epoch)
        if epochs == state.config.epochs:
            return EPOCHS_UNCHANGED(epochs=epochs)
        try:
            config = with_epochs(state.config, epochs)
        except ValidationError as error:
            return EPOCHS_REFUSED(epochs=state.config.epochs, error=error.errors()[0]["msg"])
        lines = state.change_epochs(config)
        state.ranks.tell(Word.EPOCHS, epochs)
        self._saving.save_now("epochs", again=True)
        for line in lines:
            self._report.log(line)
        self._report.progress("train", now=True)
        if epochs > requested:
            return EPOCHS_SET_TO_STARTED(epochs=epochs, epoch=epochs)
        return EPOCHS_SET(epochs=epochs)

    def _evaluate(self) -> Message | None:
        """Validate the present weights without changing anything; None when the run is to end meanwhile."""
        state = self._state
        if self._validated and self._validated[0] == state.step:
            return JUST_VALIDATED(values=_listed(self._validated[1]))
        began, generators = time.monotonic(), rng_state(state.device)
        try:
            found = evaluate_split(state, self._precision, self._report, self._control.ending)
        except NonFiniteLoss as error:
            return error.message
        finally:
            set_rng_state(generators, state.device)
            set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
        if not isinstance(found, Evaluation):
            return None
        self._report.evaluated(found, time.monotonic() - began)
        return VALIDATED(step=state.step, values=_listed(found.values))


def _listed(values: dict[str, float]) -> list[Message]:
    return [METRIC_VALUE(metric=name, value=number_text(value)) for name, value in values.items()]
