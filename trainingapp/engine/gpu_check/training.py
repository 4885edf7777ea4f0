"""Runs and steps of the engine, as the sections use them."""

import gc
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue

from trainingapp.contract.config import parse_config
from trainingapp.contract.events import EVENTS_FILE, Ended, EndState, EventLog, ResumeCheck, read_events
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.storage.index import Entry, read_index
from trainingapp.engine.control import Control, Ending
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms
from trainingapp.engine.device import Precision, available_threads, choose_device, choose_precision, prepare_backend
from trainingapp.engine.digest import digests
from trainingapp.engine.gpu_check.architectures import network
from trainingapp.engine.gpu_check.case import Plan
from trainingapp.engine.loop import train
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import TrainingState, new_state
from trainingapp.engine.step import training_step
from trainingapp.engine.tasks.registry import make_task, read_dataset

SCENES, PHOTOS = "scenes", "photos"
"""Names of the drawn datasets: small images that fit into memory, and JPEG files that are decoded again and again."""

MEGABYTE = 1e6
#: Of what every run is about here: the numbers, not how well it learns.
SHORT_RUN: dict[str, JsonValue] = {
    "epochs": 1,
    "batch_size": 4,
    "warmup_epochs": 0,
    "autosave_minutes": 0,
    "augmentation": "none",
    "log_every_steps": 2,
}


class PauseAfter(Control):
    """Requests a pause at the nth look between two steps."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks_left = looks

    def ending(self) -> Ending | None:
        self._looks_left -= 1
        return "pause" if self._looks_left < 0 else super().ending()


def run_spec(
    plan: Plan, run_dir: Path, values: Mapping[str, JsonValue], *, dataset: str = SCENES, attempt: int = 1
) -> RunSpec:
    """An attempt of a short run, on the device of the plan."""
    run_dir.mkdir(parents=True, exist_ok=True)
    threads: dict[str, JsonValue] = {} if plan.on_gpu else {"cpu_threads": 1}
    task, _model = network(str(values["model"]))
    config = parse_config({**SHORT_RUN, **threads, "task": task, **values})
    weights_cache_dir = plan.folder / "weights"
    return RunSpec(run_dir, config, plan.folder / dataset, weights_cache_dir, attempt, device=plan.device)


def attempt(spec: RunSpec, control: Control | None = None) -> EndState:
    """One attempt of the real loop. Raises what it raises."""
    events = EventLog(spec.run_dir / EVENTS_FILE, spec.attempt)
    try:
        ended = train(spec, control or Control(), events)
        events.write(Ended(state=ended))
    finally:
        events.close()
    return ended


def newest(run_dir: Path) -> Entry:
    """The newest checkpoint of a run."""
    return read_index(run_dir / "checkpoints")[-1]


def weights_digest(run_dir: Path) -> str:
    """A hash of the weights in the newest checkpoint."""
    return digests(run_dir / "checkpoints" / newest(run_dir).file, ["model_state_dict"])["model_state_dict"]


def resume_verdict(run_dir: Path) -> tuple[str, str]:
    """The verdict of the last resume check of a run, and its reason; "none" where there was none."""
    events = [event for event, _offset in read_events(run_dir / EVENTS_FILE, 0, -1)]
    checks = [event for event in events if isinstance(event, ResumeCheck)]
    return (checks[-1].verdict, checks[-1].reason) if checks else ("none", "")


@dataclass(frozen=True)
class Training:
    """A run at its beginning, for steps outside of the loop."""

    state: TrainingState
    precision: Precision

    def batches(self) -> Iterator[TensorBatch]:
        """The batches of the run, epoch after epoch."""
        return itertools.chain.from_iterable(
            self.state.task.train_batches(epoch, skip=0) for epoch in itertools.count(1)
        )

    def step(self, batches: Iterator[TensorBatch]) -> torch.Tensor:
        """A step of the optimizer; returns its loss."""
        self.state.step_in_epoch = 0  # an epoch never ends here
        return training_step(self.state, batches, self.precision).losses[-1]

    def seconds_per_step(self, batches: Iterator[TensorBatch], measured_s: float) -> float:
        """The mean of as many steps as fit into about `measured_s`, at least two; the first three do not count."""
        for _turn in range(2):
            self.step(batches)
        wait_for(self.precision.device)
        began = time.perf_counter()
        self.step(batches)
        wait_for(self.precision.device)
        count = min(200, max(2, int(measured_s / (time.perf_counter() - began))))
        began = time.perf_counter()
        for _turn in range(count):
            self.step(batches)
        wait_for(self.precision.device)
        return (time.perf_counter() - began) / count


def new_training(plan: Plan, values: Mapping[str, JsonValue], *, dataset: str = SCENES) -> Training:
    """What the loop prepares before the first step, with the same switches of torch."""
    spec = run_spec(plan, plan.folder / "runs" / "steps", values, dataset=dataset)
    device = choose_device(spec.device)
    precision, _warning = choose_precision(device, amp=spec.config.amp, deterministic=spec.config.deterministic)
    cpu_threads = spec.config.cpu_threads or available_threads()
    # Without the probe of the loop: what it looks for is measured here.
    algorithms = Algorithms(deterministic=spec.config.deterministic != "fast")
    prepare_backend(deterministic=algorithms.deterministic, cpu_threads=cpu_threads, tf32=precision.tf32)
    seed_everything(spec.config.seed)
    task = make_task(spec, read_dataset(spec), device)
    model = task.build_model(pretrained=False).train()
    guard_small_convolutions(model, precision)
    return Training(new_state(spec, task, model, precision, algorithms, cpu_threads=cpu_threads), precision)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fresh(plan: Plan) -> None:
    """Free what the last case left, and set torch's switches back."""
    gc.collect()
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")
    if plan.on_gpu and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_megabytes(plan: Plan) -> float | None:
    """The most that tensors have occupied on the GPU since `fresh`."""
    return round(torch.cuda.max_memory_allocated() / MEGABYTE, 1) if plan.on_gpu else None
