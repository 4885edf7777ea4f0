"""What a classification run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.tasks.descriptor import TaskDescriptor

CLASSIFIERS: dict[str, Architecture] = {
    "resnet18": Architecture(11_689_512),
    "resnet34": Architecture(21_797_672),
    "resnet50": Architecture(25_557_032),
    "mobilenet_v3_small": Architecture(2_542_856),
    "mobilenet_v3_large": Architecture(5_483_032),
    "efficientnet_b0": Architecture(5_288_548),
    "convnext_tiny": Architecture(28_589_128, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "vit_b_16": Architecture(86_567_656, {"learning_rate": 0.0003, "weight_decay": 0.05, "warmup_epochs": 3.0}),
    "timm/resnet10t": Architecture(5_440_000),
    "timm/mobilenetv4_conv_small": Architecture(3_770_000),
    "timm/efficientnet_lite0": Architecture(4_650_000),
    "timm/regnety_002": Architecture(3_160_000),
    "timm/convnext_atto": Architecture(3_700_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "timm/convnextv2_nano": Architecture(15_620_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "timm/efficientnetv2_rw_t": Architecture(13_650_000),
    "timm/vit_tiny_patch16_224": Architecture(5_720_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
}
"""torchvision's, with the parameters that its model pages give, and timm's, rounded; others can be named too."""


class ClassificationConfig(BaseRunConfig):
    """One label for each image."""

    architectures = CLASSIFIERS
    open_libraries = ("timm/",)

    task: Literal["classification"] = Field(
        "classification",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name(CLASSIFIERS, open_libraries) = Field(  # type: ignore[valid-type]
        "resnet18",
        description=_("Network. resnet18 learns quickly everywhere; mobilenet_v3 is small; convnext_tiny is strong."),
        json_schema_extra=meta(_("Model"), "model"),
    )
    pretrained: bool = Field(
        False,
        description=_("Start from the library's ImageNet weights; they are downloaded once."),
        json_schema_extra=meta(_("Pretrained"), "model"),
    )
    image_size: ImageSize = Field(
        64,
        ge=32,
        le=1024,
        description=_("Images are scaled to this square; a multiple of 32."),
        json_schema_extra=meta(_("Image size"), "model", _("pixels")),
    )
    dropout_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=_("Share of the features dropped before the last layer while training."),
        json_schema_extra=meta(_("Dropout"), "model", advanced=True),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=_("Share of the label spread over all classes, against overconfidence."),
        json_schema_extra=meta(_("Label smoothing"), "training", advanced=True),
    )
    class_balance: Literal["none", "weights", "sampler"] = Field(
        "none",
        description=_("For rare classes: weights in the loss, or a sampler that draws every class equally often."),
        json_schema_extra=meta(_("Class balance"), "training", advanced=True),
    )
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = Field(
        "none",
        description=_("Random sequences of many small changes, as published under these names."),
        json_schema_extra=meta(_("Automatic augmentation"), "augmentation"),
    )
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description=_("How often a random rectangle of an image is blanked."),
        json_schema_extra=meta(_("Random erasing"), "augmentation"),
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=5,
        description=_("Blends pairs of images and their labels; the number is alpha, such as 0.2. 0 turns it off."),
        json_schema_extra=meta(_("Mixup"), "augmentation", advanced=True),
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=5,
        description=_("Pastes a piece of one image into another; the number is alpha, such as 1. 0 turns it off."),
        json_schema_extra=meta(_("CutMix"), "augmentation", advanced=True),
    )
    best_metric: Literal["top1", "macro_f1", "top5", "loss"] = Field(
        "top1",
        description=_("The validation metric that decides which checkpoint is best."),
        json_schema_extra=meta(_("Best by"), "saving"),
    )


TASK = TaskDescriptor(
    name="classification",
    label=_("Classification"),
    about=_("One label for each image"),
    icon="bi-tag",
    config=ClassificationConfig,
    implementation="trainingapp.engine.tasks.classification.task:ClassificationTask",
    metrics={
        "loss": LOSS,
        "top1": Metric(_("Top-1 accuracy")),
        "top5": Metric(_("Top-5 accuracy")),
        "macro_f1": Metric(_("Macro F1")),
    },
    quality_chart=(("top1", "train"), ("top1", "val"), ("top5", "val"), ("macro_f1", "val")),
    annotation="labels",
    least_classes=2,
    prediction="classes",
    image_fit="stretch",
    output_names=("probabilities",),
    outputs_help="`probabilities` [1, classes].",
    drill={"model": "mobilenet_v3_small", "batch_size": 8, "epochs": 3},
)
