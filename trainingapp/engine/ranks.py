"""The ranks of a run: the processes that train it together, one on each of its devices.

Rank 0 is the trainer that the supervisor started. It alone reads commands, writes files and events, and decides; before
each thing that all ranks do, it tells the others what comes, so that all do it at the same step (`follower.py`).
A run on one device has one rank: no process group, and nothing to tell.
"""

import datetime
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import torch

from trainingapp.contract.errors import RanksDiffer
from trainingapp.contract.messages.ranks import RANKS_DIFFER
from trainingapp.engine.ragged import Shared

if TYPE_CHECKING:
    from torch.distributed import Store

#: Seconds after which a rank that does not respond is lost, or LONGEST_STEPS times the longest step.
RESPONSE_S, LONGEST_STEPS = 60.0, 3.0
#: The same before the first step is done: networks may be compiled, and kernels tried.
FIRST_RESPONSE_S = 600.0
#: For the ranks that wait for rank 0: it may validate, save or download for long, and they end with it.
PATIENCE_S = 7 * 86400.0


class Word(IntEnum):
    """What rank 0 tells the others to do."""

    END = 0
    #: Enter an epoch, or continue in it: `epoch` and `step` are the position.
    EPOCH = 1
    STEP = 2
    VALIDATE = 3
    #: Within a validation: take the next batch, give the results to rank 0, or leave it.
    NEXT = 4
    GATHER = 5
    LEAVE = 6
    #: Compare the norms of all tensors.
    COMPARE = 7
    #: Continue with `epoch` as the number of epochs.
    EPOCHS = 8


@dataclass(frozen=True)
class Order:
    """A word of rank 0, with the epoch and the step of the epoch that it is meant for."""

    word: Word
    epoch: int
    step: int


class PeerLost(RuntimeError):
    """A collective operation failed: another rank has ended, or did not respond in time."""


class Ranks:
    """One rank among the `world` of them; the default is the only one.

    Without others, `tell` and the like do nothing and cost nothing. Methods that communicate raise PeerLost.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        #: Seconds in collective operations, also those spent waiting for slower ranks; on a GPU, without the time that
        #: the device spends on them after the call.
        self.collective_s = 0.0
        #: Seconds for which rank 0 waits for the others.
        self.response_s = FIRST_RESPONSE_S
        self._longest_s = 0.0

    @classmethod
    def join(cls, rank: int, world: int, store: "Store", device: torch.device, interface: str) -> "Ranks":
        """Form the process group with the others, over this network interface. Raises PeerLost."""
        import torch.distributed as dist  # a run on one device does not need it

        # Without a name, gloo takes the address of the host's name, which other machines may reach.
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, interface)
        ranks = cls(rank, world)
        limit_s = ranks.response_s if rank == 0 else PATIENCE_S
        with communicating():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(seconds=limit_s),
            )
        return ranks

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def numbers(self, count: int) -> range:
        """Which of `count` parts this rank takes: every `world`-th, from its own number on."""
        return range(self.rank, count, self.world)

    def tell(self, word: Word, epoch: int = 0, step: int = 0) -> None:
        """Have all other ranks do the same as rank 0 from here on. On another rank nothing: it was told before."""
        if self.world > 1 and self.is_first:
            self._agree(torch.tensor([word, epoch, step]))

    def listen(self) -> Order:
        """What rank 0 tells; waits for it."""
        word, epoch, step = self._agree(torch.zeros(3, dtype=torch.int64)).tolist()
        return Order(Word(word), epoch, step)

    def _agree(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum of the numbers of all ranks; where it is those of rank 0, the others give zeros.

        A sum, so that rank 0 notices a rank that does not respond.
        """
        import torch.distributed as dist

        with self._communicating():
            dist.all_reduce(numbers)
        return numbers

    def agree(self, is_true: bool) -> bool:
        """Whether it is true on all ranks, each of which has to ask."""
        return is_true if self.world == 1 else int(self._agree(torch.tensor([is_true]).long())) == self.world

    def send(self, content: bytes) -> None:
        """Give all other ranks the content, which they `receive`."""
        import torch.distributed as dist

        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        with self._communicating():
            dist.broadcast(torch.tensor([len(data)]), 0)
            dist.broadcast(data, 0)

    def receive(self) -> bytes:
        """What rank 0 sends."""
        import torch.distributed as dist

        size = torch.zeros(1, dtype=torch.int64)
        with self._communicating():
            dist.broadcast(size, 0)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0)
        return data.numpy().tobytes()

    def give(self, shared: Shared) -> None:
        """Give rank 0 the tensors."""
        import torch.distributed as dist

        content = io.BytesIO()
        torch.save(shared, content)
        data = torch.frombuffer(content.getbuffer(), dtype=torch.uint8)
        with self._communicating():
            dist.send(torch.tensor([len(data)]), 0)
            dist.send(data, 0)

    def gathered(self) -> list[Shared]:
        """On rank 0: what the other ranks give, in their order."""
        import torch.distributed as dist

        found = []
        for rank in range(1, self.world):
            size = torch.zeros(1, dtype=torch.int64)
            with self._communicating():
                dist.recv(size, rank)
                data = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(data, rank)
            found.append(torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True))
        return found

    def every(self, tensor: torch.Tensor) -> torch.Tensor:
        """[world, ...]: the tensors of all ranks, which have one shape."""
        found = tensor.new_empty(self.world, *tensor.shape)
        self.gather_into(found.view(-1), tensor.contiguous().view(-1))
        return found

    def gather_into(self, all_W: torch.Tensor, own: torch.Tensor) -> None:
        """Fill `all_W`, [world x n], with the `own`, [n], of all ranks in their order."""
        import torch.distributed as dist

        gather: Callable[[torch.Tensor, torch.Tensor], object] = (
            getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.14
        )
        with self._communicating():
            gather(all_W, own)

    def exchange(self, received: torch.Tensor, given: torch.Tensor) -> None:
        """Give rank r the r-th part of `given`, and fill `received` with those that the ranks give this one."""
        import torch.distributed as dist

        with self._communicating():
            dist.all_to_all_single(received, given)

    def add(self, tensor: torch.Tensor) -> None:
        """Add the tensors of all ranks, in an order that the backend chooses; each gets the sum."""
        import torch.distributed as dist

        with self._communicating():
            dist.all_reduce(tensor)

    def compare(self, norms: torch.Tensor, step: int) -> None:
        """Raise RanksDiffer on rank 0 where the norms of the ranks, float64 [n], are not the same bit by bit."""
        every_WN = self.every(norms)
        if self.is_first and not all(torch.equal(one.view(torch.int64), norms.view(torch.int64)) for one in every_WN):
            raise RanksDiffer(RANKS_DIFFER(step=step))

    def note_duration(self, seconds: float) -> None:
        """A step, or a batch of the validation, took so long: rank 0 waits for the others in proportion to it."""
        if not self.is_first or self.world == 1:
            return
        import torch.distributed as dist

        self._longest_s = max(seconds, self._longest_s)
        wanted_s = max(RESPONSE_S, LONGEST_STEPS * self._longest_s)
        if wanted_s != self.response_s:
            self.response_s = wanted_s
            set_timeout: Callable[[datetime.timedelta], None] = (
                getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout  # before torch 2.14
            )
            set_timeout(datetime.timedelta(seconds=wanted_s))

    @contextmanager
    def _communicating(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with communicating():
                yield
        finally:
            self.collective_s += time.perf_counter() - began


@contextmanager
def communicating() -> Iterator[None]:
    """Raise PeerLost for the errors of an operation with other ranks, or with the store in which they meet."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error
