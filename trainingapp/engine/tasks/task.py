"""The interface of a task in the engine: its data, network, losses and metrics, and the outputs of exported networks.

The loop makes steps, saves and carries out commands; it calls the methods of `BaseTask`. A task derives from it in a
folder beside this module, and the `implementation` of its descriptor (`contract/tasks/`) names the class.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.export_options import ExportOptions
from trainingapp.contract.loading import loading_of
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.tasks import TOO_FEW_IMAGES
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared
from trainingapp.contract.published_weights import Kind, Published
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.adapters import add_adapters
from trainingapp.engine.checkpoint_content import Normalisation, TaskDescription
from trainingapp.engine.data.batches import BatchSource, BatchT, Items, ItemT, LoaderPool, Place
from trainingapp.engine.device import memory_format_of
from trainingapp.engine.machine import machine
from trainingapp.engine.plain_outputs import Outputs, Probabilities, largest_difference
from trainingapp.engine.ragged import Shared
from trainingapp.engine.ranks import Ranks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET: Normalisation = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
"""Of the pixels of ImageNet's training images, from 0 to 1: most published weights were trained with them."""


class Meter(Protocol):
    """Running sums over training batches, kept on the device and stored in checkpoints."""

    def reset(self) -> None: ...

    def training_values(self) -> dict[str, float]:
        """The metrics of a point of the training charts; "loss" is among them. Reads the device once: each read waits
        for it."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None: ...


@runtime_checkable
class SharedMeter(Protocol):
    """A validation meter that joins those of other ranks. Without one, rank 0 validates alone."""

    def shared(self) -> Shared:
        """What rank 0 needs to know of it."""

    def join(self, others: Sequence[Shared]) -> None:
        """Add what the meters of the other ranks, in their order, have seen: of W meters, that of rank r has the
        batches r, r + W, ... of the split. The result is that of one meter with all batches."""


@dataclass(frozen=True)
class Found:
    """A prediction for an image: one of `classes` (with `labels`), `boxes` (with `masks`) and `shares`, by the kind of
    the task's predictions."""

    classes: list[tuple[int, float]] | None = None
    """(label, probability), the most likely first."""

    labels: list[int] | None = None
    """The classes that reach their threshold, where an image can have several."""

    boxes: list[list[float]] | None = None
    """[label, confidence, left, top, right, bottom] in pixels of the upright image, before suppression."""

    masks: list[str] | None = None
    """The mask of each box, as packed run lengths in the upright image: see `contract/run_lengths.py`."""

    shares: dict[str, float] | None = None
    """Share of the image that each class of the mask covers."""

    mask_HW: NDArray[np.uint8] | None = None
    """0 for the background, i + 1 for class i."""

    sureness_HW: NDArray[np.uint8] | None = None
    """The probability of the class of each pixel, from 0 to 255."""

    about: dict[str, float] = field(default_factory=dict)
    """"width" and "height" of the upright image, and "milliseconds" that the network took."""

    @property
    def values(self) -> dict[str, Any]:
        """What a file of predictions holds for the image."""
        kinds = {
            "classes": self.classes,
            "labels": self.labels,
            "boxes": self.boxes,
            "masks": self.masks,
            "shares": self.shares,
        }
        return {**self.about, **{kind: found for kind, found in kinds.items() if found is not None}}


TrainingMeterT = TypeVar("TrainingMeterT", bound=Meter)
ValidationMeterT = TypeVar("ValidationMeterT")


