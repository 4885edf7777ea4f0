"""When the loop saves and when it ends."""

import time

from trainingapp.engine.checkpoint import CheckpointFolder
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.report import Reporter
from trainingapp.engine.run_files import check_attempt
from trainingapp.engine.state import TrainingState


class Saving:
    """Looks between two steps at what is asked for and what is due."""

    def __init__(self, folder: CheckpointFolder, state: TrainingState, control: Control, report: Reporter) -> None:
        self._folder, self._state, self._control, self._report = folder, state, control, report
        self._saved_position: tuple[int, bool] | None = None
        self._autosave_s = state.config.autosave_minutes * 60
        self._saved_at = time.monotonic()

    def between_steps(self) -> Ending | None:
        """Save if that is due; return how to end when that is asked for. Raises what went wrong in earlier saves."""
        self._folder.raise_failure()
        if ending := self._control.ending():
            return ending
        if self._control.take_checkpoint_request():
            self.save_position("command")
        elif self._autosave_is_due():
            self.save_position("autosave")
        return None

    def _autosave_is_due(self) -> bool:
        """Not before a validation: its result should be in what is saved."""
        state = self._state
        validation_due = state.step_in_epoch == state.steps_per_epoch and not state.validated
        return not validation_due and 0 < self._autosave_s <= time.monotonic() - self._saved_at

    def save_position(self, reason: str) -> None:
        """Save where the loop is, between two steps."""
        self._save(f"step_{self._state.step}.pt", reason)

    def end(self, reason: str) -> None:
        """Save where the loop is and wait until it is on the disk."""
        self.save_position(reason)
        self._folder.drain()

    def save_epoch(self) -> None:
        """After a validation: save when the epoch's turn has come, when it is the best, or when it is the last."""
        state = self._state
        if state.epoch % state.config.checkpoint_every_epochs == 0 or state.is_best or state.finished:
            self._save(f"epoch_{state.epoch}.pt", "epoch")

    def complete(self) -> None:
        """Wait until everything is on the disk."""
        self._report.progress("save", now=True)
        self._folder.drain()

    def _save(self, file: str, reason: str) -> None:
        position = (self._state.step, self._state.validated)
        self._saved_at = time.monotonic()
        if position == self._saved_position:  # it is on its way to the disk already
            return
        check_attempt(self._folder.run_dir, self._state.attempt)
        self._report.check_finite()
        self._report.progress("save", now=True)
        self._folder.save(self._state.checkpoint_content(), file=file, reason=reason)
        self._saved_position = position
