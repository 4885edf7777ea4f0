"""A box and a label for each object."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.run_directory import Order
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_boxes
from trainingapp.engine.data.images import letterbox
from trainingapp.engine.networks import build_network
from trainingapp.engine.tasks.detection.data import BoxBatch, BoxedImages
from trainingapp.engine.tasks.detection.metrics import DetectionRecords, ImageResult, LossMeter
from trainingapp.engine.tasks.detection.networks import LOSS_NAMES, first_label, head_prefixes, loss_parts
from trainingapp.engine.tasks.task import BaseTask


class DetectionTask(BaseTask):
    """Trains torchvision's detectors with their own losses. Validation gives no loss: they have none there."""

    def __init__(
        self, order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(order, dataset, device, unwanted_fds=unwanted_fds)
        assert isinstance(order.config, DetectionConfig)
        self._config = order.config
        self._first_label = first_label(order.config.model)
        self._val_samples = self._samples("val")
        self._use(order.config, self._items("train"), self._items("val"))

    def build_model(self, *, pretrained: bool) -> nn.Module:
        weights_from = self._weights_cache_dir if pretrained else None
        model = build_network(self._config, len(self._dataset.classes), weights_from=weights_from)
        return self._on_device(model, channels_last=self._config.channels_last)

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return head_prefixes(model)

    def new_meter(self, *, validation: bool) -> LossMeter | DetectionRecords:
        return DetectionRecords() if validation else LossMeter(loss_parts(self._config.model), self._device)

    def loss(self, model: nn.Module, batch: BoxBatch, meter: LossMeter) -> torch.Tensor:
        images_NCHW = self._normalised(batch.images_NCHW, channels_last=self._config.channels_last)
        targets = [{"boxes": boxes, "labels": labels + self._first_label} for boxes, labels in batch.by_image()]
        parts: dict[str, torch.Tensor] = {LOSS_NAMES[name]: part for name, part in model(images_NCHW, targets).items()}
        loss = torch.stack(list(parts.values())).sum()
        meter.update(loss, parts, len(images_NCHW))
        return loss

    def evaluate(self, model: nn.Module, batch: BoxBatch, meter: DetectionRecords) -> None:
        found = model(self._normalised(batch.images_NCHW, channels_last=self._config.channels_last))
        for index, one in zip(batch.indices_N.tolist(), found, strict=True):
            meter.add(self._result(index, {name: tensor.float().cpu() for name, tensor in one.items()}))

    def evaluation(self, meter: DetectionRecords) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def draw_batch(self, batch: BoxBatch) -> list[Image.Image]:
        pairs = list(zip(batch.images_NCHW.cpu(), batch.by_image(), strict=True))[:BATCH_IMAGES_DRAWN]
        classes = self._dataset.classes
        return [image_with_boxes(image, boxes.cpu(), labels.cpu(), classes) for image, (boxes, labels) in pairs]

    def _result(self, index: int, found: dict[str, torch.Tensor]) -> ImageResult:
        """What was found, in pixels of the upright image."""
        sample = self._val_samples[index]
        fit = letterbox(sample.width, sample.height, self._config.image_size)
        boxes_xyxy = found["boxes"].double() - torch.tensor([fit.left, fit.top] * 2)
        boxes_xyxy = boxes_xyxy / torch.tensor([fit.scale_x, fit.scale_y] * 2, dtype=torch.float64)
        rim = torch.tensor([sample.width, sample.height] * 2, dtype=torch.float64)
        boxes_xyxy = boxes_xyxy.clamp(min=torch.zeros(4, dtype=torch.float64), max=rim)
        labels = found["labels"].long() - self._first_label
        return ImageResult.of(index, sample.boxes, boxes_xyxy, labels, found["scores"])

    def _items(self, split: Split) -> BoxedImages:
        samples = self._samples(split)
        if not any(_objects(sample) for sample in samples):
            raise BadData(f"No image of the {split} split has a box.")
        return BoxedImages(self._dataset, samples, self._config, self._memory_limit(3 * self._config.image_size**2))


def _objects(sample: Sample) -> list[Any]:
    return [box for box in sample.boxes if not box.crowd]
