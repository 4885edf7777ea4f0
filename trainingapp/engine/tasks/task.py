"""What the loop asks of a task: the training procedure of one vision task."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.run_directory import Order
from trainingapp.engine.data.batches import Batches, BatchSource, Items
from trainingapp.engine.data.images import MEMORY_LIMIT_BYTES

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Meter(Protocol):
    """Sums over batches that live on the device and are part of a checkpoint."""

    def reset(self) -> None: ...

    def seen(self) -> int:
        """Images since the last reset."""

    def training_values(self) -> dict[str, float]:
        """What a point of the training curves shows; "loss" is among them."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Task(Protocol):
    """A task knows its data, its model and its metrics; the loop knows steps, saving and commands.

    Batches are whatever the task's own methods understand; `new_meter` gives what `loss`, `evaluate` and `evaluation`
    are given. A task derives from `BaseTask` and is entered in `registry.py`.
    """

    #: Batches in an epoch; an optimizer step may take several.
    batch_count: int

    def build_model(self, *, pretrained: bool) -> nn.Module:
        """The network on its device. Raises WeightsUnavailable."""

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        """Beginnings of the names of parameters that are made for this dataset's classes; the rest is the backbone."""

    def train_batches(self, epoch: int, *, skip: int) -> Iterator[Any]:
        """The batches of an epoch but the first `skip`, the same at every attempt. Raises BadData."""

    def val_batches(self) -> Iterator[Any]:
        """The validation split, in its order. Raises BadData."""

    def val_paths(self) -> list[str]:
        """The images of the validation split, in its order."""

    def new_meter(self, *, validation: bool) -> Any:
        """An empty meter on the task's device; one for validation need not be a part of checkpoints."""

    def loss(self, model: nn.Module, batch: Any, meter: Any) -> torch.Tensor:
        """Forward pass of a training batch, added to the meter: a scalar with a gradient, the mean over the batch."""

    def evaluate(self, model: nn.Module, batch: Any, meter: Any) -> None:
        """Forward pass of a validation batch, added to the meter."""

    def evaluation(self, meter: Any) -> Evaluation:
        """What the validation found out."""

    def draw_batch(self, batch: Any) -> list[Image.Image]:
        """Images of a training batch as the model sees them, with what it is told about them drawn in; at most 16."""

    def description(self) -> dict[str, Any]:
        """What a checkpoint should tell about the task so that it can be used alone, such as class names."""


class BaseTask:
    """What tasks have in common: the splits, how they become batches, and the description.

    A task calls `_use(items)` once it can make items of each split.
    """

    #: Images of a training split below which training makes no sense.
    least_train = 2

    def __init__(
        self, order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        self._dataset = dataset
        self._device = device
        self._run_dir = order.run_dir
        self._weights_cache_dir = order.weights_cache_dir
        self._unwanted_fds = unwanted_fds
        self._mean_C11 = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1) * 255
        self._std_C11 = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1) * 255

    def _use(self, config: BaseRunConfig, train: Items, val: Items, *, weights_N: torch.Tensor | None = None) -> None:
        """Make batches of these items; `weights_N` as in `BatchSource`."""
        on_gpu = self._device.type == "cuda"
        sources = [
            BatchSource(train, config.batch_size, seed=config.seed, training=True, weights_N=weights_N),
            BatchSource(val, config.batch_size, seed=config.seed, training=False),
        ]
        self._train, self._val = (
            Batches(source, config.num_workers, pin_memory=on_gpu, unwanted_fds=self._unwanted_fds)
            for source in sources
        )
        self.batch_count = self._train.count

    def train_batches(self, epoch: int, *, skip: int) -> Iterator[Any]:
        return (batch.to(self._device) for batch in self._train.epoch(epoch, skip=skip))

    def val_batches(self) -> Iterator[Any]:
        return (batch.to(self._device) for batch in self._val.epoch(1))

    def val_paths(self) -> list[str]:
        return [sample.path for sample in self._dataset.split("val")]

    def description(self) -> dict[str, Any]:
        return {
            "classes": list(self._dataset.classes),
            "dataset_fingerprint": self._dataset.fingerprint,
            "normalisation": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        }

    def _samples(self, split: Split) -> list[Sample]:
        samples, least = self._dataset.split(split), self.least_train if split == "train" else 1
        if len(samples) < least:
            raise BadData(f"The {split} split has {len(samples)} images; it needs at least {least}.")
        return samples

    def _memory_limit(self, bytes_each: int) -> int:
        """All images are kept in memory or none: half a set in memory would only hide how slow the rest is."""
        needed = len(self._dataset.samples) * bytes_each
        return MEMORY_LIMIT_BYTES if needed <= MEMORY_LIMIT_BYTES else 0

    def _on_device(self, model: nn.Module, *, channels_last: bool) -> nn.Module:
        """Channels last: up to twice as fast on CPUs and on GPUs with tensor cores."""
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return model.to(self._device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]

    def _normalised(self, images_NCHW: torch.Tensor, *, channels_last: bool) -> torch.Tensor:
        """uint8 0..255 to float32 of about zero mean and unit spread, on the device: bytes travel faster."""
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        images = images_NCHW.to(memory_format=memory_format, dtype=torch.float32)
        return (images - self._mean_C11) / self._std_C11
