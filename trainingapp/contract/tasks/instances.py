"""The task of instance segmentation: its networks, its configuration and its descriptor."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import AUTOMATIC, BACKBONE, MULTIPLE_OF_32, NONE, WHOLE, BaseRunConfig
from trainingapp.contract.limits import MAX_IMAGE_SIZE
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.published_weights import detector_weights
from trainingapp.contract.setting import Section, Setting, Unit
from trainingapp.contract.tasks import detection
from trainingapp.contract.tasks.descriptor import TaskDescriptor

SMALL: dict[str, JsonValue] = {
    "image_size": 96,
    "epochs": 10,
    "batch_size": 16,
    "anchor_scale": 0.25,
    "scheduler": "one-cycle",
    "ema_decay": 0.998,
    "amp": "on",
}
"""For small images on a CPU: two cores train the demo scenes with them in a few minutes."""

LARGE: dict[str, JsonValue] = {"image_size": 320, "batch_size": 4, "learning_rate": 0.0003}

INSTANCE_NETWORKS: dict[str, Architecture] = {
    "maskrcnn_resnet18_fpn": Architecture(defaults=SMALL),
    "maskrcnn_resnet34_fpn": Architecture(defaults=SMALL),
    "maskrcnn_mobilenet_v3_large_fpn": Architecture(defaults=SMALL),
    "maskrcnn_resnet50_fpn": Architecture(44_401_393, LARGE),
    "maskrcnn_resnet50_fpn_v2": Architecture(46_359_409, LARGE),
}
"""Mask R-CNN: torchvision's, and small ones of our own."""


class InstancesConfig(BaseRunConfig):
    """A box, a label and a mask for each object."""

    architectures = INSTANCE_NETWORKS

    task: Annotated[
        Literal["instances"],
        Setting(
            _("Task"),
            _("What the model learns to do."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "instances"
    model: Annotated[
        str,
        Setting(
            _("Model"),
            _("Network architecture: Mask R-CNN on a backbone. Small backbones can be trained on a CPU."),
            Section.MODEL,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "maskrcnn_resnet18_fpn"
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
                "Discards objects with a lower confidence in validation. Keep it low: mAP counts low-confidence "
                "objects too."
            ),
            Section.BOXES,
            changes_result=False,
        ),
    ] = 0.05
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
        ),
    ] = 0.5
    max_det: Annotated[
        int,
        Field(ge=1, le=1000),
        Setting(
            _("Max detections"),
            _("Keeps at most this many objects per image, the most confident ones."),
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
            _("Multiplies the sizes of the anchor boxes: below 1 for small objects or images."),
            Section.BOXES,
            changes_result=True,
            advanced=True,
        ),
    ] = 1.0
    mosaic: detection.Mosaic = 0.0
    mosaic_close_epochs: detection.MosaicCloseEpochs = 0
    copy_paste: detection.CopyPaste = 0.0
    multi_scale: Annotated[float, Field(ge=0, le=0.75), detection.multi_scale_setting()] = 0.0
    best_metric: Annotated[
        Literal["ap", "ap50", "ap75", "f1"],
        Setting(
            _("Model-selection metric"),
            _("Validation metric that determines the best checkpoint."),
            Section.SAVING,
            changes_result=False,
        ),
    ] = "ap"


FINE_TUNING_RATES = {"maskrcnn_": 0.0001}
"""As of the detectors on the same backbones."""


TASK = TaskDescriptor(
    name="instances",
    label=_("Instance segmentation"),
    about=_("A box, a label and a mask for each object"),
    icon="bi-bounding-box-circles",
    config=InstancesConfig,
    published=detector_weights,
    fine_tuning_rates=FINE_TUNING_RATES,
    implementation="trainingapp.engine.tasks.instances.task:InstancesTask",
    metrics={
        **detection.TASK.metrics,  # of masks
        "box_ap": Metric(_("mAP50-95 of boxes")),
        "box_ap50": Metric(_("mAP50 of boxes")),
        "box_ap75": Metric(_("mAP75 of boxes")),
    },
    quality_chart=(("f1", "val"), ("ap50", "val"), ("ap", "val"), ("box_ap", "val")),
    loss_parts={
        **{
            name: detection.TASK.loss_parts[name]
            for name in ("loss_class", "loss_box", "loss_objectness", "loss_proposal_box")
        },
        "loss_mask": _("Mask loss"),
    },
    annotation="outlines",
    prediction="objects",
    image_fit="letterbox",
    output_names=("boxes", "scores", "labels", "masks"),
    outputs_help=(
        "`boxes` [D, 4], left, top, right, bottom in pixels of the square, `scores` [D] and `labels` [D], numbers of "
        "classes from 0, of the objects that non-maximum suppression keeps, the most confident first; `masks` "
        "[D, 28, 28], the probability of each pixel within the box: `predict.py` scales them to the box and takes "
        "those from 0.5 on."
    ),
    drill={"model": "maskrcnn_resnet18_fpn", "batch_size": 8, "epochs": 2, "ema_decay": 0.9},
)
