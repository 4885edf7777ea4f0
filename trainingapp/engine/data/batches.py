"""Batches in an order that depends on the seed and the epoch alone."""

import ctypes
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from trainingapp.contract.dataset_index import Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.loading import Loading
from trainingapp.engine.seeding import derived_seed, own_cpu_randomness

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h: the signal that a process gets when its parent ends."""

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT", bound="TensorBatch")


@dataclass(frozen=True)
class TensorBatch:
    """A batch of a task: a frozen dataclass with tensors among its fields.

    Every batch has `indices_N`, int64 [N], the numbers of its samples in their split. They stay on the CPU, because
    reading them from a GPU would wait for it; all other tensors move to the device. `seeds` has one for each image
    where these are still to be augmented, on the device: see `BatchSource`.
    """

    seeds: tuple[int, ...] = field(default=(), kw_only=True)

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
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "indices_N"}
        tensors: dict[str, Any] = {
            name: change(value) for name, value in values.items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


class Items(Protocol[ItemT, BatchT]):
    """One split of a task: how an image becomes an item of tensors, and several items a batch.

    Randomness comes from torch's global CPU generator alone, which is seeded before each call and restored afterwards.

    Three further methods are optional: `closing_item` replaces `training_item` in the last epochs (see `Course`);
    `scaled` takes a training batch and returns it in another size, by random choices that are the same for all batches
    of an optimizer step; with it goes `largest`, which returns a batch in the largest size that it can have.
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

    With `augments_later` training batches hold plain items and the seeds for their augmentation, which is made on the
    device: the random choices are those that would be made here.
    """

    def __init__(
        self,
        items: Items[ItemT, BatchT],
        batch_size: int,
        *,
        seed: int,
        training: bool,
        weights_N: torch.Tensor | None = None,
        augments_later: bool = False,
        accumulation_steps: int = 1,
    ) -> None:
        self._items = items
        self._closing_item: Callable[[int], ItemT] | None = getattr(items, "closing_item", None)
        self._scaled: Callable[[BatchT], BatchT] | None = getattr(items, "scaled", None)
        self._largest: Callable[[BatchT], BatchT] | None = getattr(items, "largest", None)
        self._accumulation_steps = accumulation_steps
        self._batch_size = batch_size
        self._seed = seed
        self._training = training
        self._weights_N = weights_N
        self._augments_later = augments_later
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

    def images_in(self, number: int) -> int:
        """Images of the batch with this number."""
        return min(self._batch_size, self.sample_count - number * self._batch_size)

    def largest(self, batch: BatchT) -> BatchT:
        """A training batch in the largest size that training batches have."""
        return self._largest(batch) if self._largest else batch

    def __getitem__(self, place: tuple[int, int] | tuple[int, int, bool]) -> BatchT | BadData:
        """The batch of (epoch, number, whether the epoch is a closing one), or the error of one of its images: an
        exception would lose its message between processes."""
        epoch, number, *closing = place
        start = number * self._batch_size
        indices_N = self._epoch_order(epoch)[start : start + self._batch_size]
        try:
            if not self._training:
                return self._items.collate([self._items.item(index) for index in indices_N.tolist()], indices_N)
            return self._training_batch(epoch, number, start, indices_N, closing=any(closing))
        except BadData as error:
            return error

    def _training_batch(self, epoch: int, number: int, start: int, indices_N: torch.Tensor, *, closing: bool) -> BatchT:
        seeds = [self._sample_seed(epoch, index, place) for place, index in enumerate(indices_N.tolist(), start)]
        with own_cpu_randomness() as generator:
            if self._augments_later:
                items = [self._items.item(index) for index in indices_N.tolist()]
            else:
                items, training_item = [], (closing and self._closing_item) or self._items.training_item
                for seed, index in zip(seeds, indices_N.tolist(), strict=True):
                    generator.manual_seed(seed)
                    items.append(training_item(index))
            generator.manual_seed(derived_seed(self._seed, "batch", epoch, number))
            batch = self._items.mix(self._items.collate(items, indices_N))
            if self._scaled:
                step = number // self._accumulation_steps
                generator.manual_seed(derived_seed(self._seed, "step", epoch, step))
                batch = self._scaled(batch)
        return replace(batch, seeds=tuple(seeds)) if self._augments_later else batch

    def _sample_seed(self, epoch: int, index: int, place: int) -> int:
        """Of the sample `index` at `place` of the epoch."""
        # A weighted epoch may contain an image several times: its position gives each its own augmentation.
        drawn_again = () if self._weights_N is None else (place,)
        return derived_seed(self._seed, "sample", epoch, index, *drawn_again)

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


class Place(NamedTuple):
    """A batch of a run: its split, the training epoch that it belongs to or follows, its number in the split, and
    whether it is a training batch of a closing epoch."""

    split: Split
    epoch: int
    number: int
    closing: bool = False


class Course(Sampler[Place]):
    """The batches in the order in which a run uses them: those of an epoch, of its validation, of the next epoch ...

    `last_epoch` is the one after whose validation nothing follows. Where the run turns elsewhere, as for a validation
    within an epoch, `start` is set anew. Training epochs from `closing_from` on are closing ones.
    """

    def __init__(self, counts: Mapping[Split, int], last_epoch: int, closing_from: float = math.inf) -> None:
        self._counts = counts
        self._last_epoch = last_epoch
        self.closing_from = closing_from
        self.is_own: Callable[[Place], bool] | None = None
        self.start: Place | None = None
        self.follows_on = True

    def __iter__(self) -> Iterator[Place]:
        place = self.start
        while place is not None:
            yield place
            place = self.after(place)

    def training_place(self, epoch: int, number: int) -> Place:
        """A training batch."""
        return Place("train", epoch, number, epoch >= self.closing_from)

    def after(self, place: Place) -> Place | None:
        """The batch that follows, or the next one that is this rank's own; None at the end."""
        following = self._after(place)
        while self.is_own and following is not None and not self.is_own(following):
            following = self._after(following)
        return following

    def _after(self, place: Place) -> Place | None:
        if place.number + 1 < self._counts[place.split]:
            return place._replace(number=place.number + 1)
        if not self.follows_on:
            return None
        if place.split == "train":
            return Place("val", place.epoch, 0)
        return self.training_place(place.epoch + 1, 0) if place.epoch < self._last_epoch else None


