"""Batches in an order that depends on nothing but the seed and the epoch."""

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from trainingapp.contract.errors import BadData
from trainingapp.engine.seeding import derived_seed, own_cpu_randomness

PR_SET_PDEATHSIG = 1


class Items(Protocol):
    """One split of a task: how an image becomes tensors, and several of them a batch.

    What is random draws on torch's global CPU generator, which is seeded before each call and given back afterwards.
    """

    sample_count: int

    def item(self, index: int) -> Any:
        """Image `index` as validation sees it: nothing random. Raises BadData."""

    def training_item(self, index: int) -> Any:
        """Image `index`, changed at random. Raises BadData."""

    def collate(self, items: list[Any], indices_N: torch.Tensor) -> Any:
        """A batch of them."""

    def mix(self, batch: Any) -> Any:
        """A training batch whose images are mixed with each other at random, or as it was."""


class BatchSource(Dataset[Any]):
    """Makes the batch with a given (epoch, number), anywhere and in any order: nothing random is kept between two.

    `training` gives each epoch its own order and each (epoch, sample) its own randomness. `weights_N` draws the samples
    of an epoch with these weights, with replacement, instead of taking each once.
    """

    def __init__(
        self, items: Items, batch_size: int, *, seed: int, training: bool, weights_N: torch.Tensor | None = None
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
        """Batches in an epoch. A last one of a single image is left out when training: batch norm needs two."""
        whole, rest = divmod(self.sample_count, self._batch_size)
        dropped = self._training and rest == 1 and whole > 0
        return whole + (rest > 0) - dropped

    def __getitem__(self, epoch_and_number: tuple[int, int]) -> Any:
        """The batch, or what is wrong with one of its images: an exception would lose its text between processes."""
        epoch, number = epoch_and_number
        start = number * self._batch_size
        indices_N = self._epoch_order(epoch)[start : start + self._batch_size]
        try:
            if not self._training:
                return self._items.collate([self._items.item(index) for index in indices_N.tolist()], indices_N)
            return self._training_batch(epoch, number, start, indices_N)
        except BadData as error:
            return error

    def _training_batch(self, epoch: int, number: int, start: int, indices_N: torch.Tensor) -> Any:
        items = []
        with own_cpu_randomness() as generator:
            for place, index in enumerate(indices_N.tolist(), start=start):
                drawn_again = () if self._weights_N is None else (place,)  # the same image twice, but not alike
                generator.manual_seed(derived_seed(self._seed, "sample", epoch, index, *drawn_again))
                items.append(self._items.training_item(index))
            generator.manual_seed(derived_seed(self._seed, "batch", epoch, number))
            return self._items.mix(self._items.collate(items, indices_N))

    def _epoch_order(self, epoch: int) -> torch.Tensor:
        if not self._training:
            return torch.arange(self.sample_count)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, "order", epoch))
            self._order = (epoch, self._drawn_order(generator))
        return self._order[1]

    def _drawn_order(self, generator: torch.Generator) -> torch.Tensor:
        if self._weights_N is None:
            return torch.randperm(self.sample_count, generator=generator)
        return torch.multinomial(self._weights_N, self.sample_count, replacement=True, generator=generator)


class BatchNumbers(Sampler[tuple[int, int]]):
    """Tells the loader which batches of which epoch come next."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epoch = 1
        self.skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in range(self.skip, self.count))

    def __len__(self) -> int:
        return self.count - self.skip


class Batches:
    """The batches of one split, from the trainer itself or from `num_workers` loader processes: the same ones."""

    def __init__(self, source: BatchSource, num_workers: int, *, pin_memory: bool, unwanted_fds: Sequence[int]) -> None:
        self.count = source.batch_count
        self._numbers = BatchNumbers(self.count)
        self._loader = DataLoader(
            source,
            batch_size=None,  # the source makes whole batches
            sampler=self._numbers,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            multiprocessing_context="fork" if num_workers else None,
            worker_init_fn=partial(_start_loader_process, os.getpid(), tuple(unwanted_fds)),
            generator=torch.Generator(),  # else iter(loader) would draw from the global one
        )

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Any]:
        """The batches of `epoch` but the first `skip`. Raises BadData."""
        self._numbers.epoch, self._numbers.skip = epoch, skip
        for item in self._loader:
            if isinstance(item, BadData):
                raise item
            yield item


def _as_it_is(item: Any) -> Any:
    return item


def _start_loader_process(trainer_pid: int, unwanted_fds: Sequence[int], number: int) -> None:
    """Die with the trainer, even when it is killed, and let go of what only it may hold, such as its lock."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != trainer_pid:
        os._exit(1)
    for descriptor in unwanted_fds:
        os.close(descriptor)
