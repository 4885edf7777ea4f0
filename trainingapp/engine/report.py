"""The events that the loop writes while it trains: points of the charts and progress."""

import math
import time
from collections import deque
from pathlib import Path

import torch

from trainingapp.contract.commands import Request
from trainingapp.contract.errors import NonFiniteLoss
from trainingapp.contract.evaluation import Evaluation, evaluation_path, write_evaluation
from trainingapp.contract.events import EventLog, Metrics, Progress, RequestDone, SampleSaved
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import DIVERGED, FIRST_STEP, LOSS_NOT_FINITE
from trainingapp.engine.checkpoint import CheckpointFolder
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.drawing import contact_sheet
from trainingapp.engine.state import TrainingState
from trainingapp.engine.tensorboard_writer import TensorBoardWriter

PROGRESS_INTERVAL_S = 0.25
POINT_INTERVAL_S = 1.0
RECENT_SECONDS = 60.0
BATCHES_DIR = "batches"
BATCH_IMAGE_INTERVAL_S = 60.0
BATCH_IMAGES_KEPT = 10


class Reporter:
    """Writes metrics and progress events of one attempt. Between two points of the charts it never waits for a GPU."""

    def __init__(self, events: EventLog, state: TrainingState, folder: CheckpointFolder) -> None:
        self._run_dir = folder.run_dir
        self._tensorboard = TensorBoardWriter(self._run_dir, state.step, events)
        self._events, self._state, self._checkpoints = events, state, folder
        self._next_batch_image = 0.0
        self._first_step_reported = False
        self._next_progress = 0.0
        self._point_time = time.monotonic()
        #: Images that have been trained since then.
        self._images = 0
        self._read_at = -math.inf
        #: (time, step) of recent progress, for the time left
        self._recent: deque[tuple[float, int]] = deque()
        self._seconds_per_step: float | None = None
        self._validation_s = 0.0

    def begin_epoch(self) -> None:
        """To be called before the first step of an epoch, or of an attempt."""
        self._locate()
        self._point_time, self._images = time.monotonic(), 0
        self.progress("train", now=True)

    def _locate(self) -> None:
        """Give the following events the loop's epoch and step."""
        self._events.epoch, self._events.step = self._state.epoch, self._state.step

    def training_step(self, rate: float, images_elsewhere: int = 0) -> None:
        """To be called after each optimizer step, with the number of its images that `training_batch` was not called
        with. Raises NonFiniteLoss at a point of the charts."""
        self._images += images_elsewhere
        self._locate()
        if not self._first_step_reported:
            # The first step is slow (kernels are compiled); waiting for a GPU here costs nothing that is noticed.
            if self._state.device.type == "cuda":
                torch.cuda.synchronize(self._state.device)
            self._first_step_reported = True
            self.progress("train", now=True)
            self._events.log(FIRST_STEP(step=self._state.step))
        if self._is_point_due():
            self._point(rate)
        self.progress("train")

    def _is_point_due(self) -> bool:
        """Every few steps and at the end of an epoch; on a GPU, at most once a second otherwise.

        There, a point makes the loop wait for the device. On a CPU it does not, and a resumed run shows the same points
        as one that was never interrupted.
        """
        state = self._state
        if state.step_in_epoch == state.steps_per_epoch:
            return True
        waits = state.device.type == "cuda" and time.monotonic() - self._read_at < POINT_INTERVAL_S
        return state.step % state.config.log_every_steps == 0 and not waits

    def progress(self, phase: str, *, now: bool = False) -> None:
        """Write a progress event: `now`, or at most every PROGRESS_INTERVAL_S."""
        moment = time.monotonic()
        if not now and moment < self._next_progress:
            return
        self._next_progress = moment + PROGRESS_INTERVAL_S
        state = self._state
        if phase == "train":
            self._recent.append((moment, state.step))
            while moment - self._recent[0][0] > RECENT_SECONDS:
                self._recent.popleft()
        event = Progress(
            phase=phase,
            total_epochs=state.config.epochs,
            total_steps=state.total_steps,
            elapsed_s=round(state.elapsed_s, 3),
            eta_s=self._eta_s(),
        )
        if unsaved := self._checkpoints.unsaved:
            event.saving = unsaved
        self._events.write(event)

    def training_batch(self, batch: TensorBatch) -> None:
        """To be called with each batch: counts its images, and draws the first of an epoch, but not more often than
        once a minute."""
        self._images += batch.image_count
        moment, state = time.monotonic(), self._state
        is_first = state.step_in_epoch == 0 or not self._next_batch_image
        if not is_first or moment < self._next_batch_image:
            return
        self._next_batch_image = moment + BATCH_IMAGE_INTERVAL_S
        self._events.check()
        folder, file = self._run_dir / BATCHES_DIR, f"step_{state.step}.webp"
        folder.mkdir(exist_ok=True)
        contact_sheet(state.task.draw_batch(batch)).save(folder / file, "WEBP", quality=85, method=2)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-BATCH_IMAGES_KEPT]:
            old.unlink()
        self._events.write(SampleSaved(kind="batch", file=f"{BATCHES_DIR}/{file}"))

    def validated(self, found: Evaluation, seconds: float) -> None:
        """Write the evaluation and the validation event of the epoch just ended."""
        self._validation_s = seconds
        self._recent.clear()  # the time of a validation would count as a slow step
        self._write_evaluation(found, is_best=self._state.is_best)

    def evaluated(self, found: Evaluation, seconds: float) -> None:
        """Write a validation that was requested within an epoch: it is never the best, nor a slow step.

        Its file is that of the epoch, until the validation at the end of the epoch replaces it.
        """
        self._recent.clear()
        self._point_time += seconds
        self._write_evaluation(found, is_best=False, extra=True)

    def _write_evaluation(self, found: Evaluation, *, is_best: bool, extra: bool = False) -> None:
        state = self._state
        self._events.check()
        write_evaluation(
            self._run_dir,
            found,
            task=state.config.task,
            epoch=state.epoch,
            step=state.step,
            classes=state.task.description()["classes"],
            paths=state.task.val_paths(),
        )
        self._tensorboard.add("val", found.values, state.step)
        event = Metrics(
            split="val",
            values=found.values,
            is_best=is_best,
            best_metric=state.config.best_metric,
            evaluation=evaluation_path(Path(), state.epoch).as_posix(),
        )
        if extra:
            event.extra = True
        self._events.write(event)

    def confirmed(self, request: Request, result: Message) -> None:
        """Write that a request was carried out, and with which result."""
        data = result.as_data()
        event = RequestDone(id=request.id, command=request.command, result=str(result), **data)
        if request.command == "epochs":
            event.epochs = self._state.config.epochs
        self._events.write(event)

    def flush(self) -> None:
        """To be called with each checkpoint: see `TensorBoardWriter.flush`."""
        self._tensorboard.flush()

    def log(self, message: Message) -> None:
        self._events.log(message)

    @property
    def seconds_per_step(self) -> float | None:
        """The mean of the last minute; None before the first steps."""
        return self._seconds_per_step

    def check_attempt(self) -> None:
        """Raise Superseded where a later attempt has the run."""
        self._events.check()

    def check_finite(self) -> None:
        """Raise NonFiniteLoss when the loss since the last point is no longer finite. Waits for a GPU."""
        self._finite_values()

    def _finite_values(self) -> dict[str, float]:
        state = self._state
        values = state.meter.training_values()
        if not math.isfinite(values["loss"]):
            raise NonFiniteLoss(DIVERGED(fact=LOSS_NOT_FINITE(value=str(values["loss"]), step=state.step)))
        return values

    def _point(self, rate: float) -> None:
        self._events.check()
        meter, values = self._state.meter, self._finite_values()
        moment = time.monotonic()
        speed = self._images / max(1e-9, moment - self._point_time)
        self._point_time = self._read_at = moment
        self._images = 0
        shown = {**values, "lr": rate, "images_per_s": round(speed, 1)}
        self._tensorboard.add("train", shown, self._state.step)
        self._events.write(Metrics(split="train", values=shown))
        meter.reset()

    def _eta_s(self) -> float | None:
        """Seconds left at the mean of the last minute, including the remaining validations."""
        if self._recent and self._recent[-1][1] > self._recent[0][1]:
            (start, first), (end, last) = self._recent[0], self._recent[-1]
            self._seconds_per_step = (end - start) / (last - first)
        if self._seconds_per_step is None:
            return None
        state = self._state
        left_s = (state.total_steps - state.step) * self._seconds_per_step
        return round(left_s + (state.config.epochs - state.epochs_done) * self._validation_s, 1)
