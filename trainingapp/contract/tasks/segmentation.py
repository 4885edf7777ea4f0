"""What a segmentation run can be told."""

from typing import Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.tasks.descriptor import TaskDescriptor

SMP_FAMILIES = ("unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer")
SMP_ENCODERS = ("resnet18", "resnet34", "mobilenet_v2", "efficientnet-b0")
SMP_DEFAULTS: dict[str, JsonValue] = {
    "epochs": 8,
    "batch_size": 8,
    "scheduler": "one-cycle",
    "warmup_epochs": 0.0,
    "amp": True,
}
"""From scratch on a CPU: many small steps, in bfloat16 where the processor has it, which nearly doubles the speed."""

SEGMENTERS: dict[str, Architecture] = {
    "lraspp_mobilenet_v3_large": Architecture(3_221_538),
    "deeplabv3_mobilenet_v3_large": Architecture(11_029_328),
    "deeplabv3_resnet18": Architecture(),
    "deeplabv3_resnet34": Architecture(),
    "deeplabv3_resnet50": Architecture(42_004_074),
    "fcn_resnet18": Architecture(),
    "fcn_resnet34": Architecture(),
    "fcn_resnet50": Architecture(35_322_218),
    **{
        f"smp/{family}_{encoder}": Architecture(defaults=dict(SMP_DEFAULTS))
        for family in SMP_FAMILIES
        for encoder in SMP_ENCODERS
    },
}
"""torchvision's, two families of it also on small ResNets, and segmentation-models-pytorch's, of which any can be named
as smp/{architecture}_{encoder}."""


class SegmentationConfig(BaseRunConfig):
    """A label for each pixel."""

    architectures = SEGMENTERS
    open_libraries = ("smp/",)

    task: Literal["segmentation"] = Field(
        "segmentation",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name(SEGMENTERS, open_libraries) = Field(  # type: ignore[valid-type]
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


TASK = TaskDescriptor(
    name="segmentation",
    label=_("Segmentation"),
    about=_("A label for each pixel"),
    icon="bi-palette",
    config=SegmentationConfig,
    implementation="trainingapp.engine.tasks.segmentation.task:SegmentationTask",
    metrics={
        "loss": LOSS,
        "mean_iou": Metric(_("Mean IoU")),
        "dice": Metric(_("Dice")),
        "pixel_accuracy": Metric(_("Pixel accuracy")),
    },
    quality_chart=(("pixel_accuracy", "train"), ("mean_iou", "val"), ("dice", "val"), ("pixel_accuracy", "val")),
    annotation="masks",
    prediction="mask",
    image_fit="letterbox",
    output_names=("probabilities",),
    outputs_help="`probabilities` [1, 1 + classes, height, width]; the first is the background.",
    drill={"model": "lraspp_mobilenet_v3_large", "batch_size": 8, "epochs": 2},
)
