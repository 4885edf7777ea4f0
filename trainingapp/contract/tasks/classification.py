"""What a classification run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.contract.base_config import BaseRunConfig, ImageSize, _, meta, model_name


class ClassificationConfig(BaseRunConfig):
    """One label for each image."""

    task: Literal["classification"] = Field(
        "classification",
        description=_("What the model learns to do."),
        json_schema_extra=meta(_("Task"), "model"),
    )
    model: model_name("classification", any_of=["timm/"]) = Field(  # type: ignore[valid-type]
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
