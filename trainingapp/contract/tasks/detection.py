"""What a detection run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name


class DetectionConfig(BaseRunConfig):
    """A box and a label for each object."""

    task: Literal["detection"] = Field(
        "detection",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name("detection") = Field(  # type: ignore[valid-type]
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
