"""Optimizers and learning rate schedules."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from trainingapp.engine.configs.base import BaseRunConfig

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START_DIVISOR = 25.0
ONE_CYCLE_END_DIVISOR = 25.0 * 1e4


def make_optimizer(
    model: nn.Module, config: BaseRunConfig, head_prefixes: tuple[str, ...] = ()
) -> torch.optim.Optimizer:
    """The optimizer that the config names; weight decay for weights only, not for biases and norms.

    `head_prefixes` begin the names of the parameters that are no backbone; see `backbone_lr_factor`. fused: one pass
    over each tensor, on CPUs and GPUs alike.
    """
    groups = list(_parameter_groups(model, config, head_prefixes))
    rate, momentum = config.learning_rate, config.momentum
    match config.optimizer:
        case "SGD":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
        case "Adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        case "AdamW":
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        case "RMSprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)


def _parameter_groups(
    model: nn.Module, config: BaseRunConfig, head_prefixes: tuple[str, ...]
) -> Iterator[dict[str, object]]:
    """Two groups by decay; four, by place as well, where the backbone has a rate of its own.

    Frozen parameters are among them: they get no gradient, so nothing is done to them, until they are set free.
    """
    exempt = {id(parameter) for parameter in _without_decay(model)}
    named = list(model.named_parameters())
    places: list[tuple[float, list[nn.Parameter]]] = [(1.0, [parameter for _name, parameter in named])]
    if config.backbone_lr_factor != 1:
        head = [parameter for name, parameter in named if name.startswith(head_prefixes)]
        rest = [parameter for name, parameter in named if not name.startswith(head_prefixes)]
        places = [(1.0, head), (config.backbone_lr_factor, rest)]
    for factor, parameters in places:
        kept = {"lr_factor": factor}
        yield {"params": [p for p in parameters if id(p) not in exempt], "weight_decay": config.weight_decay, **kept}
        yield {"params": [p for p in parameters if id(p) in exempt], "weight_decay": 0.0, **kept}


def _without_decay(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, NORMS) or name.endswith("bias") or parameter.ndim <= 1:
                yield parameter


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)


def clip_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, longest: float
) -> None:
    """Shorten the gradients, taken together as one vector, to a norm of `longest` (Pascanu et al., arXiv:1211.5063).

    0 leaves them as they are.
    """
    if longest > 0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), longest)


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
    )


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
