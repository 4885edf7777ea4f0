"""What a classification run can be told."""

from typing import Literal

from pydantic import Field

from trainingapp.engine.configs.base import BaseRunConfig, ImageSize, meta, model_name, noop


class ClassificationConfig(BaseRunConfig):
    """One label for each picture."""

    recipe: Literal["classification"] = Field(
        "classification",
        description=noop("What the model learns to do."),
        json_schema_extra=meta(noop("Recipe"), "model"),
    )
    model: model_name("classification", any_of=["timm/"]) = Field(  # type: ignore[valid-type]
        "resnet18",
        description=noop(
            "Network. resnet18 learns quickly everywhere; mobilenet_v3 is small; convnext_tiny is strong."
        ),
        json_schema_extra=meta(noop("Model"), "model"),
    )
    pretrained: bool = Field(
        False,
        description=noop("Start from the library's ImageNet weights; they are downloaded once."),
        json_schema_extra=meta(noop("Pretrained"), "model"),
    )
    image_size: ImageSize = Field(
        64,
        ge=32,
        le=1024,
        description=noop("Pictures are scaled to this square; a multiple of 32."),
        json_schema_extra=meta(noop("Image size"), "model", noop("pixels")),
    )
    dropout_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=noop("Share of the features dropped before the last layer while training."),
        json_schema_extra=meta(noop("Dropout"), "model", advanced=True),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=noop("Share of the label spread over all classes, against overconfidence."),
        json_schema_extra=meta(noop("Label smoothing"), "training", advanced=True),
    )
    class_balance: Literal["none", "weights", "sampler"] = Field(
        "none",
        description=noop("For rare classes: weights in the loss, or a sampler that draws every class equally often."),
        json_schema_extra=meta(noop("Class balance"), "training", advanced=True),
    )
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = Field(
        "none",
        description=noop("Random sequences of many small changes, as published under these names."),
        json_schema_extra=meta(noop("Automatic augmentation"), "augmentation"),
    )
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description=noop("How often a random rectangle of a picture is blanked."),
        json_schema_extra=meta(noop("Random erasing"), "augmentation"),
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=5,
        description=noop(
            "Blends pairs of pictures and their labels; the number is alpha, such as 0.2. 0 turns it off."
        ),
        json_schema_extra=meta(noop("Mixup"), "augmentation", advanced=True),
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=5,
        description=noop("Pastes a piece of one picture into another; the number is alpha, such as 1. 0 turns it off."),
        json_schema_extra=meta(noop("CutMix"), "augmentation", advanced=True),
    )
    best_metric: Literal["top1", "macro_f1", "top5", "loss"] = Field(
        "top1",
        description=noop("The validation metric that decides which checkpoint is best."),
        json_schema_extra=meta(noop("Best by"), "saving"),
    )