class BothSplits(Dataset[BatchT | BadData], Generic[BatchT]):
    """The batches of both splits, so that the same loader processes can make them."""

    def __init__(self, sources: Mapping[Split, BatchSource[Any, BatchT]]) -> None:
        self._sources = sources

    def __getitem__(self, place: Place) -> BatchT | BadData:
        return self._sources[place.split][place.epoch, place.number, place.closing]


class LoaderPool(Generic[BatchT]):
    """The batches of a run, the same whether the trainer or loader processes make them.

    One pool of processes serves training and validation, and prepares the first batches of what comes next: the
    validation while an epoch ends, and the next epoch while a validation ends. Loader processes close `unwanted_fds`,
    such as the lock of the run's folder, which must end with the trainer.

    With `one_thread` the trainer makes batches with a single thread, as loader processes do: a mean over many pixels
    is rounded differently by several.
    """

    def __init__(
        self,
        train: BatchSource[ItemT, BatchT],
        val: BatchSource[ItemT, BatchT],
        loading: Loading,
        *,
        last_epoch: int = 1,
        closing_from: float = math.inf,
        pin_memory: bool = False,
        unwanted_fds: Sequence[int] = (),
        one_thread: bool = False,
    ) -> None:
        counts: dict[Split, int] = {"train": train.batch_count, "val": val.batch_count}
        self._counts, self._one_thread = counts, one_thread and not loading.processes
        self._course = Course(counts, last_epoch, closing_from)
        self._next: Place | None = None
        self._batches: Iterator[BatchT | BadData] = iter(())
        self._loader: DataLoader[BatchT | BadData] = DataLoader(
            BothSplits({"train": train, "val": val}),
            batch_size=None,
            sampler=self._course,
            num_workers=loading.processes,
            collate_fn=lambda item: item,  # the source makes whole batches: nothing is left to convert
            pin_memory=pin_memory,
            persistent_workers=loading.processes > 0,
            prefetch_factor=loading.prefetch if loading.processes else None,
            # Forks share the decoded images (see PixelStore) and start without importing torch again.
            multiprocessing_context="fork" if loading.processes else None,
            worker_init_fn=partial(_start_loader_process, os.getpid(), tuple(unwanted_fds)),
            generator=torch.Generator(),  # else iter(loader) would draw from the global one, which the model uses
        )

    def share(self, is_own: Callable[[Place], bool]) -> None:
        """Make those batches alone; the other ranks make theirs. To be called before the first batch is made."""
        self._course.is_own = is_own

    def close_from(self, epoch: float) -> None:
        """Have the epochs from this one on be closing ones: with the next batch, also where it is prepared already."""
        if epoch != self._course.closing_from:
            self._course.closing_from, self._next = epoch, None

    def _own_numbers(self, split: Split, first: int = 0) -> list[int]:
        is_own, numbers = self._course.is_own, range(first, self._counts[split])
        return [number for number in numbers if is_own is None or is_own(Place(split, 0, number))]

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[BatchT]:
        """The training batches of `epoch` without the first `skip`. Raises BadData.

        A validation may come in between, and this continues after it.
        """
        return (self._batch(self._course.training_place(epoch, number)) for number in self._own_numbers("train", skip))

    def validation(self) -> Iterator[BatchT]:
        """The batches of the validation split. Raises BadData."""
        place, numbers = self._next, self._own_numbers("val")
        follows = place is not None and place.split == "val" and place.number == min(numbers, default=None)
        epoch = place.epoch if place is not None and follows else 0
        return (self._batch(Place("val", epoch, number)) for number in numbers)

    def _batch(self, place: Place) -> BatchT:
        if place != self._next:
            # A validation that does not follow an epoch, such as one within it: what comes after it is not known.
            self._course.start, self._course.follows_on = place, place.epoch > 0
            self._batches = iter(self._loader)
        self._next = None  # until the batch has come
        with _single_thread() if self._one_thread else nullcontext():
            item = next(self._batches)
        self._next = self._course.after(place)
        if isinstance(item, BadData):
            raise item
        return item


@contextmanager
def _single_thread() -> Iterator[None]:
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _start_loader_process(trainer_pid: int, unwanted_fds: Sequence[int], number: int) -> None:
    """Have this process end with the trainer, and close what the trainer alone may hold."""
    end_with_parent(trainer_pid)
    # Where a cluster scheduler sends it to all processes, the trainer saves first, and may need batches until then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in unwanted_fds:
        os.close(descriptor)


def end_with_parent(parent_pid: int) -> None:
    """Have this process end with its parent, even when that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent ended before the call: no signal will come
        os._exit(1)
