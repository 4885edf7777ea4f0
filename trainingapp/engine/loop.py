"""The training loop."""

import io
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from pydantic import JsonValue

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.errors import BadConfig, EngineError, Superseded, classify
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.events import EndState, EventLog, Failed, Listening, Started
from trainingapp.contract.loading import MB
from trainingapp.contract.messages import Message, sentences
from trainingapp.contract.messages.loading import IMAGES_CACHED, IMAGES_NOT_CACHED
from trainingapp.contract.messages.ranks import (
    FEWER_RANKS,
    ONE_RANK_KEPT,
    TOGETHER_EXACT,
    TOGETHER_FAST,
)
from trainingapp.contract.messages.training import (
    BATCH_SIZE_CHOSEN,
    BATCH_SIZE_TRIAL,
    RESUMED_FROM,
    STOPPED_EARLY,
    TRAINS_ON_FOLDS,
)
from trainingapp.contract.messages.weights import NO_WEIGHTS_FIT, WEIGHTS_OF
from trainingapp.contract.pretrained import Decision
from trainingapp.contract.run_directory import RunSpec, read_config_file
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.checkpoint import CheckpointFolder, Found, Keeping
from trainingapp.engine.compilation import compile_network
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms, choose_algorithms
from trainingapp.engine.device import (
    Precision,
    device_for,
    device_name,
)
from trainingapp.engine.environment import environment
from trainingapp.engine.memory import limit_to_share
from trainingapp.engine.number_format import precision_for
from trainingapp.engine.pretrained import decide
from trainingapp.engine.rank_processes import RankProcesses, Setup, rank_threads
from trainingapp.engine.ranks import Word
from trainingapp.engine.report import Reporter
from trainingapp.engine.requests import RequestHandler
from trainingapp.engine.resume_check import ResumeChecker
from trainingapp.engine.saving import Saving
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.shared_step import share_steps, share_with
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import Position, TrainingState, new_state, steps_per_epoch
from trainingapp.engine.step import epoch_batches, training_step
from trainingapp.engine.system_monitor import alone, monitored
from trainingapp.engine.tasks.registry import make_task, read_dataset
from trainingapp.engine.tasks.task import Task
from trainingapp.engine.transfer import forked, load_matching, starting_weights
from trainingapp.engine.validation import evaluate_split

ENDED: dict[Ending, EndState] = {"pause": "paused", "stop": "stopped", "interrupt": "interrupted"}

#: Seconds of a step above which `step_ahead` does nothing.
LONGEST_STEP_AHEAD_S = 3.0

logger = logging.getLogger("trainingapp.engine")


def train(spec: RunSpec, control: Control, events: EventLog, *, unwanted_fds: Sequence[int] = ()) -> EndState:
    """Train from the newest valid checkpoint, or from the start, until the run is complete or is to end.

    Loader processes close `unwanted_fds`. Raises EngineError and whatever torch raises; everything saved is kept.
    """
    device = device_for(spec)
    limit_to_share(device, spec.config)
    dataset = read_dataset(spec)
    metric = spec.config.best_metric
    keeping = Keeping(spec.config.retention_policy(), metric, METRICS[metric].higher_is_better)
    folder = CheckpointFolder(spec.run_dir / "checkpoints", events, keeping, form=spec.config.checkpoint_format)
    found = folder.newest_valid() or forked(spec)
    spec = _with_model_of(found, spec)
    precision, warning = precision_for(spec, dataset, device, found)
    weights = None if found else starting_weights(spec)
    spec, decision = decide(spec, found, events)
    world, too_many = rank_count(spec, found)
    with RankProcesses(spec, world, partial(_end_attempt, events)) if world > 1 else nullcontext() as processes:
        # Before the search of the batch size, which must measure what the run will do.
        algorithms = choose_algorithms(spec, dataset, precision, found, cpu_threads=_cpu_threads(spec, found))
        spec = _with_batch_size(spec, dataset, precision, algorithms, found, events)
        task = make_task(spec, dataset, device, unwanted_fds=unwanted_fds)
        warnings = [*folder.warnings, *filter(None, (warning, algorithms.warning, too_many))]
        _report_start(events, spec, task, found, precision, algorithms, warnings, world, decision)
        folder.announce_newest()
        state = _prepare(spec, task, precision, algorithms, found, weights, events)
        del weights  # would occupy memory for the whole run
        if isinstance(processes, RankProcesses):
            _connect(processes, state, events)
        for remark in (compile_network(state), share_steps(state)):
            if remark:
                events.log(remark, "warning")
        report, resume_check = Reporter(events, state, folder), ResumeChecker(spec.run_dir, state, events, found)
        saving = Saving(folder, state, report, resume_check)
        requests = RequestHandler(control, state, precision, report, saving)

        others = processes.use_of_others() if isinstance(processes, RankProcesses) else alone
        with monitored(events, device, others=others) as clock:
            while not state.finished:
                batches = clock.timed(_begin_epoch(state))
                report.begin_epoch()
                while not (ending := requests.between_steps()) and state.step_in_epoch < state.steps_per_epoch:
                    step = training_step(state, batches, precision, seen=report.training_batch)
                    report.training_step(step.rate, step.images_elsewhere)
                    clock.end_step()
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


