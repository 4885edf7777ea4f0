"""The gradients of the batches of a step, added over the ranks.

    exact   in the order of the batches, whichever rank computed them: equal, bit by bit, to one process that
            accumulates them. Each rank adds one part of all gradients: it gets that part of every batch, and gives its
            sums to all.
    fast    each rank accumulates its own batches, and the sums are added in the order that the backend chooses.

All gradients lie in one vector. A gradient that a batch does not have counts as negative zeros there, which are the
identity of addition also for a negative zero; one that no batch has stays None, so that the optimizer skips it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from trainingapp.contract.base_config import ReductionChoice
from trainingapp.engine.ranks import Ranks

#: Each gradient begins at a multiple of so many numbers, as a tensor of its own would lie in memory.
ALIGNMENT = 64


class Reduction(ABC):
    """Adds gradients of `parameters`, which all require them and have one type, over the ranks."""

    def __init__(self, ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._ranks = ranks
        first = self.parameters[0]
        if any(one.dtype != first.dtype for one in self.parameters):
            raise ValueError("the parameters of a network have several types")
        starts, size = [], 0
        for parameter in self.parameters:
            starts.append(size)
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        size = -(-size // (ranks.world * ALIGNMENT)) * ranks.world * ALIGNMENT
        self._vector = torch.empty(size, dtype=first.dtype, device=first.device)
        # With the strides of the parameter: fused optimizers walk through both in the order of the memory, and would
        # silently take a gradient in another order for the one that belongs to a weight.
        self._views = [
            self._vector.as_strided(parameter.shape, _strides(parameter), start)
            for parameter, start in zip(self.parameters, starts, strict=True)
        ]
        #: Whether any batch of the step has the gradient of each parameter; on the CPU, which decides by it.
        self._present = torch.zeros(len(self.parameters), dtype=torch.int32)

    def end_round(self) -> None:  # noqa: B027 - not every reduction has something to do
        """To be called by all ranks when each has taken a batch, or has none left."""

    @abstractmethod
    def finish(self) -> None:
        """Give every parameter the sum over all ranks as its gradient."""

    def _take(self) -> None:
        """Move the gradients of the parameters into the vector."""
        self._vector.fill_(-0.0)
        grads = [parameter.grad for parameter in self.parameters]
        views = [view for view, grad in zip(self._views, grads, strict=True) if grad is not None]
        if views:
            torch._foreach_copy_(views, [grad for grad in grads if grad is not None])
        self._present |= torch.tensor([grad is not None for grad in grads], dtype=torch.int32)
        for parameter in self.parameters:
            parameter.grad = None

    def _give(self) -> None:
        """Let the parameters have the gradients in the vector."""
        self._ranks.add(self._present)
        for parameter, view, count in zip(self.parameters, self._views, self._present.tolist(), strict=True):
            parameter.grad = view if count else None
        self._present.zero_()


class ExactReduction(Reduction):
    """In the order of the batches."""

    def __init__(self, ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(ranks, parameters)
        self._received = torch.empty_like(self._vector)
        self._sums = self._vector.new_full((len(self._vector) // ranks.world,), -0.0)

    def end_round(self) -> None:
        self._take()
        self._ranks.exchange(self._received, self._vector)
        for part in self._received.view(self._ranks.world, -1):
            self._sums += part

    def finish(self) -> None:
        self._ranks.gather_into(self._vector, self._sums)
        self._sums.fill_(-0.0)
        self._give()


class FastReduction(Reduction):
    """In any order, with one operation for a step."""

    def finish(self) -> None:
        self._take()
        self._ranks.add(self._vector)
        self._give()


REDUCTIONS: dict[ReductionChoice, type[Reduction]] = {"exact": ExactReduction, "fast": FastReduction}


def _strides(parameter: torch.Tensor) -> tuple[int, ...]:
    """Those of the parameter where it fills its memory, as gradients of autograd have them; else those of a contiguous
    tensor."""
    last = sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
    return parameter.stride() if last + 1 == parameter.numel() else parameter.contiguous().stride()
