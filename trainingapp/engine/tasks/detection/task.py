"""A box and a label for each object."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.export_options import ExportOptions
from trainingapp.contract.messages.tasks import SPLIT_WITHOUT_BOX
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, candidates, rounded
from trainingapp.contract.pretrained import AUTO
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.contract.tasks.instances import InstancesConfig
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_boxes
from trainingapp.engine.data.images import letterbox
from trainingapp.engine.plain_outputs import Outputs
from trainingapp.engine.seeding import derived_seed
from trainingapp.engine.tasks.detection.data import BoxBatch, BoxedImages
from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.detection.metrics import DetectionRecords, ImageResult, LossMeter
from trainingapp.engine.tasks.detection.networks import (
    LOSS_NAMES,
    DetectorOptions,
    build_detector,
    first_label,
    head_prefixes,
    keep_anchors_in_float32,
    loss_parts,
)
from trainingapp.engine.tasks.detection.plain_outputs import box_differences, export_detector, plain_detector
from trainingapp.engine.tasks.detection.validation_loss import boxes_and_losses
from trainingapp.engine.tasks.task import BaseTask, Found

LEAST_CONFIDENCE = 0.02
"""Boxes below it are left out of predictions; the page's threshold begins here."""

MOST_BOXES = 300
"""Boxes of a prediction, before suppression."""


