"""FCOS: Tian et al., arXiv:2006.09214."""

from functools import partial

import torch
from torch.nn import functional as F
from torchvision.models.detection import FCOS

from trainingapp.engine.tasks.detection.losses.anchors import Anchors, anchors_of
from trainingapp.engine.tasks.detection.losses.boxes import generalized_iou_losses
from trainingapp.engine.tasks.detection.losses.classification import focal_losses
from trainingapp.engine.tasks.detection.losses.matching import BACKGROUND, by_center_and_size, matched
from trainingapp.engine.tasks.detection.losses.normalizing import normalised_for
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

SMALLEST, LARGEST = 4.0, 8.0
"""Limits of a level: largest distances from a location to the sides of its object, in strides of the level."""


def fcos_losses(model: FCOS, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    """As `FCOS.forward` in training mode."""
    images_NCHW = normalised_for(model, images_NCHW)
    features = list(model.backbone(images_NCHW).values())
    anchors = anchors_of(model.anchor_generator, images_NCHW, features)
    return head_losses(model.head(features), anchors, targets, radius=model.center_sampling_radius)


def head_losses(
    outputs: dict[str, torch.Tensor], anchors: Anchors, targets: PaddedTargets, *, radius: float
) -> dict[str, torch.Tensor]:
    """As `FCOS.compute_loss`. `outputs` are those of `FCOSHead`; an anchor has the stride of its level as its side.

    Each part is a sum over locations divided by the number of those that are to find an object.
    """
    matched_NA = matched(
        partial(by_center_and_size, radius=radius, sizes_A2=_sizes(anchors)), targets, anchors.boxes_A4
    )
    is_object_NA = matched_NA != BACKGROUND
    labels_NA = torch.where(is_object_NA, targets.labels_of(matched_NA), BACKGROUND)
    boxes_NA4 = targets.boxes_of(matched_NA)
    centers_A2 = (anchors.boxes_A4[:, :2] + anchors.boxes_A4[:, 2:]) / 2
    strides_A1 = (anchors.boxes_A4[:, 2] - anchors.boxes_A4[:, 0])[:, None]
    starts_NA2, ends_NA2 = (outputs["bbox_regression"] * strides_A1).split(2, dim=-1)
    found_NA4 = torch.cat([centers_A2 - starts_NA2, centers_A2 + ends_NA2], dim=-1)
    losses_of_boxes_NA = generalized_iou_losses(found_NA4, boxes_NA4)
    losses_of_centers_NA = F.binary_cross_entropy_with_logits(
        outputs["bbox_ctrness"][..., 0],
        torch.where(is_object_NA, _centerness(centers_A2, boxes_NA4), 0.0),
        reduction="none",
    )
    count = is_object_NA.sum().clamp(min=1)
    return {
        "classification": focal_losses(outputs["cls_logits"], labels_NA).sum() / count,
        "bbox_regression": torch.where(is_object_NA, losses_of_boxes_NA, 0.0).sum() / count,
        "bbox_ctrness": torch.where(is_object_NA, losses_of_centers_NA, 0.0).sum() / count,
    }


def _centerness(centers_A2: torch.Tensor, boxes_NA4: torch.Tensor) -> torch.Tensor:
    """[N, A]: 1 in the center of a box, 0 on its rim; anything outside."""
    before_NA2, after_NA2 = centers_A2 - boxes_NA4[..., :2], boxes_NA4[..., 2:] - centers_A2
    shares_NA2 = torch.minimum(before_NA2, after_NA2) / torch.maximum(before_NA2, after_NA2)
    return (shares_NA2[..., 0] * shares_NA2[..., 1]).sqrt()


def _sizes(anchors: Anchors) -> torch.Tensor:
    """[A, 2]: the limits of each location. The first level has no lower one, the last one no upper one."""
    strides_A1 = (anchors.boxes_A4[:, 2] - anchors.boxes_A4[:, 0])[:, None]
    sizes_A2 = torch.cat([strides_A1 * SMALLEST, strides_A1 * LARGEST], dim=1)
    sizes_A2[: anchors.counts[0], 0].fill_(0)
    sizes_A2[-anchors.counts[-1] :, 1].fill_(torch.inf)
    return sizes_A2
