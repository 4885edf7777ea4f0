"""What the trainer was asked to do, done between two steps and confirmed."""

import time
from collections import deque

from pydantic import ValidationError

from trainingapp.contract.commands import ChangeEpochs, Request, SaveCheckpoint
from trainingapp.contract.config import with_epochs
from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.number_text import number_text
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.device import Precision
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.report import Reporter
from trainingapp.engine.saving import Saving
from trainingapp.engine.seeding import rng_state, set_rng_state
from trainingapp.engine.state import TrainingState
from trainingapp.engine.validation import evaluate_split


class Orders:
    """Looks between two steps at what is asked for and what is due.

    Nothing that it does changes a later number, but for another number of epochs.
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
        """Do what is asked for, save if that is due; return how to end when that is asked for.

        Raises what went wrong in earlier saves.
        """
        self._saving.raise_failure()
        if ending := self._control.ending():
            return ending
        if self._obey():
            return self._control.ending()
        self._saving.autosave()
        return None

    def after_epoch(self) -> None:
        """Do what was asked for while the epoch was validated and saved, before the run may be found to be over."""
        self._validated = (self._state.step, self._state.metrics)
        self._obey()

    def _obey(self) -> bool:
        """Do what can be done here; whether anything was. An evaluation waits for a validation that is due anyway."""
        self._pending.extend(self._control.take_requests())
        now = [one for one in self._pending if one.command != "evaluate" or not self._state.validation_due]
        for request in now:
            if self._control.ending():
                break
            self._do(request)
        return bool(now)

    def _do(self, request: Request) -> None:
        match request:
            case SaveCheckpoint():
                result: str | None = f"Saved as {self._saving.save_now('command')}."
            case ChangeEpochs():
                result = self._change_epochs(request.epochs)
            case _:
                result = self._evaluate()
        if result is None:
            return
        self._pending.remove(request)
        if request.id:
            self._report.confirmed(request, result)

    def _change_epochs(self, wanted: int) -> str:
        """Have another number of epochs, at least as many as have begun.

        It is saved at once: whoever goes on after a kill changes the learning rate at the same step.
        """
        state = self._state
        epochs = max(wanted, state.epoch)
        if epochs == state.config.epochs:
            return f"The run has {epochs} epochs."
        try:
            config = with_epochs(state.config, epochs)
        except ValidationError as error:
            return f"The run keeps its {state.config.epochs} epochs: {error.errors()[0]['msg']}."
        lines = state.change_epochs(config)
        self._saving.save_now("epochs", again=True)
        for line in lines:
            self._report.log(line)
        self._report.progress("train", now=True)
        if epochs > wanted:
            return f"The run has {epochs} epochs now. Epoch {epochs} has begun already."
        return f"The run has {epochs} epochs now."

    def _evaluate(self) -> str | None:
        """Validate the weights as they are, and leave everything as it was; None when the run is to end meanwhile."""
        state = self._state
        if self._validated and self._validated[0] == state.step:
            return f"The validation of this step was just made: {_listed(self._validated[1])}."
        began, generators = time.monotonic(), rng_state(state.device)
        try:
            found = evaluate_split(state, self._precision, self._report, self._control.ending)
        except NonFiniteLoss as error:
            return str(error)
        finally:
            set_rng_state(generators, state.device)
            set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
        if not isinstance(found, Evaluation):
            return None
        self._report.evaluated(found, time.monotonic() - began)
        return f"Validated at step {state.step}: {_listed(found.values)}."


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {number_text(value)}" for name, value in values.items())
