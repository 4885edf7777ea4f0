"""Which trials are stopped before their last epoch, as a pure function of what the trials have measured.

A pruned trial is a stopped run: it can be resumed, and then ends as if it had never been stopped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pydantic import JsonValue

from trainingapp.models.sweep import Origin, Pruner, TrialState
from trainingapp.runs.sweeps.sampling import TrialRow

#: Completed trials before the median says something.
MEDIAN_STARTUP = 5
#: Hyperband keeps the best third at each rung, and its rungs are this factor apart.
REDUCTION = 3
#: Share of the epochs that no trial is pruned in, beyond the warm-up of its schedule.
WARMUP_SHARE = 0.1


@dataclass(frozen=True)
class Pruning:
    """How a sweep prunes: `epochs` that a trial trains, and `warmup` epochs in which it is left alone."""

    pruner: str
    epochs: int
    warmup: int
    higher_is_better: bool

    @classmethod
    def of(cls, pruner: str, config: Mapping[str, JsonValue], *, higher_is_better: bool) -> "Pruning":
        epochs = int(str(config["epochs"]))
        schedule = math.ceil(float(str(config.get("warmup_epochs", 0) or 0)))
        return cls(pruner, epochs, schedule + max(1, round(epochs * WARMUP_SHARE)), higher_is_better)

    def best(self, values: Iterable[float]) -> float:
        return max(values) if self.higher_is_better else min(values)

    def is_worse(self, value: float, other: float) -> bool:
        return value < other if self.higher_is_better else value > other


def is_hopeless(row: TrialRow, rows: Sequence[TrialRow], pruning: Pruning) -> bool:
    """Whether the trial should be stopped at the newest epoch that it has a validation of.

    Each epoch is judged once, when it is new: what others reach later is not held against a trial. The trial of the
    base configuration is never stopped: the others are compared with it.
    """
    epoch = max(row.curve, default=0)
    is_settled = row.state != TrialState.RUNNING or row.origin == Origin.BASE
    if is_settled or epoch <= row.judged_epoch or epoch >= pruning.epochs:
        return False
    if pruning.pruner == Pruner.MEDIAN:
        return _below_the_median(row, rows, epoch, pruning)
    if pruning.pruner == Pruner.HYPERBAND:
        return _out_of_its_rung(row, rows, epoch, pruning)
    return False


def _below_the_median(row: TrialRow, rows: Sequence[TrialRow], epoch: int, pruning: Pruning) -> bool:
    """Whether its best value so far is worse than the median of the completed trials at this epoch."""
    if epoch <= pruning.warmup:
        return False
    complete = [other for other in rows if other.state == TrialState.COMPLETED and other.number != row.number]
    known = [other.curve[epoch] for other in complete if epoch in other.curve]
    if len(complete) < MEDIAN_STARTUP or not known:
        return False
    return pruning.is_worse(pruning.best(row.curve.values()), median(known))


def rungs_of(number: int, pruning: Pruning) -> list[int]:
    """The epochs at which Hyperband compares the trial of this number with others of its bracket."""
    bracket, first = number % brackets(pruning), pruning.warmup
    found: list[int] = []
    while (epoch := first * REDUCTION ** (bracket + len(found))) < pruning.epochs:
        found.append(epoch)
    return found


def brackets(pruning: Pruning) -> int:
    """The brackets that trials are dealt out to in turn: later ones compare later, so that a slow start is no loss."""
    return 1 + max(0, math.floor(math.log(max(1.0, pruning.epochs / pruning.warmup), REDUCTION) + 1e-9))


def _out_of_its_rung(row: TrialRow, rows: Sequence[TrialRow], epoch: int, pruning: Pruning) -> bool:
    """Whether it is not among the best third of the trials of its bracket that have reached its newest rung."""
    passed = [rung for rung in rungs_of(row.number, pruning) if row.judged_epoch < rung <= epoch]
    if not passed:
        return False
    rung, bracket = passed[-1], row.number % brackets(pruning)
    peers = [
        other for other in rows if other.number % brackets(pruning) == bracket and max(other.curve, default=0) >= rung
    ]
    reached = {other.number: _best_until(other, rung, pruning) for other in (*peers, row)}
    known = sorted((value for value in reached.values() if value is not None), reverse=pruning.higher_is_better)
    own = reached[row.number]
    if own is None or not known:
        return False
    # With fewer than three the best one continues, as no third exists.
    return pruning.is_worse(own, known[max(0, len(known) // REDUCTION - 1)])


def _best_until(row: TrialRow, epoch: int, pruning: Pruning) -> float | None:
    values = [value for at, value in row.curve.items() if at <= epoch]
    return pruning.best(values) if values else None