def rank_count(spec: RunSpec, found: Found | None) -> tuple[int, Message | None]:
    """How many of the assigned devices train, one for each rank, and why not all where some do not."""
    devices = max(1, len(spec.devices))
    if devices > 1 and found and not found.content.get("batch_seeds"):
        return 1, ONE_RANK_KEPT(devices=devices)
    count = min(devices, spec.config.accumulation_steps)
    return count, FEWER_RANKS(count=count, devices=devices) if count < devices else None


def _connect(processes: RankProcesses, state: TrainingState, events: EventLog) -> None:
    """Have the other ranks build the network, and give them what the run begins with."""
    setup = Setup(
        attempt=events.attempt,
        world=processes.world,
        batch_size=state.config.batch_size,
        cpu_threads=state.cpu_threads,
        deterministic=state.algorithms.deterministic,
        computation=state.task.computation,
        precision=state.precision.name,
        pretrained=str(getattr(state.config, "pretrained", "")),
    )
    ranks = processes.connect(setup, state.device, lambda address: events.write(Listening(address=address)))
    content = io.BytesIO()
    torch.save(state.checkpoint_content(), content)
    ranks.send(content.getvalue())
    share_with(state, ranks)


def _end_attempt(events: EventLog, error: EngineError) -> None:
    """End this process, which waits for a rank that is gone."""
    logger.error("%s", error)
    with suppress(Superseded):
        events.write(Failed(**classify(error).as_data()))
    events.flush()
    os._exit(1)


def _begin_epoch(state: TrainingState) -> Iterator[TensorBatch]:
    """Enter the epoch to be trained; returns its remaining batches."""
    state.begin_epoch()
    state.ranks.tell(Word.EPOCH, state.epoch, state.step_in_epoch)
    return epoch_batches(state)


def _validate(state: TrainingState, precision: Precision, report: Reporter, requests: RequestHandler) -> Ending | None:
    """Evaluate the validation split and record the result; or return how to end, which leaves the validation due."""
    began = time.monotonic()
    found = evaluate_split(state, precision, report, requests.between_steps)
    if not isinstance(found, Evaluation):
        return found
    state.end_epoch(found)
    report.validated(found, time.monotonic() - began)
    return None


