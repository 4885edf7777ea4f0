"""A class for each pixel."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.tasks import IMAGE_WITHOUT_MASK
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, mask, mask_shares
from trainingapp.contract.pretrained import AUTO
from trainingapp.contract.published_weights import Kind, Published
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.segmentation import SegmentationConfig
from trainingapp.engine.checkpoint_content import Normalisation
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_mask
from trainingapp.engine.data.images import letterbox
from trainingapp.engine.data.transforms import augmented_each
from trainingapp.engine.seeding import seeded
from trainingapp.engine.tasks.classification.from_timm import published_timm
from trainingapp.engine.tasks.segmentation.data import MaskedBatch, MaskedImages, balanced_weights
from trainingapp.engine.tasks.segmentation.from_smp import published_smp
from trainingapp.engine.tasks.segmentation.from_transformers import Mask2Former
from trainingapp.engine.tasks.segmentation.losses import pixel_loss
from trainingapp.engine.tasks.segmentation.metrics import SegmentationMeter
from trainingapp.engine.tasks.segmentation.networks import SMP, build_segmenter, segmenter_head_prefixes, timm_name
from trainingapp.engine.tasks.segmentation.upsampling import deterministic_upsampling
from trainingapp.engine.tasks.task import IMAGENET, BaseTask, Found
from trainingapp.engine.timm_facts import normalisation_of, published_remarks


class SegmentationTask(BaseTask[MaskedBatch, SegmentationMeter, SegmentationMeter]):
    """Trains the networks of `networks.py` on images with masks.

    A run of computation 1 keeps torch's deterministic upsampling on a GPU, which rounds in another order.
    """

    latest_computation = 2

    _config: SegmentationConfig

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(spec, dataset, device, unwanted_fds=unwanted_fds)
        #: K: the dataset's classes and the background
        self._class_count = len(dataset.classes) + 1
        self._fits = [letterbox(one.width, one.height, self._config.image_size) for one in dataset.split("val")]
        train, val = self._items("train"), self._items("val")
        is_balanced = self._config.class_weights == "balanced" and self._config.loss_type != "dice"
        self._weights_K = balanced_weights(train.pixel_counts()).to(device) if is_balanced else None
        self._train_items = train
        self._use(train, val)

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        assert isinstance(config, SegmentationConfig)
        return build_segmenter(
            config.model,
            class_count=class_count + 1,  # the background
            pretrained=config.pretrained if weights_from and config.pretrained != AUTO else "none",
            weights_cache_dir=weights_from or Path(),
            image_size=config.image_size,
        )

    @classmethod
    def normalisation_of(cls, config: BaseRunConfig) -> Normalisation:
        name = timm_name(config.model)
        return (normalisation_of(name) if name else None) or IMAGENET

    def remarks(self) -> list[Message]:
        """Images are padded to whole patches, so that those are no concern here."""
        name, config = timm_name(self._config.model), self._config
        return published_remarks(name, config.image_size) if name and config.pretrained == "backbone" else []

    @classmethod
    def published(cls, model: str) -> Mapping[Kind, Published]:
        if model.startswith(SMP):
            return published_smp(model.removeprefix(SMP))
        name = timm_name(model)
        return published_timm(name) if name else {}

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        mask_HW = mask(outputs[0], image)
        right, bottom = image.left + image.inner_width, image.top + image.inner_height
        sure_HW = outputs[0][0, :, image.top : bottom, image.left : right].max(axis=0)
        sureness_HW = (sure_HW * 255).astype(np.uint8)
        return Found(shares=mask_shares(mask_HW, card["classes"]), mask_HW=mask_HW, sureness_HW=sureness_HW)

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return segmenter_head_prefixes(self._config.model)

    def augmented(self, batch: MaskedBatch) -> MaskedBatch:
        if not batch.seeds:
            return batch
        items = list(zip(batch.images_NCHW, batch.masks_NHW, strict=True))
        images, masks = zip(*augmented_each(items, batch.seeds, self._train_items.augmented), strict=True)
        return replace(batch, images_NCHW=torch.stack(images), masks_NHW=torch.stack(masks), seeds=())

    def training_meter(self) -> SegmentationMeter:
        return SegmentationMeter(self._class_count, self._device)

    def validation_meter(self) -> SegmentationMeter:
        first = int(self._config.ignore_background)
        return SegmentationMeter(self._class_count, self._device, first_class=first, validation=True)

    def loss(self, model: nn.Module, batch: MaskedBatch, meter: SegmentationMeter) -> torch.Tensor:
        loss, logits_NKHW = self._loss_and_logits(model, batch)
        meter.update(loss, logits_NKHW, batch.masks_NHW)
        return loss

    def evaluate(self, model: nn.Module, batch: MaskedBatch, meter: SegmentationMeter) -> None:
        with seeded(self._device) if isinstance(model, Mask2Former) else nullcontext():
            loss, logits_NKHW = self._loss_and_logits(model, batch)
        guesses_NHW, confusion_NKK = meter.update_validation(loss, logits_NKHW, batch.masks_NHW)
        for place, index in enumerate(batch.indices_N.tolist()):
            fit = self._fits[index]
            guess_HW = guesses_NHW[place, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
            meter.record(index, confusion_NKK[place], guess_HW)

    def evaluation(self, meter: SegmentationMeter) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def draw_batch(self, batch: MaskedBatch) -> list[Image.Image]:
        pairs = zip(batch.images_NCHW.cpu(), batch.masks_NHW.cpu(), strict=True)
        return [image_with_mask(image_CHW, mask_HW) for image_CHW, mask_HW in list(pairs)[:BATCH_IMAGES_DRAWN]]

    def _loss_and_logits(self, model: nn.Module, batch: MaskedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and float32 [N, K, H, W]. A network with a loss of its own has it in place of `loss_type`."""
        images_NCHW = self._normalised(batch.images_NCHW)
        with deterministic_upsampling(self._device) if self.computation > 1 else nullcontext():
            if isinstance(model, Mask2Former):
                return model.loss_and_logits(images_NCHW, batch.masks_NHW)
            logits: torch.Tensor = model(images_NCHW)
        return self._loss(logits.float(), batch), logits.float()

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
            raise BadData(IMAGE_WITHOUT_MASK())
        limit = self._memory_limit(4 * self._config.image_size**2)
        return MaskedImages(self._dataset, samples, self._config, limit)
