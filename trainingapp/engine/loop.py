"""The training loop."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch

from trainingapp.contract.config import RunConfig
from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.errors import BadConfig, EngineError
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.events import EVENTS_FILE, EndState, EventLog, Started
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    BATCH_SIZE_CHOSEN,
    BATCH_SIZE_TRIAL,
    RESUMED_FROM,
    STOPPED_EARLY,
)
from trainingapp.contract.messages.weights import NO_WEIGHTS_FIT, WEIGHTS_OF
from trainingapp.contract.run_directory import Order
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.checkpoint import CheckpointFolder, Found, Keeping
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.device import (
    Precision,
    available_threads,
    choose_precision,
    device_for,
    device_name,
    prepare_backend,
)
from trainingapp.engine.environment import environment
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.report import Reporter
from trainingapp.engine.requests import RequestHandler
from trainingapp.engine.resume_check import ResumeChecker
from trainingapp.engine.saving import Saving
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import Position, TrainingState, new_state, steps_per_epoch
from trainingapp.engine.step import training_step
from trainingapp.engine.tasks.registry import make_task, read_dataset
from trainingapp.engine.tasks.task import Task
from trainingapp.engine.transfer import forked, load_matching, starting_weights
from trainingapp.engine.validation import evaluate_split

ENDED: dict[Ending, EndState] = {"pause": "paused", "stop": "stopped", "interrupt": "interrupted"}

EVENTS_TAIL_BYTES = 1 << 20

#: Seconds of a step above which `step_ahead` does nothing.
LONGEST_STEP_AHEAD_S = 3.0

logger = logging.getLogger("trainingapp.engine")


def train(order: Order, control: Control, events: EventLog, *, unwanted_fds: Sequence[int] = ()) -> EndState:
    """Train from the newest valid checkpoint, or from the start, until the run is done or told to end.

    Loader processes close `unwanted_fds`. Raises EngineError and whatever torch raises; all that was saved stays.
    """
    device = device_for(order)
    precision, warning = choose_precision(device, amp=order.config.amp)
    dataset = read_dataset(order)
    folder = CheckpointFolder(
        order.run_dir / "checkpoints", events, _keeping(order.config), form=order.config.checkpoint_format
    )
    found = folder.newest_valid() or forked(order)
    weights = None if found else starting_weights(order)
    order = _with_batch_size(order, dataset, device, precision, found, events)
    task = make_task(order, dataset, device, unwanted_fds=unwanted_fds)
    _report_start(events, order, task, found, device, [*folder.warnings, *([warning] if warning else [])])
    folder.announce_newest(_tail(order))
    state = _prepare(order, task, device, precision, found, weights, events)
    del weights  # they would take memory for the whole run
    report, resume_check = Reporter(events, state, order.run_dir), ResumeChecker(order.run_dir, state, events, found)
    saving = Saving(folder, state, report, resume_check)
    requests = RequestHandler(control, state, precision, report, saving)

    while not state.finished:
        batches = _begin_epoch(state)
        report.begin_epoch()
        while not (ending := requests.between_steps()) and state.step_in_epoch < state.steps_per_epoch:
            step = training_step(state, batches, precision, seen=report.training_batch)
            report.training_step(step.rate)
            resume_check.after_step(step)

        ending = ending or _validate(state, precision, report, requests)
        if ending:
            saving.save_now(ending)
            step_ahead(state, batches, precision, resume_check, report.seconds_per_step)
            return ENDED[ending]
        saving.save_epoch()
        requests.after_epoch()

    saving.complete()
    if state.epochs_done < state.config.epochs:
        events.log(STOPPED_EARLY(epoch=state.best.epoch))
    return "completed"


def _begin_epoch(state: TrainingState) -> Iterator[TensorBatch]:
    """Go to the epoch that is to be trained; returns its batches from where the run is."""
    state.begin_epoch()
    set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
    return state.task.train_batches(state.epoch, skip=state.batches_done)


def _validate(state: TrainingState, precision: Precision, report: Reporter, requests: RequestHandler) -> Ending | None:
    """Evaluate the validation split and note the result; or say how to end, which leaves the validation due."""
    began = time.monotonic()
    found = evaluate_split(state, precision, report, requests.between_steps)
    if not isinstance(found, Evaluation):
        return found
    state.end_epoch(found.values)
    report.validated(found, time.monotonic() - began)
    return None


def step_ahead(
    state: TrainingState,
    batches: Iterator[TensorBatch],
    precision: Precision,
    resume_check: ResumeChecker,
    seconds_per_step: float | None,
) -> None:
    """Make the step that comes next, for the attempt that goes on to compare with. What is saved is saved.

    Left out where a step takes long, for somebody waits; and what goes wrong in it has its time when the run goes on.
    """
    if (seconds_per_step or 0.0) > LONGEST_STEP_AHEAD_S:
        return
    try:
        if state.validation_due:
            state.validated = True
            if state.finished:
                return
            batches = _begin_epoch(state)
        resume_check.after_step(training_step(state, batches, precision))
    except (EngineError, RuntimeError, OSError) as error:
        logger.info("The step after the last checkpoint could not be made: %s", error)


def _prepare(
    order: Order,
    task: Task,
    device: torch.device,
    precision: Precision,
    found: Found | None,
    weights: dict[str, torch.Tensor] | None,
    events: EventLog,
) -> TrainingState:
    """Model, optimizer and position: as the checkpoint holds them, or new, with the weights to start from."""
    config = order.config
    cpu_threads = _cpu_threads(order, found)
    prepare_backend(deterministic=config.deterministic, cpu_threads=cpu_threads)
    seed_everything(config.seed)
    model = task.build_model(pretrained=found is None)
    guard_small_convolutions(model, precision)
    if order.start_from is not None and weights is not None:
        _take_over_weights(model, order.start_from.name, weights, events)
    state = new_state(order, task, model, precision, cpu_threads=cpu_threads)
    if found:
        for warning in state.restore(found.content):
            events.log(warning, "warning")
        for line in state.extension_since(found.content):
            events.log(line)
    return state


def _cpu_threads(order: Order, found: Found | None) -> int:
    """The number for the whole run: sums depend on it."""
    return int(found.content["cpu_threads"]) if found else order.config.cpu_threads or available_threads()


def _with_batch_size(
    order: Order,
    dataset: DatasetIndex,
    device: torch.device,
    precision: Precision,
    found: Found | None,
    events: EventLog,
) -> Order:
    """The order with the batch size that its configuration leaves open: as it was, or the best that is found now."""
    if not order.config.auto_batch_size:
        return order
    if found:
        batch_size = cast(int, found.content["config"]["batch_size"])
    else:
        trials = find_batch_size(order, dataset, device, precision)
        batch_size = trials[-1].batch_size
        tried = [BATCH_SIZE_TRIAL(batch_size=one.batch_size, images_per_s=one.images_per_s) for one in trials]
        events.log(BATCH_SIZE_CHOSEN(batch_size=batch_size, trials=tried))
    return replace(order, config=order.config.model_copy(update={"batch_size": batch_size}))


def _take_over_weights(model: torch.nn.Module, file: str, weights: dict[str, torch.Tensor], events: EventLog) -> None:
    """Start from the weights of another checkpoint, as far as they fit, and say how far that is."""
    report = load_matching(model, weights)
    if not report.matched:
        raise BadConfig(NO_WEIGHTS_FIT(file=file))
    for line in report.messages():
        events.log(WEIGHTS_OF(file=file, report=line))


def _keeping(config: RunConfig) -> Keeping:
    """Which checkpoints stay while this attempt saves new ones."""
    metric = config.best_metric
    return Keeping(config.retention_policy(), metric, METRICS[metric].higher_is_better)


def _report_start(
    events: EventLog,
    order: Order,
    task: Task,
    found: Found | None,
    device: torch.device,
    warnings: list[Message],
) -> None:
    epoch_steps = steps_per_epoch(task, order.config)
    position = Position.of(found.content, epoch_steps) if found else Position()
    events.epoch, events.step = position.epoch if found else 0, position.step(epoch_steps)
    file = found.entry.file if found else None
    made_with = {"batch_size": order.config.batch_size, "cpu_threads": _cpu_threads(order, found)}
    events.write(
        Started(
            device=device_name(device),
            dataset_fingerprint=task.description()["dataset_fingerprint"],
            resumed_from=file,
            validation_due=position.is_validation_due(epoch_steps),
            batch_size=order.config.batch_size,
            environment={**environment(), **made_with},
        )
    )
    for warning in warnings:
        events.log(warning, "warning")
    if found:
        events.log(RESUMED_FROM(file=str(file), step=events.step))


def _tail(order: Order) -> bytes:
    """The end of the event file."""
    with (order.run_dir / EVENTS_FILE).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - EVENTS_TAIL_BYTES))
        return file.read()
