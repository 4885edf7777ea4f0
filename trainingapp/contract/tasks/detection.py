"""What a detection run can be told."""

from typing import Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.tasks.descriptor import TaskDescriptor

SMALL_DETECTOR: dict[str, JsonValue] = {
    "image_size": 96,
    "epochs": 12,
    "batch_size": 16,
    "anchor_scale": 0.5,
    "scheduler": "one-cycle",
    "ema_decay": 0.998,
    "amp": True,
}
"""For small images on a CPU: two cores train the demo scenes with them in a few minutes."""

LARGE_DETECTOR: dict[str, JsonValue] = {"image_size": 320, "batch_size": 8, "learning_rate": 0.0003}

DETECTORS: dict[str, Architecture] = {
    "fcos_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR),
    "fcos_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR),
    "fcos_resnet50_fpn": Architecture(32_269_600, LARGE_DETECTOR),
    "fcos_mobilenet_v3_large_fpn": Architecture(defaults=SMALL_DETECTOR),
    "retinanet_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "retinanet_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "retinanet_resnet50_fpn": Architecture(34_014_999, LARGE_DETECTOR),
    "retinanet_resnet50_fpn_v2": Architecture(38_198_935, LARGE_DETECTOR),
    "retinanet_mobilenet_v3_large_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet50_fpn": Architecture(41_755_286, LARGE_DETECTOR),
    "fasterrcnn_resnet50_fpn_v2": Architecture(43_712_278, LARGE_DETECTOR),
    "fasterrcnn_mobilenet_v3_large_fpn": Architecture(19_386_354, LARGE_DETECTOR),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Architecture(19_386_354, LARGE_DETECTOR),
    "ssd300_vgg16": Architecture(35_641_826, {"image_size": 320, "batch_size": 16, "learning_rate": 0.0003}),
    "ssdlite320_mobilenet_v3_large": Architecture(3_440_060, {"image_size": 320, "batch_size": 16}),
}
"""torchvision's families, some on smaller backbones than its own."""


class DetectionConfig(BaseRunConfig):
    """A box and a label for each object."""

    architectures = DETECTORS

    task: Literal["detection"] = Field(
        "detection",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name(DETECTORS) = Field(  # type: ignore[valid-type]
        "fcos_resnet18_fpn",
        description=_("Network: a family of detectors on a backbone. Small backbones train on a CPU."),
        json_schema_extra=meta(_("Model"), "model"),
    )
    pretrained: Literal["none", "backbone", "whole"] = Field(
        "none",
        description=_("Start from ImageNet weights of the backbone, or from COCO weights of the whole model."),
        json_schema_extra=meta(_("Pretrained"), "model"),
    )
    image_size: ImageSize = Field(
        128,
        ge=64,
        le=2048,
        description=_("Images are fitted into this square and padded; a multiple of 32."),
        json_schema_extra=meta(_("Image size"), "model", _("pixels")),
    )
    conf_thres: float = Field(
        0.01,
        ge=0,
        lt=1,
        description=_("Boxes with less confidence are not counted in validation. Keep it low: AP needs weak ones."),
        json_schema_extra=meta(_("Least confidence"), "boxes"),
    )
    iou_thres: float = Field(
        0.5,
        gt=0,
        le=1,
        description=_("Boxes of a class that overlap by more than this are one (non-maximum suppression)."),
        json_schema_extra=meta(_("Overlap of one object"), "boxes"),
    )
    max_det: int = Field(
        100,
        ge=1,
        le=1000,
        description=_("Most boxes for an image."),
        json_schema_extra=meta(_("Most boxes"), "boxes", _("boxes")),
    )
    anchor_scale: float = Field(
        1.0,
        ge=0.05,
        le=8,
        description=_(
            "Sizes of the boxes that the network starts from, times this: less than 1 for small objects or images. "
            "SSD takes its own from the size of the images."
        ),
        json_schema_extra=meta(_("Anchor scale"), "boxes", advanced=True),
    )
    mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description=_("How often a training image is put together from four."),
        json_schema_extra=meta(_("Mosaic"), "augmentation", advanced=True),
    )
    best_metric: Literal["ap", "ap50", "ap75", "f1"] = Field(
        "ap",
        description=_("The validation metric that decides which checkpoint is best."),
        json_schema_extra=meta(_("Best by"), "saving"),
    )


TASK = TaskDescriptor(
    name="detection",
    label=_("Detection"),
    about=_("A box and a label for each object"),
    icon="bi-bounding-box",
    config=DetectionConfig,
    implementation="trainingapp.engine.tasks.detection.task:DetectionTask",
    metrics={
        "ap": Metric(_("AP")),
        "ap50": Metric(_("AP50")),
        "ap75": Metric(_("AP75")),
        "ap_small": Metric(_("AP, small")),
        "ap_medium": Metric(_("AP, medium")),
        "ap_large": Metric(_("AP, large")),
        "ar": Metric(_("Average recall")),
        "f1": Metric(_("F1")),
    },
    quality_chart=(("f1", "val"), ("ap50", "val"), ("ap", "val"), ("ap75", "val")),
    has_validation_loss=False,  # torchvision's detectors compute their losses in training mode alone
    annotation="boxes",
    prediction="boxes",
    image_fit="letterbox",
    output_names=("boxes", "scores"),
    outputs_help=(
        "`boxes` [B, 4] (or [B, classes, 4]), left, top, right, bottom in pixels of the square, and `scores` "
        "[B, classes], before any threshold and before non-maximum suppression: `predict.py` does both."
    ),
    drill={"model": "fcos_resnet18_fpn", "batch_size": 8, "epochs": 2, "ema_decay": 0.9},
)