class BaseTask(ABC, Generic[BatchT, TrainingMeterT, ValidationMeterT]):
    """A task with the dataset of a run. The loop passes its batches and meters on without knowing their types.

    A subclass calls `_use(train, val)` once it can make items of each split.
    """

    onnx_dynamo: ClassVar[bool] = True
    """Whether ONNX files come from torch's newer exporter. The older one takes networks that it cannot trace."""

    least_train: ClassVar[int] = 2
    """Images of a training split below which training makes no sense."""

    latest_computation: ClassVar[int] = 1
    """The number of the way in which new runs compute. It rises when the same values are computed in another way and
    therefore differ in their last digits; older ways are kept for the runs that began with them."""

    batch_count: int
    """Batches in an epoch; an optimizer step may take several."""

    decoded_bytes = 0
    """Memory that all decoded images of the dataset would take; 0 where the task does not keep them."""

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        """Loader processes close `unwanted_fds`. Raises BadData where the dataset lacks the required annotations."""
        self.computation = self.latest_computation
        self._config: BaseRunConfig = spec.config
        self._dataset = dataset
        self._device = device
        self._weights_cache_dir = spec.weights_cache_dir
        self._unwanted_fds = unwanted_fds
        on_gpu, batch_bytes = device.type == "cuda", self._config.batch_size * 4 * self._config.image_size**2
        #: How images are loaded, chosen for the machine at this attempt.
        place = machine()
        if not on_gpu and len(spec.devices) > 1:  # each rank keeps decoded images of its own
            count = len(spec.devices)
            place = replace(place, memory_bytes=place.memory_bytes // count, free_bytes=place.free_bytes // count)
        self.loading = loading_of(self._config.num_workers, place, on_gpu=on_gpu, batch_bytes=batch_bytes)
        self.normalise_as(self.normalisation_of(self._config))

    def normalise_as(self, normalisation: Normalisation) -> None:
        """Normalise images with these statistics: those of the network, or of the checkpoint that a run continues."""
        self._normalisation = normalisation
        found = (normalisation["mean"], normalisation["std"])
        mean, std = (torch.tensor(values, device=self._device) for values in found)
        self._mean_C11, self._std_C11 = mean.view(3, 1, 1) * 255, std.view(3, 1, 1) * 255

    # The network, also without a dataset

    @classmethod
    def normalisation_of(cls, config: BaseRunConfig) -> Normalisation:
        """The pixel statistics of new runs of this network: those of ImageNet, unless its library knows others."""
        return IMAGENET

    def remarks(self) -> list[Message]:
        """What a person should know about the network and the configuration when a run starts."""
        return []

    @classmethod
    def published(cls, model: str) -> Mapping[Kind, Published]:
        """The published weights of a network that is not in the table of the descriptor, as its library knows them."""
        return {}

    @classmethod
    @abstractmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        """The network of `config` on the CPU, with weights drawn from torch's global generator.

        Where `weights_from` is given, the weights that `config.pretrained` names are loaded, downloaded into that
        folder. Raises BadConfig, WeightsUnavailable.
        """

    @classmethod
    def plain_network(cls, network: nn.Module, image_size: int) -> nn.Module:
        """`network` as others can use it: float32 [1, 3, image_size, image_size], normalised, in; a tuple of tensors
        out, one for each of the descriptor's `output_names`. In evaluation mode."""
        return Probabilities(network.eval()).eval()

    @classmethod
    def plain_network_of(cls, network: nn.Module, card: Card) -> nn.Module:
        """The same for the network of a model; for tasks whose outputs depend on its configuration."""
        return cls.plain_network(network, card["image_size"])

    @classmethod
    def outputs_by_image(cls, plain: nn.Module, images_NCHW: torch.Tensor) -> list[Outputs]:
        """What the result of `plain_network` gives for each of several images; its outputs have a row for each.

        A network whose outputs do not gets one image after the other.
        """
        outputs: Outputs = plain(images_NCHW)
        count = len(images_NCHW)
        if all(part.dim() and len(part) == count for part in outputs):
            return [tuple(part[place : place + 1] for part in outputs) for place in range(count)]
        return [plain(images_NCHW[place : place + 1]) for place in range(count)]

    @classmethod
    def export_network(cls, network: nn.Module, card: Card, options: ExportOptions) -> nn.Module:
        """`plain_network` as `options` describe it, for ONNX and OpenVINO. Raises MessageError where it cannot be."""
        return cls.plain_network_of(network, card)

    @classmethod
    @abstractmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        """The prediction for the image from the outputs of `plain_network`."""

    @classmethod
    def output_differences(
        cls, card: Card, expected: Sequence[Floats], found: Sequence[Floats]
    ) -> tuple[float, float | None]:
        """The largest difference of scores and, where there are boxes, of boxes in pixels; infinite where the shapes
        differ."""
        if [part.shape for part in expected] != [part.shape for part in found]:
            return float("inf"), None
        return max(largest_difference(one, other) for one, other in zip(expected, found, strict=True)), None

    # Training

    def continue_from(self, content: TaskDescription) -> None:
        """Compute as the run did that saved this checkpoint. To be called before the network is built."""
        self.computation = content.get("computation", 1)

    def build_model(self, *, pretrained: bool) -> nn.Module:
        """The network on the task's device. Raises BadConfig, WeightsUnavailable."""
        weights_from = self._weights_cache_dir if pretrained else None
        model = self.build_network(self._config, len(self._dataset.classes), weights_from=weights_from)
        if self._config.has_adapters:
            add_adapters(model, self.head_prefixes(model), self._config.lora_rank)
        return model.to(self._device, memory_format=memory_format_of(self._config))  # type: ignore[call-overload,no-any-return]

    @abstractmethod
    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        """Prefixes of the names of parameters that are made for this dataset's classes; the rest is the backbone."""

    def train_batches(self, epoch: int, *, skip: int) -> Iterator[BatchT]:
        """The batches of an epoch without the first `skip`, the same at every attempt. Raises BadData."""
        return (self.augmented(batch.to(self._device)) for batch in self._pool.epoch(epoch, skip=skip))

    def share(self, ranks: Ranks) -> None:
        """Make the batches of this rank alone: of each step, and of the validation where it is shared. To be called
        before the first batch is made."""
        size, divides = self._config.accumulation_steps, isinstance(self.validation_meter(), SharedMeter)

        def is_own(place: Place) -> bool:
            if place.split == "train":
                return place.number % size % ranks.world == ranks.rank
            return place.number % ranks.world == ranks.rank if divides else ranks.is_first

        self._pool.share(is_own)

    def change_epochs(self, epochs: int) -> None:
        """Have the next batches be those of a run of this many epochs."""
        if self.closing_epochs:
            self._pool.close_from(self._first_closing(epochs))

    def _first_closing(self, epochs: int) -> float:
        return epochs - self.closing_epochs + 1 if self.closing_epochs else math.inf

    @property
    def closing_epochs(self) -> int:
        """The last epochs, in which training images are made by `closing_item` of the items."""
        return 0

    def images_in(self, number: int) -> int:
        """Images of the training batch with this number."""
        return self._source.images_in(number)

    def largest(self, batch: BatchT) -> BatchT:
        """A training batch in the largest size that training batches have: it needs the most memory and time."""
        largest: BatchT = self._source.largest(batch)
        return largest

    def augmented(self, batch: BatchT) -> BatchT:
        """A training batch on the device with the augmentation that was left to it; for tasks with `augment_on`."""
        return batch

    @abstractmethod
    def training_meter(self) -> TrainingMeterT:
        """An empty meter on the task's device. It is stored in checkpoints, so it is small."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: BatchT, meter: TrainingMeterT) -> torch.Tensor:
        """Forward pass of a training batch, added to the meter. Returns the mean over the batch, float32 [] with a
        gradient."""

    @abstractmethod
    def draw_batch(self, batch: BatchT) -> list[Image.Image]:
        """At most BATCH_IMAGES_DRAWN images of a training batch after augmentation, with their annotations."""

    # Validation

    def val_batches(self) -> Iterator[BatchT]:
        """The validation split, in its order. Raises BadData."""
        return (batch.to(self._device) for batch in self._pool.validation())

    def val_paths(self) -> list[str]:
        """The images of the validation split, in its order."""
        return [sample.path for sample in self._dataset.split("val")]

    def image_counts(self) -> dict[Split, int]:
        """Images of each split."""
        return {split: len(self._dataset.split(split)) for split in get_args(Split)}

    @abstractmethod
    def validation_meter(self) -> ValidationMeterT:
        """An empty meter for one validation; it may keep lists."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: BatchT, meter: ValidationMeterT) -> None:
        """Forward pass of a validation batch, added to the meter."""

    @abstractmethod
    def evaluation(self, meter: ValidationMeterT) -> Evaluation:
        """The result of the validation."""

    def description(self) -> TaskDescription:
        """What a checkpoint holds about the task, such as class names, so that it can be used without the dataset."""
        about: TaskDescription = {
            "classes": list(self._dataset.classes),
            "dataset_fingerprint": self._dataset.fingerprint,
            "normalisation": self._normalisation,
        }
        if self._dataset.conversion:
            about["conversion"] = self._dataset.conversion.as_data()
        if self.computation > 1:
            about["computation"] = self.computation
        return about

    # For subclasses

    def _use(
        self, train: Items[ItemT, BatchT], val: Items[ItemT, BatchT], *, weights_N: torch.Tensor | None = None
    ) -> None:
        """Make batches of these items; `weights_N` as in `BatchSource`."""
        config = self._config
        source = BatchSource(
            train,
            config.batch_size,
            seed=config.seed,
            training=True,
            weights_N=weights_N,
            augments_later=getattr(config, "augment_on", "cpu") == "device",
            accumulation_steps=config.accumulation_steps,
        )
        self._pool = LoaderPool(
            source,
            BatchSource(val, config.batch_size, seed=config.seed, training=False),
            self.loading,
            last_epoch=config.epochs,
            closing_from=self._first_closing(config.epochs),
            pin_memory=self._device.type == "cuda",
            unwanted_fds=self._unwanted_fds,
            one_thread=config.num_workers == "auto",
        )
        self._source = source
        self.batch_count = source.batch_count

    def _samples(self, split: Split) -> list[Sample]:
        """The samples of a split. Raises BadData where they are too few."""
        samples, least = self._dataset.split(split), self.least_train if split == "train" else 1
        if len(samples) < least:
            raise BadData(TOO_FEW_IMAGES(split=split, count=len(samples), least=least))
        return samples

    def _memory_limit(self, bytes_each: int) -> int:
        """Bytes that a `PixelStore` may use. All images are kept or none: with half of them in memory, the speed would
        change from batch to batch. `bytes_each`: bytes of an image with its mask."""
        self.decoded_bytes = len(self._dataset.samples) * bytes_each
        return self.loading.cache_bytes if self.is_cached else 0

    @property
    def is_cached(self) -> bool:
        """Whether decoded images stay in memory."""
        return 0 < self.decoded_bytes <= self.loading.cache_bytes

    def _normalised(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W] in 0..255 to float32 with the mean and standard deviation of the run, in the memory format
        of the model. Done on the device: uint8 takes a quarter of the time to copy there."""
        images = images_NCHW.to(memory_format=memory_format_of(self._config), dtype=torch.float32)
        return (images - self._mean_C11) / self._std_C11


Task = BaseTask[Any, Any, Any]
"""A task of which only `BaseTask` is known."""
