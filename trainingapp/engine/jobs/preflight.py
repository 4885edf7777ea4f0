"""The preflight check: a few real steps of a run that does not exist yet, and what they predict for it.

Parameters: {"config": a RunConfig, "dataset_dir": path, "runs_dir": the folder whose disk will hold the run,
"weights_cache_dir": path, "published_weights": whether weights are downloaded, "device" and "device_uuid": the GPU that
the studio holds for this job, in place of the configuration's, "free_bytes": in place of the disk's}; all but the first
two may be missing. The result:

    {"device", "precision": str, "deterministic": bool,
     "parameters", "batch_size", "accumulation_steps", "steps_per_epoch": int,
     "memory": {"peak_bytes", "free_bytes": int, "kind": "gpu" | "process", "fits": bool,
                "batch_size", "accumulation_steps": int or null: what fits where the configuration's does not},
     "time": {"seconds_per_step", "seconds_per_validation", "seconds_per_epoch", "seconds_in_all",
              "images_per_s": float},
     "loader": {"images_per_s": float, "is_slower": bool: the device would wait for the loader},
     "disk": {"bytes_per_checkpoint", "checkpoints", "bytes_in_all", "free_bytes", "short_by_bytes": int},
     "finite": {"loss", "gradients", "weights": bool, "loss_value": float or null},
     "warnings": [{"code": "memory" | "disk" | "not_finite" | "loader" | "precision" | "determinism",
                   "message": str,
                   "message_data": the message with its own code}, ...]}

Everything is measured with the batch that fits. Times hold for the load of the moment: beside other work a run is
slower. Sizes of checkpoints are those without compression, an upper bound.
"""

import contextlib
import io
import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from trainingapp.contract.config import RunConfig, smaller_batch
from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.disk_space import DiskSpace, disk_space, disk_warning, free_bytes_at
from trainingapp.contract.errors import BadConfig, is_out_of_memory
from trainingapp.contract.job_request import JobRequest, Params
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.engine_jobs import (
    BATCH_DOES_NOT_FIT,
    BUILDING_MODEL,
    FINDING_BATCH_SIZE,
    LOADER_SLOW,
    LOADING_IMAGES,
    MEMORY_IN_USE,
    NOT_FINITE,
    TRAINING_STEPS,
    VALIDATING_IMAGES,
)
from trainingapp.contract.messages.training import TWO_IMAGES_DO_NOT_FIT
from trainingapp.contract.run_directory import RunSpec, read_run_spec
from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms, choose_algorithms
from trainingapp.engine.device import (
    Precision,
    assigned_gpu,
    available_threads,
    device_name,
    find_device,
    gpu_number,
    usable,
)
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.memory import MemoryBefore, memory_before, own_share, peak_bytes, release
from trainingapp.engine.number_format import precision_for
from trainingapp.engine.pretrained import expected
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import TrainingState, new_state
from trainingapp.engine.step import training_step
from trainingapp.engine.tasks.registry import make_task, read_dataset

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STEPS = 3
#: Seconds after which no further step, batch or validation batch is started.
STEPS_S, LOADER_S, VALIDATION_S = 20.0, 3.0, 5.0
LOADER_BATCHES = 20
VALIDATION_BATCHES = 4
STAGES = 4
#: The loader slows a run down unless, alone, it is this many times as fast as a step: with loader processes, which load
#: while the device computes, and within the trainer, where loading and computing take turns.
SLOW_BESIDE, SLOW_WITHIN = 1.2, 2.0
LOWEST_PRIORITY = 19


class MemoryNeed(TypedDict):
    """`batch_size` and `accumulation_steps` are what fits where the configuration's does not."""

    peak_bytes: int
    free_bytes: int
    kind: str
    fits: bool
    batch_size: int | None
    accumulation_steps: int | None


class Finite(TypedDict):
    """Whether all numbers are finite after the steps; `loss_value` is None where the loss is not."""

    loss: bool
    gradients: bool
    weights: bool
    loss_value: float | None


@dataclass(frozen=True)
class Measured:
    """What the steps with one batch size have shown."""

    state: TrainingState
    seconds_per_step: float
    loader_images_per_s: float
    seconds_per_validation: float
    peak_bytes: int
    loss: float
    gradients_finite: bool

    def times(self) -> dict[str, float]:
        """Seconds of a step, a validation, an epoch and the run, and images per second of the steps."""
        state, config = self.state, self.state.config
        per_epoch_s = state.steps_per_epoch * self.seconds_per_step + self.seconds_per_validation
        return {
            "seconds_per_step": self.seconds_per_step,
            "seconds_per_validation": self.seconds_per_validation,
            "seconds_per_epoch": per_epoch_s,
            "seconds_in_all": per_epoch_s * config.epochs,
            "images_per_s": config.batch_size * config.accumulation_steps / max(1e-9, self.seconds_per_step),
        }

    def finite(self) -> Finite:
        """Whether loss, gradients and weights are finite."""
        is_loss_finite = math.isfinite(self.loss)
        return {
            "loss": is_loss_finite,
            "gradients": self.gradients_finite,
            "weights": all(bool(torch.isfinite(parameter).all()) for parameter in self.state.model.parameters()),
            "loss_value": self.loss if is_loss_finite else None,
        }


