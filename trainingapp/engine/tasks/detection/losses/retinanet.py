"""RetinaNet: Lin et al., arXiv:1708.02002."""

from typing import Literal

import torch
from torchvision.models.detection import RetinaNet

from trainingapp.engine.tasks.detection.losses.anchors import anchors_of
from trainingapp.engine.tasks.detection.losses.boxes import decoded, encoded, generalized_iou_losses
from trainingapp.engine.tasks.detection.losses.classification import focal_losses
from trainingapp.engine.tasks.detection.losses.matching import BACKGROUND, IGNORED, Rule, matched, rule_of
from trainingapp.engine.tasks.detection.losses.normalizing import normalised_for
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

BoxLoss = Literal["l1", "giou"]


def retinanet_losses(model: RetinaNet, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    """As `RetinaNet.forward` in training mode."""
    images_NCHW = normalised_for(model, images_NCHW)
    features = list(model.backbone(images_NCHW).values())
    anchors = anchors_of(model.anchor_generator, images_NCHW, features)
    box_loss = model.head.regression_head._loss_type
    return head_losses(
        model.head(features), anchors.boxes_A4, targets, rule=rule_of(model.proposal_matcher), box_loss=box_loss
    )


def head_losses(
    outputs: dict[str, torch.Tensor], anchors_A4: torch.Tensor, targets: PaddedTargets, *, rule: Rule, box_loss: BoxLoss
) -> dict[str, torch.Tensor]:
    """As `RetinaNetHead.compute_loss`; `outputs` are those of the head.

    Each part is the mean over the images of a sum over anchors divided by the number of those that are to find an
    object of the image.
    """
    matched_NA = matched(rule, targets, anchors_A4)
    is_object_NA = matched_NA >= 0
    labels_NA = torch.where(is_object_NA, targets.labels_of(matched_NA), BACKGROUND)
    losses_of_classes_NA = focal_losses(outputs["cls_logits"], labels_NA)
    losses_of_boxes_NA = _box_losses(
        box_loss, outputs["bbox_regression"], anchors_A4, targets.boxes_of(matched_NA), is_object_NA
    )
    counts_N = is_object_NA.sum(dim=1).clamp(min=1)
    return {
        "classification": (torch.where(matched_NA != IGNORED, losses_of_classes_NA, 0.0).sum(dim=1) / counts_N).mean(),
        "bbox_regression": (torch.where(is_object_NA, losses_of_boxes_NA, 0.0).sum(dim=1) / counts_N).mean(),
    }


def _box_losses(
    kind: BoxLoss,
    codes_NA4: torch.Tensor,
    anchors_A4: torch.Tensor,
    boxes_NA4: torch.Tensor,
    is_object_NA: torch.Tensor,
) -> torch.Tensor:
    """[N, A], of use where `is_object_NA`."""
    if kind == "giou":
        return generalized_iou_losses(decoded(codes_NA4, anchors_A4), boxes_NA4)
    # Nothing that is not finite may meet the codes: a gradient of zero would become NaN.
    goal_NA4 = torch.where(is_object_NA[..., None], encoded(boxes_NA4, anchors_A4), 0.0)
    return (codes_NA4 - goal_NA4).abs().sum(dim=-1)
