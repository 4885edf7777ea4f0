"""The gradients of the batches of a step, shared among the ranks.

Rank r computes the batches r, r + W, ... of the step. What a batch leaves besides gradients (its loss, the sums of its
meter, the statistics of its batch norms) is gathered and added in the order of the batches, as one process would.
"""

import json
import time
from collections.abc import Iterator

import torch

from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.ranks import NORM_CALLED_AGAIN, STATISTICS_ROUNDED
from trainingapp.engine.compilation import first_loss, is_compiled, unchanged
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.device import Precision, memory_format_of
from trainingapp.engine.freezing import set_training
from trainingapp.engine.gradients import Seen, backward
from trainingapp.engine.ranks import Ranks, Word
from trainingapp.engine.reduction import REDUCTIONS, Reduction
from trainingapp.engine.running_statistics import Rounding, RunningStatistics, rounding_of, rounding_within
from trainingapp.engine.state import TrainingState
from trainingapp.engine.tasks.task import Meter


class SharedSteps:
    """What the steps of an attempt on several ranks keep from one to the next."""

    def __init__(self, ranks: Ranks, rounding: Rounding) -> None:
        self._ranks, self._rounding = ranks, rounding
        self._reduction: Reduction | None = None
        self._norms_checked = False

    def gradients(
        self, state: TrainingState, batches: Iterator[TensorBatch], precision: Precision, seen: Seen
    ) -> list[torch.Tensor]:
        """The gradients of the next step, on every rank; returns the losses of all its batches.

        `batches` are those of this rank, `seen` is called with each. Raises PeerLost, and BadConfig for a network that
        calls a batch norm several times: the order of its updates is then not known.
        """
        ranks, count = self._ranks, state.batches_in_step
        ranks.tell(Word.STEP, state.epoch, state.step_in_epoch)
        began = time.monotonic()
        reduction, rounds, own = self._reduction_for(state), -(-count // ranks.world), []
        with RunningStatistics(state.model, self._rounding) as statistics:
            for start in range(0, count, ranks.world):
                number = start + ranks.rank
                if number < count:
                    batch, meter = next(batches), state.task.training_meter()
                    seen(batch)
                    loss = backward(state, batch, number, meter, precision)
                    own.append(torch.cat([loss.double().view(1), _sums(meter), statistics.taken()]))
                reduction.end_round()
            reduction.finish()
            meter_size = len(_sums(state.meter))
            width = 1 + meter_size + statistics.width
            rows_RK = torch.zeros(rounds, width, dtype=torch.float64, device=state.device)
            for row, values in zip(rows_RK, own, strict=False):  # in the last round there may be none for this rank
                row.copy_(values)
            found = ranks.every(rows_RK).transpose(0, 1).reshape(-1, width)[:count]
            self._check_norms(found[:, 1 + meter_size :], statistics)
            statistics.replay(found[:, 1 + meter_size :])
        if ranks.is_first:
            for row in found:
                _add(state.meter, row[1 : 1 + meter_size])
        ranks.note_duration(time.monotonic() - began)
        return list(found[:, 0].float().unbind())

    def _reduction_for(self, state: TrainingState) -> Reduction:
        """The reduction over the parameters that are not frozen now."""
        trained = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
        if self._reduction is None or list(map(id, trained)) != list(map(id, self._reduction.parameters)):
            self._reduction = None  # its memory, before that of the next
            self._reduction = REDUCTIONS[state.config.reduction](self._ranks, trained)
        return self._reduction

    def _check_norms(self, batches_BS: torch.Tensor, statistics: RunningStatistics) -> None:
        if not self._norms_checked and statistics.norm_count:  # once: reading from a GPU waits for it
            if batches_BS[:, -statistics.norm_count :].max() > 1:
                raise BadConfig(NORM_CALLED_AGAIN())
            self._norms_checked = True


def _sums(meter: Meter) -> torch.Tensor:
    """All sums of a meter as float64, which holds counts exactly."""
    return torch.cat([tensor.double().reshape(-1) for tensor in meter.state_dict().values()])


def _add(meter: Meter, sums: torch.Tensor) -> None:
    tensors = list(meter.state_dict().values())
    parts = sums.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor += part.view(tensor.shape).to(tensor.dtype)


def share_with(state: TrainingState, ranks: Ranks) -> None:
    """Give this rank its part of the batches. To be called before the first batch is made."""
    state.ranks = ranks
    state.task.share(ranks)


def share_steps(state: TrainingState) -> Message | None:
    """Have the steps of the run computed by all ranks, by the kernels that it has now; returns a warning of rank 0.

    The warning is that these kernels update running statistics in an unknown way. What rank 0 has found holds for all,
    so that they remain equal on hosts whose processors differ. Raises PeerLost.
    """
    ranks = state.ranks
    if ranks.world == 1:
        return None
    if ranks.is_first:
        rounding = _rounding(state)
        ranks.send(json.dumps(rounding.as_data()).encode())
    else:
        rounding = Rounding.from_data(json.loads(ranks.receive()))
    state.shared_gradients = SharedSteps(ranks, rounding).gradients
    return None if rounding.is_known else STATISTICS_ROUNDED()


def _rounding(state: TrainingState) -> Rounding:
    loss = first_loss(state) if is_compiled(state.model) else None
    if loss is None:
        return rounding_of(state.device, state.precision.dtype, memory_format_of(state.config))
    # Also where the first epochs are frozen: what a compiler made for some norms does not tell of others.
    set_training(state.model, state.head_prefixes, frozen=False)
    with unchanged(state):
        return rounding_within(state.model, loss)
