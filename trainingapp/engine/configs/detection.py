"""What a detection run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.engine.configs.base import BaseRunConfig, ImageSize, meta, model_name, noop


class DetectionConfig(BaseRunConfig):
    """A box and a label for each object."""

    recipe: Literal["detection"] = Field(
        "detection",
        description=noop("What the model learns to do."),
        json_schema_extra=meta(noop("Recipe"), "model"),
    )
    model: model_name("detection") = Field(  # type: ignore[valid-type]
        "fcos_resnet18_fpn",
        description=noop("Network: a family of detectors on a backbone. Small backbones train on a CPU."),
        json_schema_extra=meta(noop("Model"), "model"),
    )
    pretrained: Literal["none", "backbone", "whole"] = Field(
        "none",
        description=noop("Start from ImageNet weights of the backbone, or from COCO weights of the whole model."),
        json_schema_extra=meta(noop("Pretrained"), "model"),
    )
    image_size: ImageSize = Field(
        128,
        ge=64,
        le=2048,
        description=noop("Pictures are fitted into this square and padded; a multiple of 32."),
        json_schema_extra=meta(noop("Image size"), "model", noop("pixels")),
    )
    conf_thres: float = Field(
        0.01,
        ge=0,
        lt=1,
        description=noop("Boxes with less confidence are not counted in validation. Keep it low: AP needs weak ones."),
        json_schema_extra=meta(noop("Least confidence"), "boxes"),
    )
    iou_thres: float = Field(
        0.5,
        gt=0,
        le=1,
        description=noop("Boxes of a class that overlap by more than this are one (non-maximum suppression)."),
        json_schema_extra=meta(noop("Overlap of one object"), "boxes"),
    )
    max_det: int = Field(
        100,
        ge=1,
        le=1000,
        description=noop("Most boxes for a picture."),
        json_schema_extra=meta(noop("Most boxes"), "boxes", noop("boxes")),
    )
    anchor_scale: float = Field(
        1.0,
        ge=0.05,
        le=8,
        description=noop(
            "Sizes of the boxes that the network starts from, times this: less than 1 for small objects or pictures. "
            "SSD takes its own from the size of the pictures."
        ),
        json_schema_extra=meta(noop("Anchor scale"), "boxes", advanced=True),
    )
    mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description=noop("How often a training picture is put together from four."),
        json_schema_extra=meta(noop("Mosaic"), "augmentation", advanced=True),
    )
    best_metric: Literal["ap", "ap50", "ap75", "f1"] = Field(
        "ap",
        description=noop("The validation metric that decides which checkpoint is best."),
        json_schema_extra=meta(noop("Best by"), "saving"),
    )
