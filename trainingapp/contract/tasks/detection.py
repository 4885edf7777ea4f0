"""The task of detection: its networks, its configuration and its descriptor."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import AUTOMATIC, BACKBONE, MULTIPLE_OF_32, NONE, WHOLE, BaseRunConfig
from trainingapp.contract.limits import MAX_EPOCHS, MAX_IMAGE_SIZE
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.published_weights import detector_weights
from trainingapp.contract.setting import Section, Setting, Unit, When
from trainingapp.contract.tasks.descriptor import TaskDescriptor
from trainingapp.contract.tasks.transformer_detectors import TRANSFORMER_DETECTORS

SMALL_DETECTOR: dict[str, JsonValue] = {
    "image_size": 96,
    "epochs": 12,
    "batch_size": 16,
    "anchor_scale": 0.5,
    "scheduler": "one-cycle",
    "ema_decay": 0.998,
    "amp": "on",
}
"""For small images on a CPU: two cores train the demo scenes with them in a few minutes."""

LARGE_DETECTOR: dict[str, JsonValue] = {"image_size": 320, "batch_size": 8, "learning_rate": 0.0003}

FAST_DETECTOR: dict[str, JsonValue] = SMALL_DETECTOR | {"anchor_scale": 1.0, "learning_rate": 0.002, "epochs": 20}
"""Of the detector of our own, whose steps take a third of the time of the next best (see `benchmarks/quality.py`)."""

FAST_PRESETS: dict[str, dict[str, JsonValue]] = {"quick": {"epochs": 10, "image_size": 64}}
"""Measured by `benchmarks/presets.py`."""

DETECTORS: dict[str, Architecture] = {
    "pan_n": Architecture(defaults=FAST_DETECTOR, presets=FAST_PRESETS),
    "pan_s": Architecture(defaults=FAST_DETECTOR, presets=FAST_PRESETS),
    "pan_m": Architecture(defaults=FAST_DETECTOR, presets=FAST_PRESETS),
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
    **TRANSFORMER_DETECTORS,
}
"""A family of our own, torchvision's, some on smaller backbones than its own, and transformers."""

HAS_ANCHORS = When("model", tuple(name for name in DETECTORS if name not in TRANSFORMER_DETECTORS))
"""Transformers have neither anchors, nor boxes to suppress, nor published weights of the backbone alone."""

TAKES_SIZES = When(
    "model", tuple(name for name in DETECTORS if not name.startswith("hf/rfdetr") and name != "ssd300_vgg16")
)
"""RF-DETR has a position for each patch of images of one size, and the last layers of SSD300 need its size."""

Mosaic = Annotated[
    float,
    Field(ge=0, le=1),
    Setting(
        _("Mosaic"),
        _("Probability of combining four images into one training image."),
        Section.AUGMENTATION,
        changes_result=True,
        advanced=True,
    ),
]
MosaicCloseEpochs = Annotated[
    int,
    Field(ge=0, le=MAX_EPOCHS),
    Setting(
        _("Close mosaic"),
        _("Uses no mosaic in this many last epochs, so that the model ends with images as they are. 0: never."),
        Section.AUGMENTATION,
        changes_result=True,
        unit=Unit.EPOCHS,
        advanced=True,
    ),
]
CopyPaste = Annotated[
    float,
    Field(ge=0, le=1),
    Setting(
        _("Copy-paste"),
        _(
            "Probability of pasting objects of another training image into an image, along their masks where the "
            "dataset has masks."
        ),
        Section.AUGMENTATION,
        changes_result=True,
        advanced=True,
    ),
]


def multi_scale_setting(when: When | None = None) -> Setting:
    """The setting of the field, for tasks with boxes."""
    return Setting(
        _("Multi-scale"),
        _(
            "Trains each step with a random image size that differs from the image size by up to this share; a "
            "multiple of 32. The largest size determines the memory that a run needs. 0 disables it."
        ),
        Section.AUGMENTATION,
        changes_result=True,
        advanced=True,
        when=when,
    )


