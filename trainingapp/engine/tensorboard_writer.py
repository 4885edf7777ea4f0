"""The metrics of a run as TensorBoard files: RUN_DIR/tensorboard."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainingapp.contract.events import EventLog
from trainingapp.contract.messages.training import (
    TENSORBOARD_NOT_INSTALLED,
    TENSORBOARD_STOPPED,
    TENSORBOARD_UNAVAILABLE,
)
from trainingapp.contract.run_directory import TENSORBOARD_DIR

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Seconds after which a point is on the disk at the latest.
FLUSH_S = 20


class TensorBoardWriter:
    """Writes the points of one attempt; torch's SummaryWriter flushes them in a separate thread.

    Nothing depends on these files: without the package, or when they cannot be written, the run continues without them
    and logs it.
    """

    def __init__(self, run_dir: Path, step: int, events: EventLog) -> None:
        self._events = events
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter as Writer
        except ImportError as error:
            events.log(TENSORBOARD_NOT_INSTALLED(error=str(error)))
            return
        # Readers drop what an earlier attempt wrote from this step on.
        purge_step = step + 1 if step else None
        try:
            self._writer = Writer(str(run_dir / TENSORBOARD_DIR), purge_step=purge_step, flush_secs=FLUSH_S)
        except OSError as error:
            events.log(TENSORBOARD_UNAVAILABLE(error=str(error)), "warning")

    def add(self, split: str, values: dict[str, float], step: int) -> None:
        """Add a point for each metric."""
        if self._writer is None:
            return
        try:
            for name, value in values.items():
                self._writer.add_scalar(f"{name}/{split}", value, step)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Pass all points to the operating system. To be called with each checkpoint: a resumed run does not write the
        points before it again."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        self._events.log(TENSORBOARD_STOPPED(error=str(error)), "warning")