class DetectionTask(BaseTask[BoxBatch, LossMeter, DetectionRecords]):
    """Trains torchvision's detectors with their own losses, computed over the whole batch.

    A run of computation 1 keeps torchvision's code, whose sums have another order, and its anchors, which are rounded
    to the number format of the feature maps.
    """

    latest_computation = 2

    _config: DetectionConfig

    # The newer exporter cannot trace a selection of proposals that depends on the image, and is slower with detectors.
    onnx_dynamo = False

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(spec, dataset, device, unwanted_fds=unwanted_fds)
        self._first_label = first_label(spec.config.model)
        self._val_samples = self._samples("val")
        self._val_items = self._items("val")
        self._use(self._items("train"), self._val_items)

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        assert isinstance(config, DetectionConfig)
        pretrained = "none" if config.pretrained == AUTO else config.pretrained  # not decided: without a run
        options = detector_options(config, class_count, frozen_norms=pretrained != "none")
        return build_detector(config.model, options, pretrained=pretrained, weights_from=weights_from)

    @classmethod
    def plain_network(cls, network: nn.Module, image_size: int) -> nn.Module:
        return plain_detector(network, image_size)

    @classmethod
    def outputs_by_image(cls, plain: nn.Module, images_NCHW: torch.Tensor) -> list[Outputs]:
        found: list[Outputs] = plain.by_image(images_NCHW)  # type: ignore[operator]
        return found

    @classmethod
    def export_network(cls, network: nn.Module, card: Card, options: ExportOptions) -> nn.Module:
        return export_detector(network, card, options)

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        return Found(boxes=rounded(candidates(outputs[0], outputs[1], image, LEAST_CONFIDENCE, MOST_BOXES)))

    @classmethod
    def output_differences(
        cls, card: Card, expected: Sequence[Floats], found: Sequence[Floats]
    ) -> tuple[float, float | None]:
        return box_differences(card, expected, found)

    def build_model(self, *, pretrained: bool) -> nn.Module:
        model = super().build_model(pretrained=pretrained)
        if self.computation > 1:
            keep_anchors_in_float32(model)
        return model

    @property
    def closing_epochs(self) -> int:
        return self._config.mosaic_close_epochs if self._config.mosaic else 0

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return head_prefixes(model)

    def training_meter(self) -> LossMeter:
        return LossMeter(loss_parts(self._config.model), self._device)

    def validation_meter(self) -> DetectionRecords:
        return DetectionRecords()

    def loss(self, model: nn.Module, batch: BoxBatch, meter: LossMeter) -> torch.Tensor:
        images_NCHW = self._normalised(batch.images_NCHW)
        targets = self._targets(batch)
        losses: dict[str, torch.Tensor] = (
            detector_losses(model, images_NCHW, targets)
            if self.computation > 1
            else model(images_NCHW, targets.by_image())
        )
        parts = {LOSS_NAMES[name]: part for name, part in losses.items()}
        loss = torch.stack(list(parts.values())).sum()
        meter.update(loss, parts, len(images_NCHW))
        return loss

    def draw_batch(self, batch: BoxBatch) -> list[Image.Image]:
        pairs = list(zip(batch.images_NCHW.cpu(), batch.by_image(), strict=True))[:BATCH_IMAGES_DRAWN]
        classes = self._dataset.classes
        return [image_with_boxes(image, boxes.cpu(), labels.cpu(), classes) for image, (boxes, labels) in pairs]

    def evaluate(self, model: nn.Module, batch: BoxBatch, meter: DetectionRecords) -> None:
        indices = batch.indices_N.tolist()
        targets = self._val_targets(indices)
        seed = derived_seed(self._config.seed, "validation loss", *indices[:1])
        found, losses = boxes_and_losses(model, self._normalised(batch.images_NCHW), targets, seed=seed)
        meter.add_loss(torch.stack(list(losses.values())).sum(), len(indices))
        for index, one in zip(indices, found, strict=True):
            meter.add(self._result(index, one))

    def evaluation(self, meter: DetectionRecords) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def _targets(self, batch: BoxBatch) -> PaddedTargets:
        return PaddedTargets.of(batch.boxes_NM4, batch.labels_NM, batch.counts, self._first_label)

    def _val_targets(self, indices: list[int]) -> PaddedTargets:
        """The targets of validation images, on the device."""
        boxes, labels = zip(*(self._val_items.target(index) for index in indices), strict=True)
        boxes_NM4, labels_NM = (part.to(self._device) for part in padded(boxes, labels))
        return PaddedTargets.of(boxes_NM4, labels_NM, [len(one) for one in labels], self._first_label)

    def _result(self, index: int, one: dict[str, torch.Tensor]) -> ImageResult:
        """The truth of a validation image and what the network has found in it."""
        sample = self._val_samples[index]
        labels_D, scores_D = one["labels"].cpu().long() - self._first_label, one["scores"].float().cpu()
        return ImageResult.of(index, sample.boxes, self._upright(sample, one["boxes"]), labels_D, scores_D)

    def _upright(self, sample: Sample, boxes_xyxy: torch.Tensor) -> torch.Tensor:
        """float64 [D, 4] in pixels of the upright image instead of the square, as COCO's metrics sort objects by their
        area."""
        fit = letterbox(sample.width, sample.height, self._config.image_size)
        moved_xyxy = boxes_xyxy.float().cpu().double() - torch.tensor([fit.left, fit.top] * 2)
        moved_xyxy = moved_xyxy / torch.tensor([fit.scale_x, fit.scale_y] * 2, dtype=torch.float64)
        rim = torch.tensor([sample.width, sample.height] * 2, dtype=torch.float64)
        return moved_xyxy.clamp(min=torch.zeros(4, dtype=torch.float64), max=rim)

    def _items(self, split: Split) -> BoxedImages:
        samples = self._samples(split)
        self._check_boxes(samples, split)
        return BoxedImages(self._dataset, samples, self._config, self._memory_limit(3 * self._config.image_size**2))

    def _check_boxes(self, samples: Sequence[Sample], split: Split) -> None:
        """Raises BadData for a split without any object."""
        if all(box.crowd for sample in samples for box in sample.boxes):
            raise BadData(SPLIT_WITHOUT_BOX(split=split))


def detector_options(
    config: DetectionConfig | InstancesConfig, class_count: int, *, frozen_norms: bool
) -> DetectorOptions:
    """What a configuration with boxes says about its network."""
    return DetectorOptions(
        class_count=class_count,
        image_size=config.image_size,
        score_thresh=config.conf_thres,
        nms_thresh=config.iou_thres,
        detections_per_img=config.max_det,
        anchor_scale=config.anchor_scale,
        frozen_norms=frozen_norms,
    )
