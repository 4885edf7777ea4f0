"""One label for each image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.run_directory import Order
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_caption
from trainingapp.engine.data.images import PixelStore, load_image
from trainingapp.engine.data.transforms import image_augmentation, switches
from trainingapp.engine.networks import build_network
from trainingapp.engine.tasks.classification.metrics import ClassificationMeter, ValidationRecord
from trainingapp.engine.tasks.classification.mixing import Mix, draw_mix, mixed
from trainingapp.engine.tasks.classification.networks import head_prefix
from trainingapp.engine.tasks.task import BaseTask


@dataclass(frozen=True)
class Batch:
    """`images_NCHW` is uint8, `labels_N` and `indices_N` int64; N may be smaller in the last batch of an epoch."""

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor
    indices_N: torch.Tensor
    mix: Mix | None = None

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        images, labels = self.images_NCHW.to(device, non_blocking=True), self.labels_N.to(device, non_blocking=True)
        return replace(self, images_NCHW=images, labels_N=labels)

    def pin_memory(self) -> "Batch":
        """Called by the DataLoader for GPUs."""
        return replace(self, images_NCHW=self.images_NCHW.pin_memory(), labels_N=self.labels_N.pin_memory())


class LabelledImages:
    """A split as items: uint8 [3, size, size] each."""

    def __init__(
        self, dataset: DatasetIndex, samples: Sequence[Sample], config: ClassificationConfig, memory_limit_bytes: int
    ) -> None:
        size = config.image_size
        paths = [dataset.folder / sample.path for sample in samples]
        self.sample_count = len(samples)
        self.labels_N = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
        self._alphas = (config.mixup, config.cutmix)
        self._augmentation = image_augmentation(switches(config), size)
        self._store = PixelStore(
            lambda index: load_image(paths[index], size),
            len(samples),
            (3, size, size),
            memory_limit_bytes=memory_limit_bytes,
        )

    def item(self, index: int) -> torch.Tensor:
        return self._store.get(index)

    def training_item(self, index: int) -> torch.Tensor:
        return cast(torch.Tensor, self._augmentation(self._store.get(index)))

    def collate(self, items: list[torch.Tensor], indices_N: torch.Tensor) -> Batch:
        return Batch(torch.stack(items), self.labels_N[indices_N], indices_N)

    def mix(self, batch: Batch) -> Batch:
        return replace(batch, mix=draw_mix(*self._alphas))


class ClassificationTask(BaseTask):
    """Trains torchvision's and timm's classifiers with cross-entropy."""

    def __init__(
        self, order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(order, dataset, device, unwanted_fds=unwanted_fds)
        assert isinstance(order.config, ClassificationConfig)
        self._config = order.config
        train, val = self._items("train"), self._items("val")
        counts_C = torch.bincount(train.labels_N, minlength=len(dataset.classes)).double().clamp(min=1)
        balance = self._config.class_balance
        self._class_weights_C = _balanced(counts_C).to(device) if balance == "weights" else None
        drawn_N = (1 / counts_C)[train.labels_N] if balance == "sampler" else None
        self._use(self._config, train, val, weights_N=drawn_N)

    def build_model(self, *, pretrained: bool) -> nn.Module:
        weights_from = self._weights_cache_dir if pretrained else None
        model = build_network(self._config, len(self._dataset.classes), weights_from=weights_from)
        return self._on_device(model, channels_last=self._config.channels_last)

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return (head_prefix(model),)

    def new_meter(self, *, validation: bool) -> ClassificationMeter:
        return ClassificationMeter(len(self._dataset.classes), self._device, validation=validation)

    def loss(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> torch.Tensor:
        images_NCHW = self._normalised(batch.images_NCHW, channels_last=self._config.channels_last)
        if batch.mix is None:
            logits_NC = model(images_NCHW)
            loss = self._cross_entropy(logits_NC, batch.labels_N)
        else:
            logits_NC = model(mixed(images_NCHW, batch.mix))
            own = self._cross_entropy(logits_NC, batch.labels_N)
            loss = batch.mix.keep * own + (1 - batch.mix.keep) * self._cross_entropy(logits_NC, batch.labels_N.roll(1))
        meter.update(loss, logits_NC, batch.labels_N)
        return loss

    def _cross_entropy(self, logits_NC: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        weight = None if self._class_weights_C is None else self._class_weights_C.to(logits_NC.dtype)
        return F.cross_entropy(logits_NC, labels_N, weight=weight, label_smoothing=self._config.label_smoothing)

    def evaluate(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> None:
        logits_NC = model(self._normalised(batch.images_NCHW, channels_last=self._config.channels_last)).float()
        losses_N = F.cross_entropy(logits_NC, batch.labels_N, reduction="none")
        meter.update(losses_N.mean(), logits_NC, batch.labels_N)
        meter.record(ValidationRecord.of(batch.indices_N, batch.labels_N, losses_N, logits_NC))

    def evaluation(self, meter: ClassificationMeter) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def draw_batch(self, batch: Batch) -> list[Image.Image]:
        images_NCHW = batch.images_NCHW.cpu()
        if batch.mix is not None:
            images_NCHW = mixed(images_NCHW.float(), batch.mix).round().to(torch.uint8)
        names = [self._caption(batch, number) for number in range(len(images_NCHW))]
        pairs = list(zip(images_NCHW, names, strict=True))[:BATCH_IMAGES_DRAWN]
        return [image_with_caption(image_CHW, name) for image_CHW, name in pairs]

    def _caption(self, batch: Batch, number: int) -> str:
        labels, classes = batch.labels_N.tolist(), self._dataset.classes
        own: str = classes[labels[number]]
        other: str = classes[labels[number - 1]]
        if batch.mix is None or own == other:
            return own
        return f"{own} {batch.mix.keep:.0%} + {other} {1 - batch.mix.keep:.0%}"

    def _items(self, split: Split) -> LabelledImages:
        samples = self._samples(split)
        if any(sample.label < 0 for sample in samples):
            raise BadData("Some images have no label of their own.")
        limit = self._memory_limit(3 * self._config.image_size**2)
        return LabelledImages(self._dataset, samples, self._config, limit)


def _balanced(counts_C: torch.Tensor) -> torch.Tensor:
    """Weights N / (C n_c), as scikit-learn's class_weight="balanced": rare classes count more, the mean image 1."""
    return (counts_C.sum() / (len(counts_C) * counts_C)).float()
