"""Batches in an order that depends on the seed and the epoch alone."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from trainingapp.contract.errors import BadData
from trainingapp.engine.seeding import derived_seed, own_cpu_randomness

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h: the signal that a process gets when its parent ends."""

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT", bound="TensorBatch")
AnyT = TypeVar("AnyT")


@dataclass(frozen=True)
class TensorBatch:
    """A batch of a task: a frozen dataclass with tensors among its fields.

    Every batch has `indices_N`, int64 [N], the numbers of its samples in their split. They stay on the CPU, because
    reading them from a GPU would wait for it; all other tensors move to the device.
    """

    @property
    def image_count(self) -> int:
        indices_N: torch.Tensor = vars(self)["indices_N"]
        return len(indices_N)

    def to(self, device: torch.device) -> Self:
        """The batch with its tensors on the device; copies from pinned memory do not block."""
        return self if device.type == "cpu" else self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Called by the DataLoader for GPUs. Where the system locks no more pages, copies to the GPU are slower."""
        try:
            return self._changed(torch.Tensor.pin_memory)
        except RuntimeError:
            return self

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "indices_N"}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return replace(self, **tensors)


class Items(Protocol[ItemT, BatchT]):
    """One split of a task: how an image becomes an item of tensors, and several items a batch.

    Randomness comes from torch's global CPU generator alone, which is seeded before each call and restored afterwards.
    """

    sample_count: int

    def item(self, index: int) -> ItemT:
        """Image `index` as validation uses it: nothing random. Raises BadData."""

    def training_item(self, index: int) -> ItemT:
        """Image `index`, changed at random. Raises BadData."""

    def collate(self, items: list[ItemT], indices_N: torch.Tensor) -> BatchT:
        """A batch of them."""

    def mix(self, batch: BatchT) -> BatchT:
        """A training batch whose images are mixed with each other at random, or the batch as it is."""


class BatchSource(Dataset[BatchT | BadData], Generic[ItemT, BatchT]):
    """Makes the batch with a given (epoch, number), in any process and order: no random state is kept between batches.

    This is why a resumed run continues bit-exact, with any number of loader processes. `training` gives each epoch its
    own order and each (epoch, sample) its own seed. `weights_N`, float [N] for the N samples of the split, draws the
    samples of an epoch with these weights, with replacement, instead of taking each once.
    """

    def __init__(
        self,
        items: Items[ItemT, BatchT],
        batch_size: int,
        *,
        seed: int,
        training: bool,
        weights_N: torch.Tensor | None = None,
    ) -> None:
        self._items = items
        self._batch_size = batch_size
        self._seed = seed
        self._training = training
        self._weights_N = weights_N
        self._order: tuple[int, torch.Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    @property
    def sample_count(self) -> int:
        return self._items.sample_count

    @property
    def batch_count(self) -> int:
        """Batches in an epoch. A last batch of one image is left out when training: batch norm needs two."""
        whole, rest = divmod(self.sample_count, self._batch_size)
        dropped = self._training and rest == 1 and whole > 0
        return whole + (rest > 0) - dropped

    def __getitem__(self, epoch_and_number: tuple[int, int]) -> BatchT | BadData:
        """The batch, or the error of one of its images: an exception would lose its message between processes."""
        epoch, number = epoch_and_number
        start = number * self._batch_size
        indices_N = self._epoch_order(epoch)[start : start + self._batch_size]
        try:
            if not self._training:
                return self._items.collate([self._items.item(index) for index in indices_N.tolist()], indices_N)
            return self._training_batch(epoch, number, start, indices_N)
        except BadData as error:
            return error

    def _training_batch(self, epoch: int, number: int, start: int, indices_N: torch.Tensor) -> BatchT:
        items = []
        with own_cpu_randomness() as generator:
            for place, index in enumerate(indices_N.tolist(), start=start):
                # A weighted epoch may contain an image several times: its position gives each its own augmentation.
                drawn_again = () if self._weights_N is None else (place,)
                generator.manual_seed(derived_seed(self._seed, "sample", epoch, index, *drawn_again))
                items.append(self._items.training_item(index))
            generator.manual_seed(derived_seed(self._seed, "batch", epoch, number))
            return self._items.mix(self._items.collate(items, indices_N))

    def _epoch_order(self, epoch: int) -> torch.Tensor:
        if not self._training:
            return torch.arange(self.sample_count)
        # Cached for one epoch. A generator of its own, so that the order does not depend on other random numbers.
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, "order", epoch))
            if self._weights_N is None:
                order_N = torch.randperm(self.sample_count, generator=generator)
            else:
                order_N = torch.multinomial(self._weights_N, self.sample_count, replacement=True, generator=generator)
            self._order = (epoch, order_N)
        return self._order[1]


class BatchNumbers(Sampler[tuple[int, int]]):
    """The batches that the loader makes next, as (epoch, number)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epoch = 1
        self.skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in range(self.skip, self.count))

    def __len__(self) -> int:
        return self.count - self.skip


class Batches(Generic[BatchT]):
    """The batches of one split, the same whether the trainer or `num_workers` loader processes make them.

    Loader processes close `unwanted_fds`, such as the lock of the run's folder, which must end with the trainer.
    """

    def __init__(
        self, source: BatchSource[ItemT, BatchT], num_workers: int, *, pin_memory: bool, unwanted_fds: Sequence[int]
    ) -> None:
        self.count = source.batch_count
        self._numbers = BatchNumbers(self.count)
        self._loader: DataLoader[BatchT | BadData] = DataLoader(
            source,
            batch_size=None,
            sampler=self._numbers,
            num_workers=num_workers,
            collate_fn=lambda item: item,  # the source makes whole batches: nothing is left to convert
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            # Forks share the decoded images (see PixelStore) and start without importing torch again.
            multiprocessing_context="fork" if num_workers else None,
            worker_init_fn=partial(_start_loader_process, os.getpid(), tuple(unwanted_fds)),
            generator=torch.Generator(),  # else iter(loader) would draw from the global one, which the model uses
        )

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[BatchT]:
        """The batches of `epoch` without the first `skip`. Raises BadData."""
        self._numbers.epoch, self._numbers.skip = epoch, skip
        for item in self._loader:
            if isinstance(item, BadData):
                raise item
            yield item


def _start_loader_process(trainer_pid: int, unwanted_fds: Sequence[int], number: int) -> None:
    """Have this process end with the trainer, and close what the trainer alone may hold."""
    end_with_parent(trainer_pid)
    for descriptor in unwanted_fds:
        os.close(descriptor)


def end_with_parent(parent_pid: int) -> None:
    """Have this process end with its parent, even when that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent ended before the call: no signal will come
        os._exit(1)