def step_ahead(
    state: TrainingState,
    batches: Iterator[TensorBatch],
    precision: Precision,
    resume_check: ResumeChecker,
    seconds_per_step: float | None,
) -> None:
    """Make the step after the last checkpoint; the attempt that resumes the run compares it with its own first step.

    The step is not saved. It is skipped where steps take long, because the user waits for the pause. An error in it is
    only logged: it will occur again in the resumed run.
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
    spec: RunSpec,
    task: Task,
    precision: Precision,
    algorithms: Algorithms,
    found: Found | None,
    weights: dict[str, torch.Tensor] | None,
    events: EventLog,
) -> TrainingState:
    """Model, optimizer and position: those of the checkpoint, or new ones with the weights to start from."""
    config = spec.config
    if found:
        task.continue_from(found.content)
    seed_everything(config.seed)  # before the model, whose initial weights are drawn from these generators
    model = task.build_model(pretrained=found is None)
    guard_small_convolutions(model, precision)
    if spec.start_from is not None and weights is not None:
        transfer = load_matching(model, weights)
        if not transfer.matched:
            raise BadConfig(NO_WEIGHTS_FIT(file=spec.start_from.name))
        for line in transfer.messages():
            events.log(WEIGHTS_OF(file=spec.start_from.name, report=line))
    state = new_state(spec, task, model, precision, algorithms, cpu_threads=_cpu_threads(spec, found))
    if found:
        for warning in state.restore(found.content):
            events.log(warning, "warning")
        for line in state.extension_since(found.content):
            events.log(line)
    return state


def _cpu_threads(spec: RunSpec, found: Found | None) -> int:
    """The number of threads for the whole run, also after a resume on another machine: sums depend on it."""
    config = spec.config
    if found:
        return int(found.content["cpu_threads"])
    return rank_threads(config.cpu_threads, min(config.device_count, config.accumulation_steps))


def _with_model_of(found: Found | None, spec: RunSpec) -> RunSpec:
    """The specification with the network of the checkpoint, where a configuration written by hand names none: the
    default may have been another one when the run began."""
    if found is None or spec.config.model == found.content["config"]["model"]:
        return spec
    given = read_config_file(spec.run_dir)["config"]
    if "model" in given:
        return spec
    return replace(spec, config=parse_config({**given, "model": found.content["config"]["model"]}))


def _with_batch_size(
    spec: RunSpec,
    dataset: DatasetIndex,
    precision: Precision,
    algorithms: Algorithms,
    found: Found | None,
    events: EventLog,
) -> RunSpec:
    """The specification with the batch size that its configuration leaves open: that of the checkpoint, or the best one
    found now."""
    if not spec.config.auto_batch_size:
        return spec
    if found:
        batch_size = cast(int, found.content["config"]["batch_size"])
    else:
        trials = find_batch_size(spec, dataset, precision, algorithms, cpu_threads=_cpu_threads(spec, found))
        batch_size = trials[-1].batch_size
        tried = [BATCH_SIZE_TRIAL(batch_size=one.batch_size, images_per_s=one.images_per_s) for one in trials]
        events.log(BATCH_SIZE_CHOSEN(batch_size=batch_size, trials=tried))
    return replace(spec, config=spec.config.model_copy(update={"batch_size": batch_size}))


def how_images_load(task: Task) -> Message:
    """The loader processes of this attempt, and whether decoded images stay in memory."""
    size_mb, most_mb = -(-task.decoded_bytes // MB), task.loading.cache_bytes // MB
    cached = IMAGES_CACHED(mb=size_mb) if task.is_cached else IMAGES_NOT_CACHED(mb=size_mb, most_mb=most_mb)
    return sentences(task.loading.reason, cached if task.decoded_bytes else None)


def _report_start(
    events: EventLog,
    spec: RunSpec,
    task: Task,
    found: Found | None,
    precision: Precision,
    algorithms: Algorithms,
    warnings: list[Message],
    world: int,
    decision: Decision | None,
) -> None:
    epoch_steps = steps_per_epoch(task, spec.config)
    position = Position.of(found.content, epoch_steps) if found else Position()
    events.epoch, events.step = position.epoch if found else 0, position.step(epoch_steps)
    file = found.entry.file if found else None
    made_with: dict[str, JsonValue] = {
        "batch_size": spec.config.batch_size,
        "cpu_threads": _cpu_threads(spec, found),
        "precision": precision.name,
        "deterministic": algorithms.deterministic,
        "num_workers": task.loading.processes,
        "prefetch": task.loading.prefetch,
        "images_cached": task.is_cached,
    }
    if decision:
        made_with["pretrained"] = decision.as_data()
    if world > 1:
        made_with |= {"ranks": world, "reduction": spec.config.reduction}
    events.write(
        Started(
            device=device_name(precision.device, spec.device),
            dataset_fingerprint=task.description()["dataset_fingerprint"],
            resumed_from=file,
            validation_due=position.is_validation_due(epoch_steps),
            batch_size=spec.config.batch_size,
            environment={**environment(), **made_with},
        )
    )
    for warning in warnings:
        events.log(warning, "warning")
    for remark in task.remarks():
        events.log(remark)
    events.log(how_images_load(task), "warning" if task.loading.is_limited else "info")
    if spec.config.folds:
        counts = task.image_counts()
        fold = {"fold": spec.config.fold, "last": spec.config.folds - 1}
        events.log(TRAINS_ON_FOLDS(**fold, train=counts["train"], val=counts["val"]))
    if world > 1:
        together = TOGETHER_EXACT if spec.config.reduction == "exact" else TOGETHER_FAST
        events.log(together(devices=world))
    if found:
        events.log(RESUMED_FROM(file=str(file), step=events.step))
