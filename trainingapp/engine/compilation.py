"""torch.compile for a run: kernels made for its network, or the reason why there are none.

Each shape of a batch gets code of its own (`dynamic=False`): with code for any size, what a step computes would depend
on the sizes that came before it, and an attempt that resumes within an epoch sees others.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainingapp.contract.errors import is_out_of_memory
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.ranks import RANK_NOT_COMPILED
from trainingapp.contract.messages.training import NOT_COMPILED
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.seeding import rng_state, set_rng_state
from trainingapp.engine.state import TrainingState

#: Shapes and modes for which code is made: full and last batches of training and validation, frozen or not.
MOST_VARIANTS = 64

logger = logging.getLogger(__name__)


def compile_network(state: TrainingState) -> Message | None:
    """Compile the network of a run whose configuration says so; returns why it trains without, if it does.

    Whether it works is found with one batch, which leaves weights, averages and random numbers as they were. All ranks
    train with it, or none: gradients that are added must come from the same kernels. Raises PeerLost.
    """
    if not getattr(state.config, "compile", False):
        return None
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    # A part that fails later, such as that of the validation, computes without; the first step decides for the rest.
    torch._dynamo.config.suppress_errors = False
    # Of several kernels with the same result but for rounding, it is not the clock that chooses.
    torch._inductor.config.deterministic = state.algorithms.deterministic
    state.model.compile(dynamic=False)
    reason = _try(state)
    torch._dynamo.config.suppress_errors = True
    if state.ranks.agree(reason is None):
        return None
    state.model._compiled_call_impl = None  # undoes `compile`
    torch._dynamo.reset()
    return NOT_COMPILED(reason=reason or RANK_NOT_COMPILED())


def is_compiled(model: nn.Module) -> bool:
    return model._compiled_call_impl is not None


def first_loss(state: TrainingState) -> Callable[[], torch.Tensor] | None:
    """Computes the loss of the first batch of this rank, each time the same; None where it has none in this epoch."""
    batch = next(state.task.train_batches(state.epoch, skip=0), None)
    if batch is None:
        return None
    randomness = rng_state(state.device)

    def compute() -> torch.Tensor:
        set_rng_state(randomness, state.device)
        with state.precision.autocast():
            return state.task.loss(state.model, batch, state.task.training_meter())

    return compute


def _try(state: TrainingState) -> str | None:
    """Why one batch cannot be computed with the compiled network; None where it can."""
    set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
    try:
        with unchanged(state):
            if loss := first_loss(state):
                loss().backward()
    except Exception as error:
        if is_out_of_memory(error) or not _is_of_compiler(error):
            raise
        logger.warning("The network could not be compiled.", exc_info=error)
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return None


@contextmanager
def unchanged(state: TrainingState) -> Iterator[None]:
    """Within, batches may be computed: no gradients are left, and averages and random numbers are as before."""
    randomness = rng_state(state.device)
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    try:
        yield
    finally:
        state.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in state.model.named_buffers():
                buffer.copy_(buffers[name])
        set_rng_state(randomness, state.device)


def _is_of_compiler(error: Exception) -> bool:
    """Whether the error, or what caused it, comes from torch's compiler or from a program that it calls."""
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.startswith(("torch._inductor", "torch._dynamo", "triton")):
            return True
        found = found.__cause__ or found.__context__
    return False
