"""The curves of a run as TensorBoard reads them: RUN_DIR/tensorboard."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainingapp.contract.events import EventLog
from trainingapp.contract.run_directory import TENSORBOARD_DIR

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Seconds after which a reader sees a point at the latest.
FLUSH_S = 20


class Board:
    """Writes the points of one attempt. A thread of the writer's own brings them to the disk.

    Nothing depends on these files: without the package, or when they cannot be written, the run goes on without them,
    and its log says so.
    """

    def __init__(self, run_dir: Path, step: int, events: EventLog) -> None:
        self._events = events
        self._writer = _opened(run_dir / TENSORBOARD_DIR, step, events)

    def add(self, split: str, values: dict[str, float], step: int) -> None:
        """A point of each curve."""
        if self._writer is None:
            return
        try:
            for name, value in values.items():
                self._writer.add_scalar(f"{name}/{split}", value, step)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Hand all to the system: what is before a checkpoint is not made again after a kill."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        self._events.log(f"The files for TensorBoard could not be written, and are not any more: {error}", "warning")


def _opened(folder: Path, step: int, events: EventLog) -> "SummaryWriter | None":
    """A writer after step `step`; what an earlier attempt wrote beyond it is made again, so readers drop that."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        events.log(f"There will be no files for TensorBoard: the package tensorboard is not installed ({error}).")
        return None
    try:
        return SummaryWriter(str(folder), purge_step=step + 1 if step else None, flush_secs=FLUSH_S)
    except OSError as error:
        events.log(f"There will be no files for TensorBoard: {error}", "warning")
        return None
