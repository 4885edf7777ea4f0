"""A class for each pixel."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.dataset_index import DatasetIndex, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.run_directory import Order
from trainingapp.contract.tasks.segmentation import SegmentationConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_mask
from trainingapp.engine.data.images import Fit, letterbox
from trainingapp.engine.networks import build_network
from trainingapp.engine.tasks.segmentation.data import MaskedBatch, MaskedImages, balanced_weights
from trainingapp.engine.tasks.segmentation.losses import pixel_loss
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter
from trainingapp.engine.tasks.segmentation.networks import segmenter_head_prefixes
from trainingapp.engine.tasks.task import BaseTask


class SegmentationTask(BaseTask):
    """Trains torchvision's and segmentation-models-pytorch's networks on images with masks."""

    def __init__(
        self, order: Order, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(order, dataset, device, unwanted_fds=unwanted_fds)
        assert isinstance(order.config, SegmentationConfig)
        self._config = order.config
        #: K: the dataset's classes and the background
        self._class_count = len(dataset.classes) + 1
        self._fits = [letterbox(one.width, one.height, self._config.image_size) for one in dataset.split("val")]
        train, val = self._items("train"), self._items("val")
        is_balanced = self._config.class_weights == "balanced" and self._config.loss_type != "dice"
        self._weights_K = balanced_weights(train.pixel_counts()).to(device) if is_balanced else None
        self._use(self._config, train, val)

    def build_model(self, *, pretrained: bool) -> nn.Module:
        weights_from = self._weights_cache_dir if pretrained else None
        model = build_network(self._config, len(self._dataset.classes), weights_from=weights_from)
        return self._on_device(model, channels_last=self._config.channels_last)

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return segmenter_head_prefixes(self._config.model)

    def new_meter(self, *, validation: bool) -> SegmentationMeter:
        first = int(self._config.ignore_background)
        return SegmentationMeter(self._class_count, self._device, first_class=first, validation=validation)

    def loss(self, model: nn.Module, batch: MaskedBatch, meter: SegmentationMeter) -> torch.Tensor:
        logits_NKHW = self._logits(model, batch)
        loss = self._loss(logits_NKHW, batch)
        meter.update(loss, logits_NKHW, batch.masks_NHW)
        return loss

    def evaluate(self, model: nn.Module, batch: MaskedBatch, meter: SegmentationMeter) -> None:
        logits_NKHW = self._logits(model, batch)
        loss = self._loss(logits_NKHW, batch)
        guesses_NHW, confusion_NKK = meter.update_validation(loss, logits_NKHW, batch.masks_NHW)
        for place, index in enumerate(batch.indices_N.tolist()):
            meter.record(index, confusion_NKK[place], _without_padding(guesses_NHW[place], self._fits[index]))

    def evaluation(self, meter: SegmentationMeter) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def draw_batch(self, batch: MaskedBatch) -> list[Image.Image]:
        pairs = zip(batch.images_NCHW.cpu(), batch.masks_NHW.cpu(), strict=True)
        return [image_with_mask(image_CHW, mask_HW) for image_CHW, mask_HW in list(pairs)[:BATCH_IMAGES_DRAWN]]

    def _logits(self, model: nn.Module, batch: MaskedBatch) -> torch.Tensor:
        """float32 [N, K, H, W]."""
        logits: torch.Tensor = model(self._normalised(batch.images_NCHW, channels_last=self._config.channels_last))
        return logits.float()

    def _loss(self, logits_NKHW: torch.Tensor, batch: MaskedBatch) -> torch.Tensor:
        return pixel_loss(
            self._config.loss_type,
            logits_NKHW,
            batch.masks_NHW,
            weights_K=self._weights_K,
            dice_weight=self._config.dice_weight,
        )

    def _items(self, split: Split) -> MaskedImages:
        samples = self._samples(split)
        if not all(sample.mask for sample in samples):
            raise BadData("Some images have no mask.")
        limit = self._memory_limit(4 * self._config.image_size**2)
        return MaskedImages(self._dataset, samples, self._config, limit)


def _without_padding(mask_HW: torch.Tensor, fit: Fit) -> torch.Tensor:
    return mask_HW[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
