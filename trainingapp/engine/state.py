"""Everything that a checkpoint holds and a resumed run needs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import nn

from trainingapp.contract.config import RunConfig
from trainingapp.contract.errors import BadConfig
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    CHECKPOINT_MISMATCH,
    EPOCHS_CHANGED,
    OTHER_DATASET,
    PATIENCE_RENEWED,
    STEPS_PER_EPOCH_CHANGED,
)
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.schedule import Schedule, make_schedule
from trainingapp.contract.tasks.registry import METRICS
from trainingapp.engine.checkpoint_content import CheckpointContent
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms, recorded
from trainingapp.engine.device import Precision
from trainingapp.engine.ema import Ema
from trainingapp.engine.optim import make_optimizer
from trainingapp.engine.ranks import Ranks
from trainingapp.engine.seeding import derived_seed, rng_state, seed_device, set_rng_state
from trainingapp.engine.tasks.task import Meter, Task

FORMAT = 1


@dataclass
class Best:
    """The best validation result so far by the model-selection metric; of equal results the earlier."""

    value: float | None = None
    epoch: int = 0

    def beaten_by(self, value: float, *, higher_is_better: bool) -> bool:
        if self.value is None:
            return True
        return value > self.value if higher_is_better else value < self.value


@dataclass(frozen=True)
class Position:
    """Where a run is: `epoch` counts from 1, `step_in_epoch` the optimizer steps done in it.

    When `step_in_epoch` equals the steps of an epoch, its validation is due; `validated` is true once it is done.
    """

    epoch: int = 1
    step_in_epoch: int = 0
    validated: bool = False

    @classmethod
    def of(cls, content: CheckpointContent, steps_per_epoch: int) -> "Position":
        """The position of a checkpoint; scaled, rounding down, where the number of steps per epoch has changed."""
        steps = int(content["step_in_epoch"]) * steps_per_epoch // int(content["steps_per_epoch"])
        return cls(content["epoch"], steps, content["validated"])

    def is_validation_due(self, steps_per_epoch: int) -> bool:
        """Whether the epoch is trained but not validated."""
        return self.step_in_epoch >= steps_per_epoch and not self.validated

    def step(self, steps_per_epoch: int) -> int:
        """Optimizer steps since the start of the run."""
        return (self.epoch - 1) * steps_per_epoch + self.step_in_epoch


class SharedGradients(Protocol):
    """How the ranks compute the gradients of a step together: see `SharedSteps.gradients`."""

    def __call__(
        self,
        state: "TrainingState",
        batches: Iterator[TensorBatch],
        precision: Precision,
        seen: Callable[[TensorBatch], None],
    ) -> list[torch.Tensor]: ...


@dataclass
class TrainingState:
    """A run in the trainer's memory; see `Position` for where it is."""

    config: RunConfig
    task: Task
    model: nn.Module
    head_prefixes: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    meter: Meter
    precision: Precision
    algorithms: Algorithms
    attempt: int
    cpu_threads: int
    ema: Ema | None = None
    epoch: int = 1
    step_in_epoch: int = 0
    validated: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    is_best: bool = False
    #: Of each class, from the last validation, where an image can have several labels.
    thresholds: list[float] | None = None
    best: Best = field(default_factory=Best)
    #: The epoch from which early stopping counts, where that is after the best one.
    patience_from: int = 0
    earlier_elapsed_s: float = 0.0
    started: float = field(default_factory=time.monotonic)
    #: Whether random numbers of the model, such as those of dropout, depend on (seed, epoch, batch number) alone. Runs
    #: that began before version 0.2 draw them from one generator after the other: they keep to one rank.
    seeds_batches: bool = True
    ranks: Ranks = field(default_factory=Ranks)
    #: None with one rank.
    shared_gradients: SharedGradients | None = None

    @property
    def device(self) -> torch.device:
        return self.precision.device

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last may have fewer batches than the others."""
        return steps_per_epoch(self.task, self.config)

    @property
    def batches_done(self) -> int:
        """Batches of this epoch that the optimizer has seen."""
        return min(self.task.batch_count, self.step_in_epoch * self.config.accumulation_steps)

    @property
    def batches_in_step(self) -> int:
        """Batches of the step to come."""
        return min(self.config.accumulation_steps, self.task.batch_count - self.batches_done)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that validation uses: the EMA where there is one."""
        return self.ema.model if self.ema else self.model

    @property
    def step(self) -> int:
        """Optimizer steps since the start of the run."""
        return Position(self.epoch, self.step_in_epoch).step(self.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def elapsed_s(self) -> float:
        """Seconds that trainers have spent on the run."""
        return self.earlier_elapsed_s + time.monotonic() - self.started

    @property
    def validation_due(self) -> bool:
        """Whether the epoch is trained but not validated."""
        return Position(self.epoch, self.step_in_epoch, self.validated).is_validation_due(self.steps_per_epoch)

    @property
    def epochs_done(self) -> int:
        return self.epoch if self.validated else self.epoch - 1

    @property
    def stops_early(self) -> bool:
        patience, since = self.config.early_stopping_epochs, max(self.best.epoch, self.patience_from)
        return patience > 0 and self.best.epoch > 0 and self.epochs_done - since >= patience

    @property
    def finished(self) -> bool:
        return self.epochs_done >= self.config.epochs or self.stops_early

    def change_epochs(self, config: RunConfig) -> list[Message]:
        """Continue with `config`, which has another number of epochs; returns what that means.

        The learning rate is that of the schedule for the new length at the step reached. Where early stopping has ended
        the run, or would end it here, its patience starts again: the user requested more epochs.
        """
        epochs_then, stops_early = self.config.epochs, self.stops_early
        self.config, self.schedule = config, make_schedule(config, self.steps_per_epoch)
        self.task.change_epochs(config.epochs)
        lines = [EPOCHS_CHANGED(epochs=config.epochs, before=epochs_then, step=self.step)]
        return lines + (self._renew_patience() if config.epochs > epochs_then and stops_early else [])

    def _renew_patience(self) -> list[Message]:
        self.patience_from = self.epochs_done
        return [PATIENCE_RENEWED(epoch=self.epochs_done)]

    def seed_batch(self, number: int) -> None:
        """To be called before the model computes batch `number` of the epoch, whichever rank does."""
        if self.seeds_batches:
            seed_device(derived_seed(self.config.seed, "model", self.epoch, number), self.device)

    def begin_epoch(self) -> None:
        """Go to the first epoch that is not done."""
        if self.validated:
            self.epoch, self.step_in_epoch, self.validated = self.epoch + 1, 0, False
            self.metrics, self.is_best = {}, False

    def end_epoch(self, found: Evaluation) -> None:
        """Note the validation of this epoch."""
        name = self.config.best_metric
        value, higher_is_better = found.values[name], METRICS[name].higher_is_better
        self.validated, self.metrics, self.thresholds = True, found.values, found.thresholds
        self.is_best = self.best.beaten_by(value, higher_is_better=higher_is_better)
        if self.is_best:
            self.best = Best(value, self.epoch)

    def checkpoint_content(self) -> CheckpointContent:
        """What a checkpoint file holds: plain values and tensors, which torch.load(weights_only=True) takes."""
        about = self.task.description()
        self.seed_batch(self.batches_done)  # what the generators hold does not depend on what this rank computed
        next_lr = self.schedule.lr_at(min(self.step, self.total_steps - 1))
        content: CheckpointContent = {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            "step_in_epoch": self.step_in_epoch,
            "steps_per_epoch": self.steps_per_epoch,
            "validated": self.validated,
            "model_state_dict": dict(self.model.state_dict()),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": {"name": self.schedule.name, "step": self.step, "next_lr": next_lr},
            "scaler_state_dict": self.scaler.state_dict(),
            "meter_state_dict": self.meter.state_dict(),
            "rng_state": rng_state(self.device),
            "metrics": dict(self.metrics),
            "is_best": self.is_best,
            "best": {"value": self.best.value, "epoch": self.best.epoch},
            "patience_from": self.patience_from,
            "timestamp": time.time(),
            "elapsed_s": self.elapsed_s,
            "attempt": self.attempt,
            "cpu_threads": self.cpu_threads,
            "algorithms": recorded(self.algorithms, self.device),
            "precision": self.precision.name,
            "config": self.config.model_dump(mode="json"),
            "classes": about["classes"],
            "dataset_fingerprint": about["dataset_fingerprint"],
            "normalisation": about["normalisation"],
        }
        if self.seeds_batches:
            content["batch_seeds"] = True
        if "conversion" in about:
            content["conversion"] = about["conversion"]
        if "computation" in about:
            content["computation"] = about["computation"]
        if self.ema:
            content["ema_state_dict"] = dict(self.ema.model.state_dict())
        if self.thresholds is not None:
            content["thresholds"] = list(self.thresholds)
        return content

    def restore(self, content: CheckpointContent) -> list[Message]:
        """Go back to what a checkpoint holds; returns warnings. Raises BadConfig where it is of another model."""
        try:
            self.model.load_state_dict(content["model_state_dict"])
            self.optimizer.load_state_dict(content["optimizer_state_dict"])
            if self.ema:
                self.ema.model.load_state_dict(content.get("ema_state_dict") or content["model_state_dict"])
        except (RuntimeError, ValueError) as error:
            raise BadConfig(CHECKPOINT_MISMATCH(error=str(error))) from error
        self.task.normalise_as(content["normalisation"])
        self.meter.load_state_dict(content["meter_state_dict"])
        if content["scaler_state_dict"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler_state_dict"])
        position = Position.of(content, self.steps_per_epoch)
        self.epoch, self.step_in_epoch, self.validated = position.epoch, position.step_in_epoch, position.validated
        self.metrics, self.is_best = content["metrics"], content["is_best"]
        self.best = Best(**content["best"])
        self.thresholds = content.get("thresholds")
        self.patience_from = content.get("patience_from", 0)
        self.seeds_batches = content.get("batch_seeds", False)
        self.earlier_elapsed_s = content["elapsed_s"]
        # After everything that may draw random numbers, so that the next step draws what it would have drawn.
        set_rng_state(content["rng_state"], self.device)
        warnings: list[Message] = []
        steps, steps_then = self.steps_per_epoch, content["steps_per_epoch"]
        if steps != steps_then:
            warnings.append(STEPS_PER_EPOCH_CHANGED(steps=steps, before=steps_then))
        if content["dataset_fingerprint"] != self.task.description()["dataset_fingerprint"]:
            warnings.append(OTHER_DATASET())
        return warnings

    def extension_since(self, content: CheckpointContent) -> list[Message]:
        """The consequences of a number of epochs that differs from the checkpoint's; empty where it is the same."""
        epochs_then = cast(int, content["config"]["epochs"])
        if self.config.epochs == epochs_then:
            return []
        lines = [EPOCHS_CHANGED(epochs=self.config.epochs, before=epochs_then, step=self.step)]
        return lines + (self._renew_patience() if self.config.epochs > epochs_then and self.stops_early else [])


def new_state(
    spec: RunSpec, task: Task, model: nn.Module, precision: Precision, algorithms: Algorithms, *, cpu_threads: int
) -> TrainingState:
    """A run at its very beginning."""
    config, head_prefixes = spec.config, task.head_prefixes(model)
    return TrainingState(
        config=config,
        task=task,
        model=model,
        head_prefixes=head_prefixes,
        optimizer=make_optimizer(model, config, head_prefixes),
        schedule=make_schedule(config, steps_per_epoch(task, config)),
        ema=Ema(model, config.ema_decay) if config.ema_decay else None,
        scaler=precision.scaler(),
        meter=task.training_meter(),
        precision=precision,
        algorithms=algorithms,
        attempt=spec.attempt,
        cpu_threads=cpu_threads,
    )


def steps_per_epoch(task: Task, config: RunConfig) -> int:
    """Optimizer steps in an epoch: each takes `accumulation_steps` batches, the last may take fewer."""
    return -(-task.batch_count // config.accumulation_steps)
