"""Batches in an order that depends on nothing but the seed and the epoch."""

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from trainingapp.engine.data.pictures import PictureStore
from trainingapp.engine.errors import BadData
from trainingapp.engine.seeding import derived_seed, own_cpu_randomness

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Batch:
    """`images_NCHW` is uint8, `labels_N` int64; N may be smaller in the last batch of an epoch."""

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        return Batch(self.images_NCHW.to(device, non_blocking=True), self.labels_N.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Called by the DataLoader for GPUs."""
        return Batch(self.images_NCHW.pin_memory(), self.labels_N.pin_memory())


class BatchSource(Dataset[Batch | BadData]):
    """Makes the batch with a given (epoch, number), anywhere and in any order: nothing random is kept between two.

    `shuffle` gives each epoch its own order, `augmentation` each (epoch, sample) its own randomness.
    """

    def __init__(
        self,
        pictures: PictureStore,
        labels: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = False,
        augmentation: nn.Module | None = None,
    ) -> None:
        self._pictures = pictures
        self._labels_N = torch.tensor(labels, dtype=torch.int64)
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._order: tuple[int, torch.Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    @property
    def sample_count(self) -> int:
        return len(self._labels_N)

    @property
    def batch_count(self) -> int:
        """Batches in an epoch. A last one of a single picture is left out when training: batch norm needs two."""
        whole, rest = divmod(self.sample_count, self._batch_size)
        dropped = self._shuffle and rest == 1 and whole > 0
        return whole + (rest > 0) - dropped

    def __getitem__(self, epoch_and_number: tuple[int, int]) -> Batch | BadData:
        """The batch, or what is wrong with one of its pictures: an exception would lose its text between processes."""
        epoch, number = epoch_and_number
        start = number * self._batch_size
        indices = self._epoch_order(epoch)[start : start + self._batch_size]
        try:
            images_NCHW = torch.stack(self._images(epoch, indices.tolist()))
        except BadData as error:
            return error
        return Batch(images_NCHW, self._labels_N[indices])

    def _images(self, epoch: int, indices: list[int]) -> list[torch.Tensor]:
        if self._augmentation is None:
            return [self._pictures.picture(index) for index in indices]
        images = []
        with own_cpu_randomness() as generator:
            for index in indices:
                generator.manual_seed(derived_seed(self._seed, "sample", epoch, index))
                images.append(self._augmentation(self._pictures.picture(index)))
        return images

    def _epoch_order(self, epoch: int) -> torch.Tensor:
        if not self._shuffle:
            return torch.arange(self.sample_count)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, "order", epoch))
            self._order = (epoch, torch.randperm(self.sample_count, generator=generator))
        return self._order[1]


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
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            multiprocessing_context="fork" if num_workers else None,
            worker_init_fn=partial(_start_loader_process, os.getpid(), tuple(unwanted_fds)),
            generator=torch.Generator(),  # else iter(loader) would draw from the global one
        )

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` but the first `skip`. Raises BadData."""
        self._numbers.epoch, self._numbers.skip = epoch, skip
        for item in self._loader:
            if isinstance(item, BadData):
                raise item
            yield item


def _as_it_is(item: Batch | BadData) -> Batch | BadData:
    return item


def _start_loader_process(trainer_pid: int, unwanted_fds: Sequence[int], number: int) -> None:
    """Die with the trainer, even when it is killed, and let go of what only it may hold, such as its lock."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != trainer_pid:
        os._exit(1)
    for descriptor in unwanted_fds:
        os.close(descriptor)
