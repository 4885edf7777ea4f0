"""Find the batch size at the start of a run: the largest that fits and still increases throughput."""

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.errors import BadConfig, is_out_of_memory
from trainingapp.contract.messages.training import TWO_IMAGES_DO_NOT_FIT
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms
from trainingapp.engine.device import Precision
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.memory import free_bytes, release, used_bytes
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import TrainingState, new_state
from trainingapp.engine.step import training_step
from trainingapp.engine.tasks.registry import make_task

LARGEST = 1024
MEMORY_SHARE = 0.8
LEAST_GAIN = 1.1
"""Factor by which a batch of twice the size must increase the throughput to be worth its memory."""
TIMED_STEPS = 5
LONGEST_S = 10.0
"""Seconds of timed steps after which no further one is made: on a CPU a step can take long."""


@dataclass(frozen=True)
class Trial:
    """The measured throughput of a batch size."""

    batch_size: int
    images_per_s: float


def find_batch_size(
    spec: RunSpec, dataset: DatasetIndex, precision: Precision, algorithms: Algorithms, *, cpu_threads: int
) -> list[Trial]:
    """Try powers of 2 with real steps, in ascending order; the last trial is the result.

    torch's switches are to be set before. The search ends when memory runs out (or the next size would take more than
    MEMORY_SHARE of the free memory), when a larger batch is not faster, and at a quarter of the training split. Raises
    BadConfig when not even two images fit.
    """
    device = precision.device
    largest = max(2, min(LARGEST, len(dataset.split("train")) // 4))
    release(device)
    free = free_bytes(device)
    trials: list[Trial] = []
    for batch_size in (2**power for power in range(1, largest.bit_length())):
        try:
            found = _measured(spec, dataset, precision, algorithms, batch_size, cpu_threads)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if trials and found.images_per_s < trials[-1].images_per_s * LEAST_GAIN:
            break
        trials.append(found)
        if used_bytes(device) > MEMORY_SHARE * free / 2:  # twice as many would be too much
            break
        release(device)
    release(device)
    if not trials:
        raise BadConfig(TWO_IMAGES_DO_NOT_FIT())
    return trials


def _measured(
    spec: RunSpec,
    dataset: DatasetIndex,
    precision: Precision,
    algorithms: Algorithms,
    batch_size: int,
    cpu_threads: int,
) -> Trial:
    """Train on one batch as the run will, with its EMA, and validate on one: the first step allocates, others are
    timed. Where the size of images changes, the batch has the largest: it must fit, too."""
    config = spec.config.model_copy(update={"batch_size": batch_size, "num_workers": 0, "accumulation_steps": 1})
    task = make_task(replace(spec, config=config), dataset, precision.device)
    model = task.build_model(pretrained=False)
    guard_small_convolutions(model, precision)
    state = new_state(replace(spec, config=config), task, model, precision, algorithms, cpu_threads=cpu_threads)
    _validate_one_batch(state)
    set_training(model, state.head_prefixes, frozen=is_frozen(config, 1))
    batches = itertools.repeat(task.largest(next(task.train_batches(1, skip=0))))
    _step_s(state, batches)
    seconds = [_step_s(state, batches)]
    while len(seconds) < TIMED_STEPS and sum(seconds) < LONGEST_S:
        seconds.append(_step_s(state, batches))
    return Trial(batch_size, batch_size / statistics.median(seconds))


def _validate_one_batch(state: TrainingState) -> None:
    model, meter = state.evaluated_model.eval(), state.task.validation_meter()
    with torch.inference_mode(), state.precision.autocast():
        state.task.evaluate(model, next(state.task.val_batches()), meter)


def _step_s(state: TrainingState, batches: Iterator[TensorBatch]) -> float:
    """Seconds of a step, until the device has done it."""
    state.step_in_epoch = 0
    began = time.perf_counter()
    training_step(state, batches, state.precision)
    if state.device.type == "cuda":
        torch.cuda.synchronize(state.device)
    return time.perf_counter() - began
