"""The task of segmentation: its networks, its configuration and its descriptor."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import (
    AUTOMATIC,
    BACKBONE,
    MULTIPLE_OF_32,
    NONE,
    WHOLE,
    AugmentOn,
    BaseRunConfig,
    Compile,
)
from trainingapp.contract.limits import MAX_IMAGE_SIZE
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.published_weights import segmenter_weights
from trainingapp.contract.setting import Section, Setting, Unit, When, pgettext
from trainingapp.contract.tasks.descriptor import TaskDescriptor
from trainingapp.contract.tasks.foundation import FOUNDATION_BACKBONES, FOUNDATION_DEFAULTS

SMP_FAMILIES = ("unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer")
SMP_ENCODERS = ("resnet18", "resnet34", "mobilenet_v2", "efficientnet-b0")
SMP_DEFAULTS: dict[str, JsonValue] = {
    "epochs": 8,
    "batch_size": 8,
    "scheduler": "one-cycle",
    "warmup_epochs": 0.0,
    "amp": "on",
}
"""From scratch on a CPU: many small steps, in bfloat16 where the processor has it, which nearly doubles the speed."""

TIMM_ENCODERS = ("smp/unet_tu-convnextv2_atto", "smp/fpn_tu-convnextv2_atto", "smp/unet_tu-mobilenetv4_conv_small")

TRANSFORMER_DEFAULTS: dict[str, JsonValue] = {
    "batch_size": 8,
    "learning_rate": 0.0003,
    "weight_decay": 0.05,
}

TRANSFORMERS = {
    "hf/segformer_b0": 3_750_000,
    "hf/segformer_b1": 13_720_000,
    "hf/segformer_b2": 27_480_000,
    "hf/mask2former_swin_tiny": 47_440_000,
}
"""SegFormer (Xie et al., arXiv:2105.15203) and Mask2Former (Cheng et al., arXiv:2112.01527), with their parameters."""

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
    **{name: Architecture(defaults=dict(SMP_DEFAULTS)) for name in TIMM_ENCODERS},
    "timm/vit_tiny_patch16_224": Architecture(defaults=dict(TRANSFORMER_DEFAULTS)),
    **{name: Architecture(defaults={**FOUNDATION_DEFAULTS, "batch_size": 8}) for name in FOUNDATION_BACKBONES},
    **{name: Architecture(count, dict(TRANSFORMER_DEFAULTS)) for name, count in TRANSFORMERS.items()},
}
"""torchvision's, two families of it also on small ResNets, segmentation-models-pytorch's, of which any can be named as
smp/{architecture}_{encoder} (encoders of timm as tu-{name}), vision transformers of timm, and those of transformers."""


class SegmentationConfig(BaseRunConfig):
    """A label for each pixel."""

    architectures = SEGMENTERS
    open_libraries = ("smp/", "timm/")

    task: Annotated[
        Literal["segmentation"],
        Setting(
            _("Task"),
            _("What the model learns to do."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "segmentation"
    model: Annotated[
        str,
        Setting(
            _("Model"),
            _(
                "Network architecture. U-Net gives fine outlines and needs little data; LR-ASPP and FCN are the "
                "fastest; DINOv2 and DINOv3 are chosen for their published weights."
            ),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "smp/unet_resnet18"
    pretrained: Annotated[
        Literal["auto", "none", "backbone", "whole"],
        Setting(
            _("Pretrained"),
            _(
                "Starts from ImageNet weights of the backbone, or from published weights of the whole model. Automatic "
                "takes what is in the cache or can be downloaded, else the run trains from scratch."
            ),
            Section.MODEL,
            changes_result=True,
            labels={"auto": AUTOMATIC, "none": NONE, "backbone": BACKBONE, "whole": WHOLE},
            for_new_runs="auto",
        ),
    ] = "none"
    image_size: Annotated[
        int,
        Field(ge=64, le=MAX_IMAGE_SIZE),
        MULTIPLE_OF_32,
        Setting(
            _("Image size"),
            _("Fits images into a square with sides of this length and pads them; a multiple of 32."),
            Section.MODEL,
            changes_result=True,
            unit=Unit.PIXELS,
        ),
    ] = 96
    loss_type: Annotated[
        Literal["cross_entropy", "dice", "focal", "combined"],
        Setting(
            _("Loss"),
            _("Dice optimizes the overlap, focal emphasizes hard pixels; combined is cross-entropy with Dice."),
            Section.PIXELS,
            changes_result=True,
            labels={
                "cross_entropy": pgettext("a loss", "Cross-entropy"),
                "dice": "Dice",
                "focal": "Focal",
                "combined": pgettext("a loss", "Combined"),
            },
        ),
    ] = "combined"
    dice_weight: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            _("Dice weight"),
            _("Share of Dice in the combined loss."),
            Section.PIXELS,
            changes_result=True,
            when=When("loss_type", ("combined",)),
        ),
    ] = 0.5
    class_weights: Annotated[
        Literal["none", "balanced"],
        Setting(
            _("Class weights"),
            _("balanced gives classes with few pixels more weight in cross-entropy and focal loss."),
            Section.PIXELS,
            changes_result=True,
            when=When("loss_type", ("cross_entropy", "focal", "combined")),
            labels={"none": NONE, "balanced": pgettext("weights of classes", "Balanced")},
        ),
    ] = "none"
    ignore_background: Annotated[
        bool,
        Setting(
            _("Ignore background"),
            _("Excludes pixels without a class from the loss and from the metrics."),
            Section.PIXELS,
            changes_result=True,
            advanced=True,
        ),
    ] = False
    augment_on: AugmentOn = "cpu"
    compile: Compile = False
    best_metric: Annotated[
        Literal["mean_iou", "dice", "pixel_accuracy", "loss"],
        Setting(
            _("Model-selection metric"),
            _("Validation metric that determines the best checkpoint."),
            Section.SAVING,
            changes_result=False,
        ),
    ] = "mean_iou"


FINE_TUNING_RATES = {"smp/": 0.0001}
"""That of the examples of segmentation-models-pytorch, with Adam."""


TASK = TaskDescriptor(
    name="segmentation",
    label=_("Segmentation"),
    about=_("A label for each pixel"),
    icon="bi-palette",
    config=SegmentationConfig,
    implementation="trainingapp.engine.tasks.segmentation.task:SegmentationTask",
    published=segmenter_weights,
    fine_tuning_rates=FINE_TUNING_RATES,
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
