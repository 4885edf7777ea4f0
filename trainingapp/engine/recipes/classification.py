"""One label for each picture."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.engine.config import ClassificationConfig
from trainingapp.engine.data.batches import Batch, Batches, BatchSource
from trainingapp.engine.data.pictures import MEMORY_LIMIT_BYTES, PictureStore
from trainingapp.engine.data.transforms import make_augmentation
from trainingapp.engine.dataset_files import DatasetIndex, Sample, Split
from trainingapp.engine.errors import BadData
from trainingapp.engine.metrics.classification import ClassificationMeter, per_class_accuracy
from trainingapp.engine.models.classifiers import build_classifier
from trainingapp.engine.run_files import Order

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST_CONFUSION_SHOWN = 200
"""Classes up to which the confusion matrix goes into the event: beyond, one event would be megabytes."""


class ClassificationRecipe:
    """Trains torchvision's classifiers with cross-entropy."""

    best_metric = "top1"

    def __init__(
        self, order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        self._config: ClassificationConfig = order.config
        self._weights_cache_dir = order.weights_cache_dir
        self._dataset = dataset
        self._device = device
        self._mean_C11 = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1) * 255
        self._std_C11 = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1) * 255
        self._train = self._batches("train", unwanted_fds)
        self._val = self._batches("val", unwanted_fds)
        self.steps_per_epoch = self._train.count

    def build_model(self, *, pretrained: bool) -> nn.Module:
        model = build_classifier(
            self._config.model,
            class_count=len(self._dataset.classes),
            image_size=self._config.image_size,
            dropout_rate=self._config.dropout_rate,
            pretrained_from=self._weights_cache_dir if pretrained else None,
        )
        # Channels last: up to twice as fast on CPUs and on GPUs with tensor cores.
        return model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def train_batches(self, epoch: int, *, skip: int) -> Iterator[Batch]:
        return (batch.to(self._device) for batch in self._train.epoch(epoch, skip=skip))

    def val_batches(self) -> Iterator[Batch]:
        return (batch.to(self._device) for batch in self._val.epoch(1))

    def new_meter(self, *, validation: bool) -> ClassificationMeter:
        return ClassificationMeter(len(self._dataset.classes), self._device, confusion=validation)

    def loss(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> torch.Tensor:
        logits_NC = model(self._normalised(batch.images_NCHW))
        loss = F.cross_entropy(logits_NC, batch.labels_N, label_smoothing=self._config.label_smoothing)
        meter.update(loss, logits_NC, batch.labels_N)
        return loss

    def evaluate(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> None:
        logits_NC = model(self._normalised(batch.images_NCHW))
        meter.update(F.cross_entropy(logits_NC, batch.labels_N), logits_NC, batch.labels_N)

    def val_report(self, meter: ClassificationMeter) -> dict[str, Any]:
        confusion_CC = meter.confusion()
        accuracies = per_class_accuracy(confusion_CC)
        report: dict[str, Any] = {
            "values": meter.values(),
            "per_class": dict(zip(self._dataset.classes, accuracies, strict=True)),
        }
        if len(accuracies) <= LARGEST_CONFUSION_SHOWN:
            report["confusion"] = confusion_CC.tolist()
        return report

    def description(self) -> dict[str, Any]:
        return {
            "classes": list(self._dataset.classes),
            "dataset_fingerprint": self._dataset.fingerprint,
            "normalisation": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        }

    def _normalised(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 0..255 to float32 of about zero mean and unit spread, on the device: bytes travel faster."""
        images = images_NCHW.to(memory_format=torch.channels_last, dtype=torch.float32)
        return (images - self._mean_C11) / self._std_C11

    def _batches(self, split: Split, unwanted_fds: Sequence[int]) -> Batches:
        config, samples = self._config, self._samples(split)
        store = PictureStore(self._dataset.folder, samples, config.image_size, self._memory_limit())
        training = split == "train"
        source = BatchSource(
            store,
            [sample.label for sample in samples],
            config.batch_size,
            seed=config.seed,
            shuffle=training,
            augmentation=make_augmentation(config.augmentation, config.image_size) if training else None,
        )
        on_gpu = self._device.type == "cuda"
        return Batches(source, config.num_workers, pin_memory=on_gpu, unwanted_fds=unwanted_fds)

    def _samples(self, split: Split) -> list[Sample]:
        samples, least = self._dataset.split(split), 2 if split == "train" else 1
        if len(samples) < least:
            raise BadData(f"The {split} split has {len(samples)} pictures; it needs at least {least}.")
        return samples

    def _memory_limit(self) -> int:
        """All pictures are kept in memory or none: half a set in memory would only hide how slow the rest is."""
        needed = len(self._dataset.samples) * 3 * self._config.image_size**2
        return MEMORY_LIMIT_BYTES if needed <= MEMORY_LIMIT_BYTES else 0
