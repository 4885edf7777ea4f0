"""One label for each image."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages.tasks import IMAGE_WITHOUT_LABEL
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, top_classes
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_caption
from trainingapp.engine.tasks.classification.data import Batch, LabelledImages, balanced_weights
from trainingapp.engine.tasks.classification.metrics import ClassificationMeter, ValidationRecord
from trainingapp.engine.tasks.classification.mixing import mixed
from trainingapp.engine.tasks.classification.networks import build_classifier, head_prefix
from trainingapp.engine.tasks.task import BaseTask, Found


class ClassificationTask(BaseTask[Batch, ClassificationMeter, ClassificationMeter]):
    """Trains torchvision's and timm's classifiers with cross-entropy."""

    _config: ClassificationConfig

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(spec, dataset, device, unwanted_fds=unwanted_fds)
        train, val = self._items("train"), self._items("val")
        counts_C = torch.bincount(train.labels_N, minlength=len(dataset.classes)).double().clamp(min=1)
        balance = self._config.class_balance
        self._class_weights_C = balanced_weights(counts_C).to(device) if balance == "weights" else None
        drawn_N = (1 / counts_C)[train.labels_N] if balance == "sampler" else None
        self._use(train, val, weights_N=drawn_N)

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        assert isinstance(config, ClassificationConfig)
        return build_classifier(
            config.model,
            class_count=class_count,
            image_size=config.image_size,
            dropout_rate=config.dropout_rate,
            pretrained_from=weights_from if config.pretrained else None,
        )

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        return Found(classes=[(label, round(share, 5)) for label, share in top_classes(outputs[0])])

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return (head_prefix(model),)

    def training_meter(self) -> ClassificationMeter:
        return ClassificationMeter(len(self._dataset.classes), self._device)

    def validation_meter(self) -> ClassificationMeter:
        return ClassificationMeter(len(self._dataset.classes), self._device, validation=True)

    def loss(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> torch.Tensor:
        images_NCHW = self._normalised(batch.images_NCHW)
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

    def draw_batch(self, batch: Batch) -> list[Image.Image]:
        images_NCHW = batch.images_NCHW.cpu()
        if batch.mix is not None:
            images_NCHW = mixed(images_NCHW.float(), batch.mix).round().to(torch.uint8)
        shown = list(images_NCHW)[:BATCH_IMAGES_DRAWN]
        return [image_with_caption(image_CHW, self._caption(batch, number)) for number, image_CHW in enumerate(shown)]

    def _caption(self, batch: Batch, number: int) -> str:
        labels: list[int] = batch.labels_N.tolist()
        classes = self._dataset.classes
        own = classes[labels[number]]
        other = classes[labels[number - 1]]
        if batch.mix is None or own == other:
            return own
        return f"{own} {batch.mix.keep:.0%} + {other} {1 - batch.mix.keep:.0%}"

    def evaluate(self, model: nn.Module, batch: Batch, meter: ClassificationMeter) -> None:
        logits_NC = model(self._normalised(batch.images_NCHW)).float()
        losses_N = F.cross_entropy(logits_NC, batch.labels_N, reduction="none")
        meter.update(losses_N.mean(), logits_NC, batch.labels_N)
        meter.record(ValidationRecord.of(batch.indices_N, batch.labels_N, losses_N, logits_NC))

    def evaluation(self, meter: ClassificationMeter) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def _items(self, split: Split) -> LabelledImages:
        samples = self._samples(split)
        if any(sample.label < 0 for sample in samples):
            raise BadData(IMAGE_WITHOUT_LABEL())
        limit = self._memory_limit(3 * self._config.image_size**2)
        return LabelledImages(self._dataset, samples, self._config, limit)
