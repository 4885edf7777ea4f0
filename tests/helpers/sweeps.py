"""Sweeps whose trials are played instead of trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tests.helpers.world import store_events

if TYPE_CHECKING:
    from trainingapp.models import Sweep, TrainingRun

#: The space of the tests: the learning rate decides.
SPACE = {"dimensions": [{"kind": "range", "field": "learning_rate", "low": 1e-4, "high": 1e-1, "log": True}]}


def make_sweep(owner: Any, dataset: Any, *, start: bool = True, config: Any = None, **fields: Any) -> Sweep:
    """A sweep over the learning rate, running unless `start` is false."""
    from trainingapp.contract.config import parse_config
    from trainingapp.runs.sweeps.space import SearchSpace
    from trainingapp.runs.sweeps.verbs import create_sweep, start_sweep

    space = SearchSpace.model_validate(fields.pop("space", SPACE))
    values = {"name": "search", "sampler": "random", "max_trials": 5, **fields}
    base = parse_config({"epochs": 9, "device": "cpu", **(config or {})})
    sweep = create_sweep(owner=owner, dataset=dataset, config=base, space=space, **values)
    return start_sweep(sweep) if start else sweep


def quality(run: TrainingRun, epoch: int) -> float:
    """What the trainer of the run would measure after this epoch: best at a learning rate of 0.01."""
    distance = abs(math.log10(run.config["learning_rate"]) + 2)
    return round((1 - distance / 3) * epoch / (epoch + 2), 6)


def measure(run: TrainingRun, epoch: int, value: float | None = None) -> None:
    """Store the validation of an epoch as a supervisor does."""
    value = quality(run, epoch) if value is None else value
    data = {"split": "val", "values": {"top1": value}}
    store_events(run, {"type": "metrics", "epoch": epoch, "step": epoch, "data": data})
    run.refresh_from_db()
    if run.best_metric is None or value > run.best_metric:
        run.best_metric, run.best_metric_name, run.best_epoch = value, "top1", epoch
    run.epoch, run.elapsed_s = epoch, 60.0 * epoch
    run.save(update_fields=["best_metric", "best_metric_name", "best_epoch", "epoch", "elapsed_s"])


def begin(run: TrainingRun) -> None:
    """A worker claims the run."""
    run.transition("running", attempt=run.attempt + 1, worker="here:1:1", host="here")


def train(run: TrainingRun, status: str = "completed") -> None:
    """Claim the run, measure its epochs, and let it end."""
    begin(run)
    for epoch in (1, 2, 3):
        measure(run, epoch)
    run.transition(status)