class DetectionConfig(BaseRunConfig):
    """A box and a label for each object."""

    architectures = DETECTORS

    task: Annotated[
        Literal["detection"],
        Setting(
            _("Task"),
            _("What the model learns to do."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "detection"
    model: Annotated[
        str,
        Setting(
            _("Model"),
            _("Network architecture: a family of detectors on a backbone. Small backbones can be trained on a CPU."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "pan_s"
    pretrained: Annotated[
        Literal["auto", "none", "backbone", "whole"],
        Setting(
            _("Pretrained"),
            _(
                "Starts from ImageNet weights of the backbone, or from COCO weights of the whole model. Automatic "
                "takes what is in the cache or can be downloaded, else the run trains from scratch."
            ),
            Section.MODEL,
            changes_result=True,
            labels={"auto": AUTOMATIC, "none": NONE, "backbone": BACKBONE, "whole": WHOLE},
            for_new_runs="auto",
            choice_when={"backbone": HAS_ANCHORS},
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
    ] = 128
    conf_thres: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("Confidence threshold"),
            _(
                "Discards boxes with a lower confidence in validation. Keep it low: mAP counts low-confidence "
                "boxes too."
            ),
            Section.BOXES,
            changes_result=False,
        ),
    ] = 0.01
    iou_thres: Annotated[
        float,
        Field(gt=0, le=1),
        Setting(
            _("NMS IoU threshold"),
            _(
                "Non-maximum suppression discards boxes that overlap a more confident box of the same class by "
                "more than this."
            ),
            Section.BOXES,
            changes_result=False,
            when=HAS_ANCHORS,
        ),
    ] = 0.5
    max_det: Annotated[
        int,
        Field(ge=1, le=1000),
        Setting(
            _("Max detections"),
            _("Keeps at most this many boxes per image, the most confident ones."),
            Section.BOXES,
            changes_result=False,
            unit=Unit.BOXES,
        ),
    ] = 100
    anchor_scale: Annotated[
        float,
        Field(ge=0.05, le=8),
        Setting(
            _("Anchor scale"),
            _(
                "Multiplies the sizes of the anchor boxes: below 1 for small objects or images. SSD derives its "
                "anchors from the image size."
            ),
            Section.BOXES,
            changes_result=True,
            advanced=True,
            when=HAS_ANCHORS,
        ),
    ] = 1.0
    mosaic: Mosaic = 0.0
    mosaic_close_epochs: MosaicCloseEpochs = 0
    copy_paste: CopyPaste = 0.0
    multi_scale: Annotated[float, Field(ge=0, le=0.75), multi_scale_setting(TAKES_SIZES)] = 0.0
    best_metric: Annotated[
        Literal["ap", "ap50", "ap75", "f1"],
        Setting(
            _("Model-selection metric"),
            _("Validation metric that determines the best checkpoint."),
            Section.SAVING,
            changes_result=False,
        ),
    ] = "ap"


FINE_TUNING_RATES = {"fcos_": 0.0001, "retinanet_": 0.0001, "fasterrcnn_": 0.0001, "hf/": 0.0001}
"""Of AdamW with a published ResNet: MMDetection's configurations of "ResNet strikes back" (Wightman et al.,
arXiv:2110.00476), and Li et al., arXiv:2203.16527. Of transformers: Lv et al., arXiv:2407.17140."""


TASK = TaskDescriptor(
    name="detection",
    label=_("Detection"),
    about=_("A box and a label for each object"),
    icon="bi-bounding-box",
    config=DetectionConfig,
    implementation="trainingapp.engine.tasks.detection.task:DetectionTask",
    published=detector_weights,
    fine_tuning_rates=FINE_TUNING_RATES,
    metrics={
        "loss": LOSS,
        "ap": Metric(_("mAP50-95")),
        "ap50": Metric(_("mAP50")),
        "ap75": Metric(_("mAP75")),
        "ap_small": Metric(_("mAP50-95, small")),
        "ap_medium": Metric(_("mAP50-95, medium")),
        "ap_large": Metric(_("mAP50-95, large")),
        "ar": Metric(_("Average recall")),
        "f1": Metric(_("F1")),
    },
    quality_chart=(("f1", "val"), ("ap50", "val"), ("ap", "val"), ("ap75", "val")),
    loss_parts={
        "loss_class": _("Classification loss"),
        "loss_box": _("Box loss"),
        "loss_giou": _("GIoU loss"),
        "loss_distribution": _("Distribution loss"),
        "loss_centre": _("Centerness loss"),
        "loss_objectness": _("Objectness loss"),
        "loss_proposal_box": _("Proposal box loss"),
        "loss_auxiliary": _("Auxiliary losses"),
        "loss_denoising": _("Denoising loss"),
    },
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
