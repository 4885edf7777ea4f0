"""What a segmentation run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name


class SegmentationConfig(BaseRunConfig):
    """A label for each pixel."""

    task: Literal["segmentation"] = Field(
        "segmentation",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name("segmentation", any_of=["smp/"]) = Field(  # type: ignore[valid-type]
        "smp/unet_resnet18",
        description=_("Network. U-Net draws fine outlines and learns from little; LR-ASPP and FCN are the quickest."),
        json_schema_extra=meta(_("Model"), "model"),
    )
    pretrained: Literal["none", "backbone", "whole"] = Field(
        "none",
        description=_("Start from ImageNet weights of the backbone, or from published weights of the whole model."),
        json_schema_extra=meta(_("Pretrained"), "model"),
    )
    image_size: ImageSize = Field(
        96,
        ge=64,
        le=2048,
        description=_("Images are fitted into this square and padded; a multiple of 32."),
        json_schema_extra=meta(_("Image size"), "model", _("pixels")),
    )
    loss_type: Literal["cross_entropy", "dice", "focal", "combined"] = Field(
        "combined",
        description=_("Dice looks at the overlap, focal at hard pixels; combined is cross-entropy with dice."),
        json_schema_extra=meta(_("Loss"), "pixels"),
    )
    dice_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description=_("Share of dice in the combined loss."),
        json_schema_extra=meta(_("Share of dice"), "pixels"),
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description=_("balanced: classes of few pixels count more in cross-entropy and focal loss."),
        json_schema_extra=meta(_("Class weights"), "pixels"),
    )
    ignore_background: bool = Field(
        False,
        description=_("Leave pixels of no class out of the loss and of the metrics, as if nobody knew them."),
        json_schema_extra=meta(_("Ignore the background"), "pixels", advanced=True),
    )
    best_metric: Literal["mean_iou", "dice", "pixel_accuracy", "loss"] = Field(
        "mean_iou",
        description=_("The validation metric that decides which checkpoint is best."),
        json_schema_extra=meta(_("Best by"), "saving"),
    )