def run(request: JobRequest) -> dict[str, object]:
    """The job, in a separate process, with the lowest priority."""
    os.nice(LOWEST_PRIORITY)
    # When memory runs out, the kernel kills this process first and not a run that trains.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return preflight(request)


def preflight(job: JobRequest, *, steps: int = STEPS) -> dict[str, object]:
    """Build what a run builds, train a few steps and report the results; see the docstring of the module.

    Raises EngineError and whatever torch raises for a run that could not be started either.
    """
    params = job.params
    # A first attempt that downloads no weights: random ones need the same time and memory.
    config = {**params["config"], "start_from": ""}
    values = {"config": config, "dataset_dir": params["dataset_dir"], "attempt": 1}
    paths = {name: params.get(name, "") for name in ("weights_cache_dir", "published_weights")}
    spec = expected(read_run_spec(job.folder, {**values, **paths}))
    device, memory = _taken_device(params, spec.config)
    dataset = read_dataset(spec)
    precision, warning = precision_for(spec, dataset, device)
    with own_share(memory):
        threads = spec.config.cpu_threads or available_threads()
        algorithms = choose_algorithms(spec, dataset, precision, None, cpu_threads=threads)
        fitting, measured = _largest_that_fits(job, spec, dataset, precision, algorithms, memory, steps)
    fits = fitting == spec.config or spec.config.auto_batch_size
    counter = _Counter()
    # Not compressed, and with the optimizer's state, which exists after the first step.
    torch.save(measured.state.checkpoint_content(), counter)  # type: ignore[arg-type]
    free = params.get("free_bytes")
    space = disk_space(
        fitting,
        bytes_per_checkpoint=counter.size_bytes,
        free_bytes=free if free is not None else free_bytes_at(Path(params.get("runs_dir") or job.folder)),
    )
    job.report(STAGES, STAGES)
    return _result(spec.config, measured, memory, space, fits=fits, warning=warning)


def _taken_device(params: Params, config: RunConfig) -> tuple[torch.device, MemoryBefore]:
    """The device, which is used from here on, and its memory before that. Raises BadConfig and DeviceUnavailable."""
    uuid, name = str(params.get("device_uuid") or ""), str(params.get("device") or config.device)
    device = torch.device("cuda", gpu_number(uuid)) if uuid else find_device(name)
    with usable(name):
        memory = memory_before(device)
    if device.type == "cuda":
        device = assigned_gpu(str(device), "")
    return device, memory


