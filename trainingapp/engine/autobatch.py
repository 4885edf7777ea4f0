"""Find the batch size at the start of a run: the largest that fits and still increases throughput."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.errors import BadConfig, is_out_of_memory
from trainingapp.contract.messages.training import TWO_IMAGES_DO_NOT_FIT
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.device import Precision
from trainingapp.engine.optim import make_optimizer
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.tasks.registry import make_task

LARGEST = 1024
MEMORY_SHARE = 0.8
LEAST_GAIN = 1.1
"""Factor by which a batch of twice the size must increase the throughput to be worth its memory."""


@dataclass(frozen=True)
class Trial:
    """The measured throughput of a batch size."""

    batch_size: int
    images_per_s: float


def find_batch_size(spec: RunSpec, dataset: DatasetIndex, device: torch.device, precision: Precision) -> list[Trial]:
    """Try powers of 2 with real steps, in ascending order; the last trial is the result.

    The search ends when memory runs out (or the next size would take more than MEMORY_SHARE of the free memory), when a
    larger batch is not faster, and at a quarter of the training split. Raises BadConfig when not even two images fit.
    """
    largest = max(2, min(LARGEST, len(dataset.split("train")) // 4))
    free = free_bytes(device)
    trials: list[Trial] = []
    for batch_size in (2**power for power in range(1, largest.bit_length())):
        try:
            found = _measured(spec, dataset, device, precision, batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        if trials and found.images_per_s < trials[-1].images_per_s * LEAST_GAIN:
            break
        trials.append(found)
        if used_bytes(device) > MEMORY_SHARE * free / 2:  # twice as many would be too much
            break
    if not trials:
        raise BadConfig(TWO_IMAGES_DO_NOT_FIT())
    return trials


def _measured(
    spec: RunSpec, dataset: DatasetIndex, device: torch.device, precision: Precision, batch_size: int
) -> Trial:
    """Train two steps on the first batch: the first allocates, the second is timed."""
    config = spec.config.model_copy(update={"batch_size": batch_size, "num_workers": 0})
    task = make_task(replace(spec, config=config), dataset, device)
    model = task.build_model(pretrained=False).train()
    guard_small_convolutions(model, precision)
    optimizer, meter = make_optimizer(model, config), task.training_meter()
    batch = next(task.train_batches(1, skip=0))
    for _turn in range(2):
        began = time.perf_counter()
        with precision.autocast():
            loss = task.loss(model, batch, meter)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    return Trial(batch_size, batch_size / seconds)


def free_bytes(device: torch.device) -> float:
    """Free memory of the GPU or of the machine."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.mem_get_info(device)[0])
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024.0


def used_bytes(device: torch.device) -> float:
    """Peak memory of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    return _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024.0


def _kilobytes(path: Path, name: str) -> int:
    """A line such as "MemAvailable:   123 kB". Without such files (not Linux) memory counts as unlimited."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 1 << 40 if name == "MemAvailable" else 0
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
