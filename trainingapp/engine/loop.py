"""The training loop."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import torch

from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.checkpoint import CheckpointFolder, Found, Keeping, non_finite_message
from trainingapp.engine.config import RunConfig
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.dataset_files import DatasetIndex, read_index
from trainingapp.engine.device import (
    Precision,
    available_threads,
    choose_device,
    choose_precision,
    device_name,
    prepare_backend,
)
from trainingapp.engine.ema import Ema
from trainingapp.engine.errors import BadConfig, BadData, NonFiniteLoss
from trainingapp.engine.events import EVENTS_FILE, EventLog
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.metric_names import METRICS
from trainingapp.engine.optim import clip_gradients, make_optimizer, make_schedule, set_learning_rate
from trainingapp.engine.recipes.recipe import Recipe
from trainingapp.engine.recipes.registry import make_recipe
from trainingapp.engine.report import Reporter
from trainingapp.engine.run_files import Order
from trainingapp.engine.saving import Saving
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import Position, TrainingState, steps_per_epoch
from trainingapp.engine.transfer import checkpoint_weights, load_matching

Ended = Literal["completed", "paused", "stopped", "interrupted"]

ENDED: dict[Ending, Ended] = {"pause": "paused", "stop": "stopped", "interrupt": "interrupted"}

EVENTS_TAIL_BYTES = 1 << 20


def train(order: Order, control: Control, events: EventLog, *, unwanted_fds: Sequence[int] = ()) -> Ended:
    """Train from the newest sound checkpoint, or from the start, until the run is done or told to end.

    Loader processes close `unwanted_fds`. Raises EngineError and whatever torch raises; all that was saved stays.
    """
    device = choose_device(order.config.device)
    precision, warning = choose_precision(device, amp=order.config.amp)
    dataset = _read_dataset(order)
    folder = CheckpointFolder(
        order.run_dir / "checkpoints", events, _keeping(order.config), form=order.config.checkpoint_format
    )
    found = folder.newest_sound()
    order = _with_batch_size(order, dataset, device, precision, found, events)
    recipe = make_recipe(order, dataset, device, unwanted_fds=unwanted_fds)
    _tell_start(events, recipe, steps_per_epoch(recipe, order.config), found, device, [*folder.warnings, warning])
    folder.announce_newest(_tail(order))
    state = _prepare(order, recipe, device, precision, found, events)
    report = Reporter(events, state, order.run_dir)
    saving = Saving(folder, state, control, report)
    model, optimizer, scaler = state.model, state.optimizer, state.scaler

    while not state.finished:
        state.begin_epoch()
        report.begin_epoch()
        set_training(model, state.head_prefixes, frozen=is_frozen(order.config, state.epoch))
        batches = recipe.train_batches(state.epoch, skip=state.batches_done)
        while not (ending := saving.between_steps()) and state.step_in_epoch < state.steps_per_epoch:
            rate = state.schedule.lr_at(state.step)
            set_learning_rate(optimizer, rate)
            parts = state.batches_in_step
            for batch in islice(batches, parts):
                report.training_batch(batch)
                with precision.autocast():
                    loss = recipe.loss(model, batch, state.meter)
                scaler.scale(loss / parts).backward()
            clip_gradients(model, optimizer, scaler, order.config.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            state.step_in_epoch += 1
            if state.ema:
                state.ema.update(model, state.step)
            report.training_step(rate)

        ending = ending or _validate(state, precision, report, saving)
        if ending:
            saving.end(ending)
            return ENDED[ending]
        saving.save_epoch()

    saving.complete()
    if state.epochs_done < state.config.epochs:
        events.log(f"Stopped early: no better result since epoch {state.best.epoch}.")
    return "completed"


def _validate(state: TrainingState, precision: Precision, report: Reporter, saving: Saving) -> Ending | None:
    """Evaluate the validation split and note the result; or say how to end, which leaves the validation due."""
    began = time.monotonic()
    meter = state.recipe.new_meter(validation=True)
    model = state.evaluated_model.eval()
    for batch in state.recipe.val_batches():
        if ending := saving.between_steps():
            return ending
        with torch.inference_mode(), precision.autocast():
            state.recipe.evaluate(model, batch, meter)
        report.progress("validate")
    found = state.recipe.evaluation(meter)
    for name, value in found.values.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(non_finite_message(f"The validation {name} of epoch {state.epoch} is {value}"))
    state.end_epoch(found.values)
    report.validated(found, time.monotonic() - began)
    return None


def _prepare(
    order: Order, recipe: Recipe, device: torch.device, precision: Precision, found: Found | None, events: EventLog
) -> TrainingState:
    """Model, optimizer and position, new or as the checkpoint holds them."""
    config = order.config
    cpu_threads = found.content["cpu_threads"] if found else config.cpu_threads or available_threads()
    prepare_backend(deterministic=config.deterministic, cpu_threads=cpu_threads)
    seed_everything(config.seed)
    model = recipe.build_model(pretrained=found is None)
    guard_small_convolutions(model, precision)
    if order.start_from is not None and found is None:
        _take_over_weights(model, order.start_from, events)
    head_prefixes = recipe.head_prefixes(model)
    state = TrainingState(
        config=config,
        recipe=recipe,
        model=model,
        head_prefixes=head_prefixes,
        optimizer=make_optimizer(model, config, head_prefixes),
        schedule=make_schedule(config, steps_per_epoch(recipe, config)),
        ema=Ema(model, config.ema_decay) if config.ema_decay else None,
        scaler=precision.scaler(),
        meter=recipe.new_meter(validation=False),
        device=device,
        attempt=order.attempt,
        cpu_threads=cpu_threads,
    )
    for warning in state.restore(found.content) if found else []:
        events.log(warning, "warning")
    return state


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
        batch_size = int(found.content["config"]["batch_size"])
    else:
        trials = find_batch_size(order, dataset, device, precision)
        batch_size = trials[-1].batch_size
        tried = ", ".join(f"{trial.batch_size}: {trial.pictures_per_s:.0f} pictures/s" for trial in trials)
        events.log(f"batch_size {batch_size} was chosen ({tried}).")
    return replace(order, config=order.config.model_copy(update={"batch_size": batch_size}))


def _take_over_weights(model: torch.nn.Module, path: Path, events: EventLog) -> None:
    """Start from the weights of another checkpoint, as far as they fit, and say how far that is."""
    report = load_matching(model, checkpoint_weights(path))
    if not report.matched:
        raise BadConfig(f"None of the weights in {path.name} fit this model: start_from names another network.")
    for line in report.lines():
        events.log(f"Weights of {path.name}: {line}")


def _keeping(config: RunConfig) -> Keeping:
    """Which checkpoints stay while this attempt saves new ones."""
    metric = config.best_metric
    return Keeping(config.retention_policy(), metric, METRICS[metric].higher_is_better)


def _tell_start(
    events: EventLog,
    recipe: Recipe,
    epoch_steps: int,
    found: Found | None,
    device: torch.device,
    warnings: list[str],
) -> None:
    position = Position.of(found.content, epoch_steps) if found else Position()
    events.epoch, events.step = position.epoch if found else 0, position.step(epoch_steps)
    file = found.entry.file if found else None
    events.write(
        "status",
        state="started",
        device=device_name(device),
        dataset_fingerprint=recipe.description()["dataset_fingerprint"],
        resumed_from=file,
        validation_due=position.is_validation_due(epoch_steps),
    )
    for warning in filter(None, warnings):
        events.log(warning, "warning")
    if found:
        events.log(f"Going on from {file}, after step {events.step}.")


def _read_dataset(order: Order) -> DatasetIndex:
    try:
        dataset = read_index(order.dataset_dir)
    except ValueError as error:
        raise BadData(str(error)) from error
    if order.config.recipe not in dataset.recipes:
        raise BadData(f"The dataset is for {' and '.join(dataset.recipes)}, not for {order.config.recipe}.")
    return dataset


def _tail(order: Order) -> bytes:
    """The end of the event file."""
    with (order.run_dir / EVENTS_FILE).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - EVENTS_TAIL_BYTES))
        return file.read()