def _largest_that_fits(
    job: JobRequest,
    spec: RunSpec,
    dataset: DatasetIndex,
    precision: Precision,
    algorithms: Algorithms,
    memory: MemoryBefore,
    steps: int,
) -> tuple[RunConfig, Measured]:
    """Measure with the batch of the configuration, or else with half of it, and so on."""
    config: RunConfig | None = spec.config
    if spec.config.auto_batch_size:
        job.report(0, STAGES, FINDING_BATCH_SIZE())
        trials = find_batch_size(spec, dataset, precision, algorithms, cpu_threads=torch.get_num_threads())
        config = spec.config.model_copy(update={"batch_size": trials[-1].batch_size})
    while config is not None:
        try:
            return config, _measured(job, replace(spec, config=config), dataset, precision, algorithms, memory, steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release(precision.device)
        config = smaller_batch(config)
    raise BadConfig(TWO_IMAGES_DO_NOT_FIT())


def _measured(
    job: JobRequest,
    spec: RunSpec,
    dataset: DatasetIndex,
    precision: Precision,
    algorithms: Algorithms,
    memory: MemoryBefore,
    steps: int,
) -> Measured:
    job.report(0, STAGES, BUILDING_MODEL())
    seed_everything(spec.config.seed)
    task = make_task(spec, dataset, precision.device)
    model = task.build_model(pretrained=False)
    guard_small_convolutions(model, precision)
    state = new_state(spec, task, model, precision, algorithms, cpu_threads=torch.get_num_threads())
    set_training(model, state.head_prefixes, frozen=is_frozen(spec.config, 1))
    # Epoch after epoch: a small split has fewer batches than are needed here.
    batches = itertools.chain.from_iterable(task.train_batches(epoch, skip=0) for epoch in itertools.count(1))
    job.report(1, STAGES, LOADING_IMAGES())
    loader_images_per_s = _loader_speed(batches, spec.config)
    job.report(2, STAGES, TRAINING_STEPS())
    gradients_finite = _gradients_are_finite(state, next(batches), precision)
    loss, seconds_per_step = _timed_steps(state, batches, precision, steps)
    job.report(3, STAGES, VALIDATING_IMAGES())
    return Measured(
        state=state,
        seconds_per_step=seconds_per_step,
        loader_images_per_s=loader_images_per_s,
        seconds_per_validation=_validation_time(state, precision),
        peak_bytes=peak_bytes(memory),
        loss=loss,
        gradients_finite=gradients_finite,
    )


def _loader_speed(batches: Iterator[TensorBatch], config: RunConfig) -> float:
    """Images per second of the loader alone; the first batch starts the loader and is not counted."""
    next(batches)
    began = time.perf_counter()
    count = 0
    while count < LOADER_BATCHES and time.perf_counter() - began < LOADER_S:
        next(batches)
        count += 1
    return count * config.batch_size / max(1e-9, time.perf_counter() - began)


def _gradients_are_finite(state: TrainingState, batch: TensorBatch, precision: Precision) -> bool:
    """One forward and one backward pass, after which everything is allocated and compiled."""
    with precision.autocast():
        loss = state.task.loss(state.model, batch, state.meter)
    loss.backward()
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    state.optimizer.zero_grad(set_to_none=True)
    return finite


def _timed_steps(
    state: TrainingState, batches: Iterator[TensorBatch], precision: Precision, steps: int
) -> tuple[float, float]:
    """(the loss of the last step, seconds of a step).

    The first allocates the optimizer's state and is not counted; neither is one with images of the largest size, which
    shows the peak of memory where the size changes from step to step.
    """
    _step(state, batches, precision)
    batch = next(batches)
    largest = state.task.largest(batch)
    if largest is not batch:
        _step(state, itertools.chain([largest], batches), precision)
    del largest
    batches = itertools.chain([batch], batches)
    _wait_for(state.device)
    began = time.perf_counter()
    done, losses = 0, [torch.zeros(())]
    while done < steps and (done == 0 or time.perf_counter() - began < STEPS_S):
        losses = _step(state, batches, precision)
        done += 1
    _wait_for(state.device)
    loss = float(torch.stack(losses).mean())
    return loss, (time.perf_counter() - began) / done


def _step(state: TrainingState, batches: Iterator[TensorBatch], precision: Precision) -> list[torch.Tensor]:
    """The losses of a step, of the next epoch where one has ended."""
    if state.step_in_epoch >= state.steps_per_epoch:
        state.step_in_epoch = 0
    return training_step(state, batches, precision).losses


def _validation_time(state: TrainingState, precision: Precision) -> float:
    """Seconds for the whole split, from a few of its batches."""
    count = math.ceil(len(state.task.val_paths()) / state.config.batch_size)
    meter, model = state.task.validation_meter(), state.evaluated_model.eval()
    _wait_for(state.device)
    began, done = time.perf_counter(), 0
    for batch in state.task.val_batches():
        with torch.inference_mode(), precision.autocast():
            state.task.evaluate(model, batch, meter)
        done += 1
        if done >= VALIDATION_BATCHES or time.perf_counter() - began > VALIDATION_S:
            break
    _wait_for(state.device)
    return (time.perf_counter() - began) / max(1, done) * count


def _wait_for(device: torch.device) -> None:
    """A GPU works behind the calls: without waiting, a clock would measure only how fast work is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Counter(io.RawIOBase):
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer") -> int:
        self.size_bytes += memoryview(data).nbytes
        return memoryview(data).nbytes


def _result(
    asked: RunConfig, measured: Measured, memory: MemoryBefore, space: DiskSpace, *, fits: bool, warning: Message | None
) -> dict[str, object]:
    state, config, times = measured.state, measured.state.config, measured.times()
    # The measured steps load too, so a step can never be faster than its loader: the loader must be faster by a factor.
    slow = SLOW_BESIDE if state.task.loading.processes else SLOW_WITHIN
    memory_need: MemoryNeed = {
        "peak_bytes": measured.peak_bytes,
        "free_bytes": memory.free_bytes,
        "kind": memory.kind,
        "fits": fits,
        "batch_size": None if fits else config.batch_size,
        "accumulation_steps": None if fits else config.accumulation_steps,
    }
    memory_note = MEMORY_IN_USE() if measured.peak_bytes > memory.free_bytes else None
    if not fits:
        steps = config.accumulation_steps
        memory_note = BATCH_DOES_NOT_FIT(given=asked.batch_size, batch_size=config.batch_size, steps=steps)
    finite = measured.finite()
    waits_for_loader = measured.loader_images_per_s < times["images_per_s"] * slow
    notes = {
        "memory": memory_note,
        "disk": disk_warning(space),
        "not_finite": None if finite["loss"] and finite["gradients"] and finite["weights"] else NOT_FINITE(),
        "loader": LOADER_SLOW() if waits_for_loader and state.device.type != "cpu" else None,
        "precision": warning,
        "determinism": state.algorithms.warning,
    }
    return {
        "device": device_name(state.device),
        "precision": state.precision.name,
        "deterministic": state.algorithms.deterministic,
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "batch_size": config.batch_size,
        "accumulation_steps": config.accumulation_steps,
        "steps_per_epoch": state.steps_per_epoch,
        "memory": memory_need,
        "time": times,
        "loader": {"images_per_s": measured.loader_images_per_s, "is_slower": waits_for_loader},
        "disk": asdict(space),
        "finite": finite,
        "warnings": [
            {"code": code, "message": str(message), "message_data": message.as_data()}
            for code, message in notes.items()
            if message
        ],
    }
