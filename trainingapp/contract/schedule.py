"""Learning rate schedules (no torch: pages draw them)."""

import math
from dataclasses import dataclass

from trainingapp.contract.base_config import BaseRunConfig

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START_DIVISOR = 25.0
ONE_CYCLE_END_DIVISOR = 25.0 * 1e4


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every optimizer step, computed from its number alone: there is no state to save.

    `base` is the largest rate; lengths are in optimizer steps.
    """

    name: str
    base: float
    total_steps: int
    warmup_steps: int
    decay_every_steps: int
    decay_factor: float
    first_momentum: float = 0.0

    def momentum_at(self, step: int, last: float) -> float | None:
        """The momentum of step `step`: from `first_momentum` linearly to `last` over the warm-up; None where nothing
        changes it."""
        if not self.first_momentum or self.name == "one-cycle":
            return None
        risen = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.first_momentum + (last - self.first_momentum) * risen

    def lr_at(self, step: int) -> float:
        """The rate of step `step`, from 0. Formulas t = step - warmup, T = total - warmup:

        constant   base
        cosine     base (1 + cos(pi t / T)) / 2             Loshchilov & Hutter, arXiv:1608.03983, without restarts
        linear     base (1 - t / T)
        step       base factor^floor(step / decay_every)    as torch's StepLR
        one-cycle  cosine from base/25 up to base in 0.3 of the run, then cosine down to base/250,000
                   Smith & Topin, arXiv:1708.07120, with torch's OneCycleLR defaults; momentum stays as it is

        All but one-cycle rise before that: base (step + 1) / warmup (Goyal et al., arXiv:1706.02677).
        """
        if self.name == "one-cycle":
            return self._one_cycle(step)
        if step < self.warmup_steps:
            return self.base * (step + 1) / self.warmup_steps
        if self.name == "step":
            return float(self.base * self.decay_factor ** (step // self.decay_every_steps))
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.name == "cosine":
            return self.base * (1 + math.cos(math.pi * done)) / 2
        return self.base * (1 - done) if self.name == "linear" else self.base

    def _one_cycle(self, step: int) -> float:
        start, end = self.base / ONE_CYCLE_START_DIVISOR, self.base / ONE_CYCLE_END_DIVISOR
        top = ONE_CYCLE_RISE * self.total_steps - 1  # the number of the step with the highest rate, as torch counts
        if step <= top:
            return _cosine_between(start, self.base, step / top)
        return _cosine_between(self.base, end, (step - top) / max(1.0, self.total_steps - 1 - top))


def make_schedule(config: BaseRunConfig, steps_per_epoch: int) -> Schedule:
    return Schedule(
        name=config.scheduler,
        base=config.learning_rate,
        total_steps=config.epochs * steps_per_epoch,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        decay_every_steps=config.step_epochs * steps_per_epoch,
        decay_factor=config.step_factor,
        first_momentum=config.warmup_momentum,
    )


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
