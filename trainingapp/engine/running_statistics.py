"""The running statistics of batch norms, whose updates by the batches of a step are made again in their order.

On several ranks each sees some of the batches only. While a step computes, a norm therefore records the statistics of
one batch alone (its momentum is 1), and afterwards every rank makes the updates of all batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def _separately(running: torch.Tensor, found: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return new * found + old * running


def _new_fused(running: torch.Tensor, found: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return _sum_rounded_once(new.double() * found.double(), (old * running).double())


def _old_fused(running: torch.Tensor, found: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return _sum_rounded_once(old.double() * running.double(), (new * found).double())


def _step(running: torch.Tensor, found: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return running + new * (found - running)


def _step_fused(running: torch.Tensor, found: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return _sum_rounded_once(new.double() * (found - running).double(), running.double())


#: The running statistics after a batch, as kernels may round them: `new` and `old` are momentum and 1 - momentum, all
#: float32 [S]. Compilers fuse a multiplication and an addition or not, so a kernel has to be tried.
Sum = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
SUMS: tuple[Sum, ...] = (_separately, _new_fused, _old_fused, _step, _step_fused)

TRIED_SHAPES = ((4, 64, 16, 16), (2, 96, 5, 7), (8, 256, 1, 1))
TRIED_MOMENTA = (0.1, 0.01, 1 / 3)


@dataclass(frozen=True)
class Formula:
    """A sum, and whether 1 - momentum is computed from the momentum that is rounded to float32."""

    sum: Sum = _separately
    is_rounded_first: bool = False

    def __call__(self, running: torch.Tensor, found: torch.Tensor, momentum: torch.Tensor) -> torch.Tensor:
        """All are [S], `momentum` in float64."""
        new = momentum.to(running.dtype)
        return self.sum(running, found, new, 1 - new if self.is_rounded_first else (1 - momentum).to(running.dtype))


FORMULAS = tuple(Formula(sum_, is_first) for sum_ in SUMS for is_first in (False, True))


@dataclass(frozen=True)
class Rounding:
    """By which formulas the kernels of a device compute the two running statistics; `is_known` where one was found."""

    mean: Formula = FORMULAS[0]
    variance: Formula = FORMULAS[0]
    is_known: bool = True

    def as_data(self) -> list[int]:
        """Numbers for `from_data`."""
        return [FORMULAS.index(self.mean), FORMULAS.index(self.variance), int(self.is_known)]

    @classmethod
    def from_data(cls, numbers: list[int]) -> Self:
        mean, variance, is_known = numbers
        return cls(FORMULAS[mean], FORMULAS[variance], bool(is_known))

    @classmethod
    def that_fits(cls, fits: Callable[[Formula, int], bool]) -> Self:
        """The formulas that fit: the first argument of `fits` is one, the second is 0 for means, 1 for variances."""
        mean, variance = (next((one for one in FORMULAS if fits(one, place)), None) for place in (0, 1))
        return cls(mean or FORMULAS[0], variance or FORMULAS[0], is_known=bool(mean and variance))


def rounding_of(device: torch.device, dtype: torch.dtype | None, memory_format: torch.memory_format) -> Rounding:
    """Find the formulas that give what the kernels for images of this type and format give, bit by bit."""
    generator = torch.Generator().manual_seed(0)
    tried = []
    for shape in TRIED_SHAPES:
        for momentum in TRIED_MOMENTA:
            batches = [torch.randn(shape, generator=generator) * 3 + 0.7 for _ in range(4)]
            tried.append(_Trial.of([one.to(device, dtype, memory_format=memory_format) for one in batches], momentum))
    return Rounding.that_fits(lambda formula, place: all(trial.fits(formula, place) for trial in tried))


def rounding_within(model: nn.Module, compute: Callable[[], object]) -> Rounding:
    """Find the formulas by which a network in training mode updates its norms where `compute` has it compute a batch.

    For kernels that a compiler made for this network. `compute` computes the same batch each time; the statistics are
    changed.
    """
    norms = _norms_of(model)
    buffers = _statistics_of(norms)

    def begin() -> None:
        generator = torch.Generator().manual_seed(0)
        for buffer in buffers:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        for norm in norms:
            _tensor(norm.num_batches_tracked).fill_(1)

    begin()
    compute()
    updated = [buffer.clone() for buffer in buffers]
    begin()
    with RunningStatistics(model, Rounding()) as statistics:
        compute()
        taken = statistics.taken()

    def fits(formula: Formula, place: int) -> bool:
        begin()
        with RunningStatistics(model, Rounding(formula, formula)) as statistics:
            statistics.replay(taken.unsqueeze(0))
        part = slice(place * len(norms), (place + 1) * len(norms))
        return all(map(torch.equal, buffers[part], updated[part]))

    return Rounding.that_fits(fits)


@dataclass(frozen=True)
class _Trial:
    """What a norm made of some batches, and the statistics of each: pairs of mean and variance, float32 [C]."""

    momentum: float
    result: tuple[torch.Tensor, torch.Tensor]
    batches: list[tuple[torch.Tensor, torch.Tensor]]

    @classmethod
    def of(cls, batches_NCHW: list[torch.Tensor], momentum: float) -> "_Trial":
        def norm(momentum: float, variance: float) -> nn.BatchNorm2d:
            made = nn.BatchNorm2d(batches_NCHW[0].shape[1], momentum=momentum, device=batches_NCHW[0].device)
            torch.nn.init.constant_(_tensor(made.running_var), variance)
            return made

        whole, parts = norm(momentum, 1.0), []
        for batch in batches_NCHW:
            alone = norm(1.0, 0.0)
            for each in (whole, alone):
                each(batch)
            parts.append((_tensor(alone.running_mean), _tensor(alone.running_var)))
        return cls(momentum, (_tensor(whole.running_mean), _tensor(whole.running_var)), parts)

    def fits(self, formula: Formula, place: int) -> bool:
        """Whether the formula gives the mean (place 0) or the variance (place 1)."""
        running = torch.full_like(self.result[place], float(place))
        momentum = torch.full_like(running, self.momentum, dtype=torch.float64)
        for batch in self.batches:
            running = formula(running, batch[place], momentum)
        return torch.equal(running, self.result[place])


def _sum_rounded_once(product: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
    """float32: the sum of two float64 numbers, rounded once, as a fused operation does.

    The sum in float64 is rounded to odd first (Boldo and Melquiond, 2008), so that the second rounding does no harm.
    """
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(torch.int64)
    away = torch.where((error > 0) == (total > 0), 1, -1)
    odd = torch.where((error != 0) & (bits & 1 == 0), bits + away, bits)
    return odd.view(torch.float64).float()


class RunningStatistics:
    """Of the norms of `model` that are in training mode. To be used as a context around the batches of one step."""

    def __init__(self, model: nn.Module, rounding: Rounding) -> None:
        self._rounding = rounding
        self._norms = _norms_of(model)
        self._momenta = [one.momentum for one in self._norms]
        self._buffers = _statistics_of(self._norms)
        self._device = next(model.parameters()).device
        self._calls = [_tensor(one.num_batches_tracked) for one in self._norms]

    @property
    def norm_count(self) -> int:
        return len(self._norms)

    @property
    def width(self) -> int:
        """Numbers that `taken` gives."""
        return sum(map(len, self._buffers)) + self.norm_count

    def __enter__(self) -> Self:
        if self._norms:
            self._before_S = torch.cat(self._buffers)
            self._calls_before_M = torch.stack(self._calls)
            for norm in self._norms:
                norm.momentum = 1.0
            self._clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for norm, momentum in zip(self._norms, self._momenta, strict=True):
            norm.momentum = momentum

    def _clear(self) -> None:
        # Zeros, so that momentum 1 gives the new statistics without a rounding, whichever formula a kernel uses.
        torch._foreach_zero_(self._buffers)
        torch._foreach_zero_(self._calls)

    def taken(self) -> torch.Tensor:
        """float64 [S + M]: the S statistics of the batch just computed, and how often each of M norms was called."""
        if not self._norms:
            return torch.empty(0, dtype=torch.float64, device=self._device)
        taken = torch.cat([torch.cat(self._buffers).double(), torch.stack(self._calls).double()])
        self._clear()
        return taken

    def replay(self, batches_BS: torch.Tensor) -> None:
        """Make the updates of B batches, of which each row is what `taken` gave, in their order."""
        if not self._norms:
            return
        device, count = batches_BS.device, len(self._norms)
        sizes = [len(buffer) for buffer in self._buffers]
        norm_S = torch.arange(count, device=device).repeat(2)
        norm_S = norm_S.repeat_interleave(torch.tensor(sizes, device=device), output_size=sum(sizes))
        # Without a momentum a norm keeps the mean over all batches.
        momentum_M = torch.tensor(
            [float("nan") if momentum is None else momentum for momentum in self._momenta],
            dtype=torch.float64,
            device=device,
        )
        running_S, calls_M = self._before_S, self._calls_before_M
        for row in batches_BS:
            found_S, called_M = row[: len(running_S)], row[len(running_S) :]
            calls_M = calls_M + called_M.long()
            factor_S = momentum_M.where(~momentum_M.isnan(), 1 / calls_M.double())[norm_S]
            updated_S = self._updated(running_S, found_S.to(running_S.dtype), factor_S)
            running_S = updated_S.where(called_M[norm_S] > 0, running_S)
        torch._foreach_copy_(self._buffers, list(running_S.split(sizes)))
        torch._foreach_copy_(self._calls, list(calls_M.unbind()))

    def _updated(self, running_S: torch.Tensor, found_S: torch.Tensor, factor_S: torch.Tensor) -> torch.Tensor:
        """Running statistics after a batch with the statistics `found_S`: the means first, then the variances."""
        half = len(running_S) // 2
        means, variances = (
            [part[half:] if late else part[:half] for part in (running_S, found_S, factor_S)] for late in (False, True)
        )
        return torch.cat([self._rounding.mean(*means), self._rounding.variance(*variances)])


def _norms_of(model: nn.Module) -> list[_BatchNorm]:
    """The norms that update running statistics in the mode that the model is in."""
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.training]
    return [one for one in norms if one.track_running_stats and one.running_mean is not None]


def _statistics_of(norms: list[_BatchNorm]) -> list[torch.Tensor]:
    """The means of all norms, then their variances."""
    return [*(_tensor(one.running_mean) for one in norms), *(_tensor(one.running_var) for one in norms)]


def _tensor(buffer: torch.Tensor | None) -> torch.Tensor:
    assert buffer is not None, "a norm that tracks statistics has buffers"
    return buffer
