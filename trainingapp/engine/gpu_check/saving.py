"""What a checkpoint costs: how long the loop waits for it, and when it is on the disk."""

import itertools
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from pydantic import JsonValue

from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.contract.retention import Policy
from trainingapp.contract.storage.durable import DURABLE_RATIO, DURABLE_WITHIN_S
from trainingapp.contract.storage.index import read_index
from trainingapp.engine.checkpoint import CheckpointFolder, Keeping
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values
from trainingapp.engine.gpu_check.training import MEGABYTE, Training, new_training, wait_for

#: Saves of which the median counts; the first makes the buffer and is shown by itself.
SAVES = 4
GIVEN_UP_S = 20.0
NETWORKS: dict[str, dict[str, JsonValue]] = {
    "resnet50": {"model": "resnet50", "image_size": 224, "batch_size": 32, "amp": "on", "deterministic": "fast"},
    "ViT-B/16": {"model": "vit_b_16", "image_size": 224, "batch_size": 32, "amp": "on", "deterministic": "fast"},
}


def cost(plan: Plan, values: dict[str, JsonValue]) -> Values:
    """Saves between steps, and torch.save with fsync beside them."""
    small: dict[str, JsonValue] = {} if plan.on_gpu else {"model": "resnet18", "image_size": 32, "batch_size": 4}
    training = new_training(plan, {**values, **small})
    batches = itertools.repeat(next(training.batches()))
    step_s = training.seconds_per_step(batches, 0.5 if plan.on_gpu else 0.0)
    folder = plan.folder / "runs" / "saving"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    events = EventLog(folder / EVENTS_FILE, 1)
    checkpoints = CheckpointFolder(folder / "checkpoints", events, Keeping(Policy(last=2)))
    saves = []
    for number in range(SAVES if plan.on_gpu else 2):
        checkpoints.drain()
        saves.append(_save(training, batches, checkpoints, number))
    durable_s = _durable(training, batches, checkpoints, number)
    checkpoints.drain()
    plain_s = _plain_save(training, folder / "plain.pt")
    size = (folder / "plain.pt").stat().st_size
    events.close()
    shutil.rmtree(folder)
    stall_s, next_steps_s = (statistics.median(one[part] for one in saves[1:]) for part in range(2))
    values_found: Values = {
        "state_mb": round(size / MEGABYTE, 1),
        "step_ms": round(1000 * step_s, 2),
        "first_stall_ms": round(1000 * saves[0][0], 1),
        "stall_ms": round(1000 * stall_s, 1),
        "stall_steps": round(stall_s / step_s, 2),
        "next_two_steps_ratio": round(next_steps_s / (2 * step_s), 2),
        "durable_s": round(durable_s, 2),
        "plain_save_s": round(plain_s, 2),
        "durable_ratio": round(durable_s / plain_s, 2),
    }
    if durable_s >= max(DURABLE_WITHIN_S, DURABLE_RATIO * plain_s):
        values_found["problem"] = f"on the disk after {durable_s:.1f} s"
    return values_found


def _save(
    training: Training, batches: Iterator[TensorBatch], checkpoints: CheckpointFolder, number: int
) -> tuple[float, float]:
    """Seconds that the loop waited, and of the two steps after it."""
    device = training.precision.device
    wait_for(device)
    began = time.perf_counter()
    checkpoints.save(training.state.checkpoint_content(), file=f"step_{number}.pt", reason="autosave")
    stall_s = time.perf_counter() - began
    for _turn in range(2):
        training.step(batches)
    wait_for(device)
    return stall_s, time.perf_counter() - began - stall_s


def _durable(training: Training, batches: Iterator[TensorBatch], checkpoints: CheckpointFolder, number: int) -> float:
    """Seconds until the save that has just been made is on the disk, while more steps are made."""
    began = time.perf_counter()
    while not _is_there(checkpoints, number) and time.perf_counter() - began < GIVEN_UP_S:
        training.step(batches)
        wait_for(training.precision.device)
    return time.perf_counter() - began


def _is_there(checkpoints: CheckpointFolder, number: int) -> bool:
    return any(entry.file == f"step_{number}.pt" for entry in read_index(checkpoints.run_dir / "checkpoints"))


def _plain_save(training: Training, path: Path) -> float:
    began = time.perf_counter()
    with path.open("wb") as file:
        torch.save(training.state.checkpoint_content(), file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def cases(plan: Plan) -> list[Case]:
    networks = dict(list(NETWORKS.items())[:1]) if plan.quick else NETWORKS
    return [Case(name, partial(cost, values=values), alone=True) for name, values in networks.items()]


SECTION = Section("checkpoint", "What a checkpoint costs", 40, cases)
