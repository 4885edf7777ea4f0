"""The task of classification: its networks, its configuration and its descriptor."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import (
    AUTOMATIC,
    BACKBONE,
    CUSTOM_AUGMENTATION,
    MULTIPLE_OF_32,
    NONE,
    AugmentOn,
    BaseRunConfig,
    Compile,
)
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.published_weights import classifier_weights
from trainingapp.contract.setting import OldSwitch, Section, Setting, Unit, When, pgettext
from trainingapp.contract.tasks.descriptor import TaskDescriptor, Variant
from trainingapp.contract.tasks.foundation import FOUNDATION_BACKBONES, FOUNDATION_DEFAULTS

SINGLE_LABEL = When("label_mode", ("single",))
MULTI_LABEL = When("label_mode", ("multi",))

SHORT: dict[str, JsonValue] = {"epochs": 10, "amp": "on", "scheduler": "one-cycle", "learning_rate": 0.002}
"""For a quick look, measured by `benchmarks/presets.py` with resnet18."""

CLASSIFIERS: dict[str, Architecture] = {
    "resnet18": Architecture(11_689_512, presets={"quick": SHORT}),
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
    **{name: Architecture(parameters, dict(FOUNDATION_DEFAULTS)) for name, parameters in FOUNDATION_BACKBONES.items()},
    "timm/convnext_tiny.dinov3_lvd1689m": Architecture(27_820_000, dict(FOUNDATION_DEFAULTS)),
}
"""torchvision's, with the parameters that its model pages give, and timm's, rounded; others can be named too."""


class ClassificationConfig(BaseRunConfig):
    """One label for each image, or any number of labels."""

    architectures = CLASSIFIERS
    open_libraries = ("timm/",)

    task: Annotated[
        Literal["classification"],
        Setting(
            _("Task"),
            _("What the model learns to do."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "classification"
    model: Annotated[
        str,
        Setting(
            _("Model"),
            _(
                "Network architecture. resnet18 learns quickly everywhere; mobilenet_v3 is small; convnext_tiny "
                "is accurate."
            ),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "resnet18"
    label_mode: Annotated[
        Literal["single", "multi"],
        Setting(
            _("Labels per image"),
            _(
                "Given by the dataset. One: softmax and cross-entropy. Several: a sigmoid and binary cross-entropy for "
                "each class."
            ),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
            labels={
                "single": pgettext("labels of an image", "One"),
                "multi": pgettext("labels of an image", "Several"),
            },
        ),
    ] = "single"
    pretrained: Annotated[
        Literal["auto", "none", "backbone"],
        Setting(
            _("Pretrained"),
            _(
                "Starts from ImageNet weights of the backbone. Automatic takes what is in the cache or can be "
                "downloaded, else the run trains from scratch."
            ),
            Section.MODEL,
            changes_result=True,
            labels={"auto": AUTOMATIC, "none": NONE, "backbone": BACKBONE},
            old_switch=OldSwitch(on="backbone", off="none", default="none"),
            for_new_runs="auto",
        ),
    ] = "none"
    image_size: Annotated[
        int,
        Field(ge=32, le=1024),
        MULTIPLE_OF_32,
        Setting(
            _("Image size"),
            _(
                "Resizes images to a square with sides of this length, a multiple of 32. Networks with patches of 14 "
                "pixels (DINOv2) also need a multiple of 14 to see all of it: 224 or 448."
            ),
            Section.MODEL,
            changes_result=True,
            unit=Unit.PIXELS,
        ),
    ] = 64
    dropout_rate: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("Dropout"),
            _("Probability of dropping a feature before the last layer during training."),
            Section.MODEL,
            changes_result=True,
            advanced=True,
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("Label smoothing"),
            _(
                "Reduces overconfidence: this share of each label is spread over all classes. With several labels per "
                "image, it moves each target towards 0.5."
            ),
            Section.TRAINING,
            changes_result=True,
            advanced=True,
        ),
    ] = 0.0
    class_balance: Annotated[
        Literal["none", "weights", "sampler"],
        Setting(
            _("Class balance"),
            _(
                "Compensates for rare classes by weights in the loss, or by a sampler that draws all classes "
                "equally often. The sampler needs one label per image: an image drawn for a rare label brings its "
                "frequent labels along."
            ),
            Section.TRAINING,
            changes_result=True,
            advanced=True,
            labels={
                "none": NONE,
                "weights": pgettext("a balance of classes", "Weights"),
                "sampler": pgettext("a balance of classes", "Sampler"),
            },
            choice_when={"sampler": SINGLE_LABEL},
        ),
    ] = "none"
    auto_augment: Annotated[
        Literal["none", "randaugment", "trivialaugment"],
        Setting(
            _("Automatic augmentation"),
            _("Applies a published augmentation policy."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
            labels={"none": NONE, "randaugment": "RandAugment", "trivialaugment": "TrivialAugment"},
        ),
    ] = "none"
    erasing: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            _("Random erasing"),
            _("Probability of erasing a random rectangle of an image."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
        ),
    ] = 0.0
    augment_on: AugmentOn = "cpu"
    compile: Compile = False
    mixup: Annotated[
        float,
        Field(ge=0, le=5),
        Setting(
            _("Mixup"),
            _("Blends pairs of images and their labels; the value is alpha, for example 0.2. 0 disables it."),
            Section.AUGMENTATION,
            changes_result=True,
            advanced=True,
        ),
    ] = 0.0
    cutmix: Annotated[
        float,
        Field(ge=0, le=5),
        Setting(
            _("CutMix"),
            _("Pastes a region of one image into another; the value is alpha, for example 1. 0 disables it."),
            Section.AUGMENTATION,
            changes_result=True,
            advanced=True,
        ),
    ] = 0.0
    best_metric: Annotated[
        Literal["top1", "map", "macro_f1", "micro_f1", "top5", "loss"],
        Setting(
            _("Model-selection metric"),
            _("Validation metric that determines the best checkpoint."),
            Section.SAVING,
            changes_result=False,
            choice_when={"top1": SINGLE_LABEL, "top5": SINGLE_LABEL, "map": MULTI_LABEL, "micro_f1": MULTI_LABEL},
        ),
    ] = "top1"


FINE_TUNING_RATES = {"convnext": 0.00005, "timm/convnext": 0.00005}
"""Of ConvNeXt: Liu et al., arXiv:2201.03545, appendix A."""


TASK = TaskDescriptor(
    name="classification",
    label=_("Classification"),
    about=_("One label for each image, or several"),
    icon="bi-tag",
    config=ClassificationConfig,
    implementation="trainingapp.engine.tasks.classification.task:ClassificationTask",
    published=classifier_weights,
    fine_tuning_rates=FINE_TUNING_RATES,
    metrics={
        "loss": LOSS,
        "top1": Metric(_("Top-1 accuracy")),
        "top5": Metric(_("Top-5 accuracy")),
        "map": Metric(_("mAP")),
        "macro_f1": Metric(_("Macro F1")),
        "micro_f1": Metric(_("Micro F1")),
    },
    quality_chart=(("top1", "train"), ("top1", "val"), ("top5", "val"), ("macro_f1", "val")),
    annotation="labels",
    other_annotations=("multi_labels",),
    least_classes=2,
    prediction="classes",
    image_fit="stretch",
    output_names=("probabilities",),
    outputs_help="`probabilities` [1, classes].",
    variant=Variant(
        field="label_mode",
        value="multi",
        quality_chart=(("micro_f1", "train"), ("map", "val"), ("macro_f1", "val"), ("micro_f1", "val")),
        outputs_help=(
            "`probabilities` [1, classes], a sigmoid for each class, so that they need not add up to 1. An image has "
            "each class whose probability reaches its threshold in `thresholds` of model.json."
        ),
    ),
    drill={"model": "mobilenet_v3_small", "batch_size": 8, "epochs": 3},
)
