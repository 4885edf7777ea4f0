"""A box, a label and a mask for each object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.export_options import ExportOptions
from trainingapp.contract.messages import MessageError
from trainingapp.contract.messages.tasks import IMAGE_WITHOUT_OUTLINES
from trainingapp.contract.messages.weights import EXPORT_TWO_STAGES
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, instances, mask_in_box, rounded
from trainingapp.contract.pretrained import AUTO
from trainingapp.contract.run_lengths import encoded, read_outlines
from trainingapp.contract.tasks.instances import InstancesConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_objects
from trainingapp.engine.tasks.detection.data import BoxBatch
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets
from trainingapp.engine.tasks.detection.task import DetectionTask, detector_options
from trainingapp.engine.tasks.instances.data import InstanceBatch, InstanceImages, targets_of
from trainingapp.engine.tasks.instances.losses import unpacked
from trainingapp.engine.tasks.instances.metrics import InstanceRecords, InstanceResult
from trainingapp.engine.tasks.instances.networks import build_instance_network
from trainingapp.engine.tasks.instances.plain_outputs import PlainInstances, instance_differences
from trainingapp.engine.tasks.task import Found

LEAST_CONFIDENCE = 0.05
"""Objects below it are left out of predictions: a mask is computed for each."""


class InstancesTask(DetectionTask):
    """Trains Mask R-CNN. Boxes and classes are those of detection."""

    _config: InstancesConfig  # type: ignore[assignment]
    _val_items: InstanceImages  # type: ignore[assignment]

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        assert isinstance(config, InstancesConfig)
        pretrained = "none" if config.pretrained == AUTO else config.pretrained  # not decided: without a run
        options = detector_options(config, class_count, frozen_norms=pretrained != "none")
        return build_instance_network(config.model, options, pretrained=pretrained, weights_from=weights_from)

    @classmethod
    def plain_network(cls, network: nn.Module, image_size: int) -> nn.Module:
        heads: Any = network.roi_heads
        limits = {"confidence": LEAST_CONFIDENCE, "iou": heads.nms_thresh, "limit": heads.detections_per_img}
        return PlainInstances(network.eval(), image_size, **limits).eval()

    @classmethod
    def plain_network_of(cls, network: nn.Module, card: Card) -> nn.Module:
        limits = {"confidence": LEAST_CONFIDENCE, "iou": card["iou"], "limit": card["max_boxes"]}
        return PlainInstances(network.eval(), card["image_size"], **limits).eval()

    @classmethod
    def export_network(cls, network: nn.Module, card: Card, options: ExportOptions) -> nn.Module:
        if options.is_dynamic:
            raise MessageError(EXPORT_TWO_STAGES())
        return cls.plain_network_of(network, card)

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        rows, counts = instances(outputs, image, LEAST_CONFIDENCE)
        return Found(boxes=rounded(rows), masks=counts)

    @classmethod
    def output_differences(
        cls, card: Card, expected: Sequence[Floats], found: Sequence[Floats]
    ) -> tuple[float, float | None]:
        return instance_differences(expected, found)

    def validation_meter(self) -> InstanceRecords:
        return InstanceRecords()

    def draw_batch(self, batch: BoxBatch) -> list[Image.Image]:
        assert isinstance(batch, InstanceBatch)
        planes_PHW, drawn = batch.planes_PHW.cpu(), []
        images = zip(batch.images_NCHW.cpu(), batch.by_image(), batch.places_NM.cpu(), strict=True)
        for image_CHW, (boxes, labels), places_M in list(images)[:BATCH_IMAGES_DRAWN]:
            masks = unpacked(planes_PHW, places_M[: len(labels)])
            drawn.append(image_with_objects(image_CHW, boxes.cpu(), labels.cpu(), masks, self._dataset.classes))
        return drawn

    def _targets(self, batch: BoxBatch) -> PaddedTargets:
        assert isinstance(batch, InstanceBatch)
        return batch.targets(self._first_label)

    def _val_targets(self, indices: list[int]) -> PaddedTargets:
        return targets_of([self._val_items.target(index) for index in indices], self._first_label).to(self._device)

    def _result(self, index: int, one: dict[str, torch.Tensor]) -> InstanceResult:
        sample = self._val_samples[index]
        boxes_D4 = self._upright(sample, one["boxes"])
        chances_Dmm = one["masks"][:, 0].float().cpu().numpy()
        counts = []
        for box, chances_mm in zip(boxes_D4.tolist(), chances_Dmm, strict=True):
            has_area = box[2] > box[0] and box[3] > box[1]
            inside = mask_in_box(chances_mm, box, sample.width, sample.height) if has_area else (chances_mm > 1, 0, 0)
            counts.append(encoded(inside[0], sample.height, sample.width, inside[1], inside[2]))
        labels_D, scores_D = one["labels"].cpu().long() - self._first_label, one["scores"].float().cpu()
        truth = self._true_masks(sample)
        return InstanceResult.with_masks(index, sample, truth, boxes_D4, labels_D, scores_D, counts)

    def _true_masks(self, sample: Sample) -> list[str]:
        return read_outlines(self._dataset.folder / sample.outlines) if sample.boxes else []

    def _items(self, split: Split) -> InstanceImages:  # type: ignore[override]
        samples = self._samples(split)
        self._check_boxes(samples, split)
        if not all(sample.outlines for sample in samples if sample.boxes):
            raise BadData(IMAGE_WITHOUT_OUTLINES())
        limit = self._memory_limit(3 * self._config.image_size**2)
        return InstanceImages(self._dataset, samples, self._config, limit)
