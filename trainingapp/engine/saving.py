"""When the loop saves."""

import time

from trainingapp.engine.checkpoint import CheckpointFolder
from trainingapp.engine.norms import tensor_norms
from trainingapp.engine.ranks import Word
from trainingapp.engine.report import Reporter
from trainingapp.engine.resume_check import ResumeChecker
from trainingapp.engine.state import TrainingState


class Saving:
    """Saves the position of the loop when that is due or requested."""

    def __init__(
        self, folder: CheckpointFolder, state: TrainingState, report: Reporter, resume_check: ResumeChecker
    ) -> None:
        self._folder, self._state, self._report, self._resume_check = folder, state, report, resume_check
        self._saved_position: tuple[int, bool] | None = None
        self._saved_file = ""
        self._autosave_s = state.config.autosave_minutes * 60
        self._saved_at = time.monotonic()

    def raise_failure(self) -> None:
        """Raise the error of an earlier save."""
        self._folder.raise_failure()

    def autosave(self) -> None:
        """Save when an autosave is due."""
        # Not before a validation: the checkpoint should include its result.
        if not self._state.validation_due and 0 < self._autosave_s <= time.monotonic() - self._saved_at:
            self.save_position("autosave")

    def save_position(self, reason: str) -> None:
        """Save the position of the loop, between two steps."""
        self._save(f"step_{self._state.step}.pt", reason)

    def save_now(self, reason: str, *, again: bool = False) -> str:
        """Save the position and wait until it is on the disk; returns the name of the file.

        A position that was saved already is saved `again` only on request.
        """
        if again:
            self._saved_position = None
        self.save_position(reason)
        self._folder.drain()
        return self._saved_file

    def save_epoch(self) -> None:
        """After a validation: save where the epoch is due, the best or the last."""
        state = self._state
        if state.epoch % state.config.checkpoint_every_epochs == 0 or state.is_best or state.finished:
            self._save(f"epoch_{state.epoch}.pt", "epoch")

    def complete(self) -> None:
        """Wait until everything is on the disk."""
        self._report.progress("save", now=True)
        self._report.flush()
        self._folder.drain()

    def _compare_ranks(self) -> None:
        """Raise RanksDiffer where the ranks have drifted apart: what is saved must be what all of them compute with."""
        ranks, state = self._state.ranks, self._state
        if ranks.world > 1:
            ranks.tell(Word.COMPARE)
            ranks.compare(tensor_norms(state.model), state.step)

    def _save(self, file: str, reason: str) -> None:
        position = (self._state.step, self._state.validated)
        self._saved_at = time.monotonic()
        if position == self._saved_position:  # already saved, or being written
            return
        self._report.check_attempt()
        self._report.check_finite()
        self._compare_ranks()
        self._report.progress("save", now=True)
        self._report.flush()
        content = self._state.checkpoint_content()
        self._folder.save(content, file=file, reason=reason)
        self._saved_position, self._saved_file = position, file
        self._resume_check.expect_step_after(content["timestamp"])
