"""SSD: Liu et al., arXiv:1512.02325."""

from functools import partial

import torch
from torch.nn import functional as F
from torchvision.models.detection.ssd import SSD

from trainingapp.engine.tasks.detection.losses.anchors import anchors_of
from trainingapp.engine.tasks.detection.losses.boxes import Weights, encoded
from trainingapp.engine.tasks.detection.losses.matching import Rule, by_overlap_with_owners, matched
from trainingapp.engine.tasks.detection.losses.normalizing import normalised_for
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets


def ssd_losses(model: SSD, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    """As `SSD.forward` in training mode."""
    images_NCHW = normalised_for(model, images_NCHW)
    features = list(model.backbone(images_NCHW).values())
    anchors = anchors_of(model.anchor_generator, images_NCHW, features)
    return head_losses(
        model.head(features),
        anchors.boxes_A4,
        targets,
        rule=partial(by_overlap_with_owners, least=model.proposal_matcher.high_threshold),
        weights=model.box_coder.weights,
        negatives=model.neg_to_pos_ratio,
    )


def head_losses(
    outputs: dict[str, torch.Tensor],
    anchors_A4: torch.Tensor,
    targets: PaddedTargets,
    *,
    rule: Rule,
    weights: Weights,
    negatives: float,
) -> dict[str, torch.Tensor]:
    """As `SSD.compute_loss`; `outputs` are those of `SSDHead`, with the background as class 0.

    Each part is a sum over anchors divided by the number of those that are to find an object. For each of these,
    `negatives` anchors of the background of the image count for the classes: those with the largest losses.
    """
    matched_NA = matched(rule, targets, anchors_A4)
    is_object_NA = matched_NA >= 0
    labels_NA = torch.where(is_object_NA, targets.labels_of(matched_NA), 0)
    goal_NA4 = torch.where(is_object_NA[..., None], encoded(targets.boxes_of(matched_NA), anchors_A4, weights), 0.0)
    losses_of_boxes_NA = F.smooth_l1_loss(outputs["bbox_regression"], goal_NA4, reduction="none").sum(dim=-1)
    losses_NA = F.cross_entropy(outputs["cls_logits"].flatten(0, 1), labels_NA.flatten(), reduction="none").view_as(
        labels_NA
    )
    counted_NA = is_object_NA.float() + _is_hard(losses_NA.detach(), is_object_NA, negatives).float()
    count = is_object_NA.sum().clamp(min=1)
    return {
        "bbox_regression": torch.where(is_object_NA, losses_of_boxes_NA, 0.0).sum() / count,
        "classification": (losses_NA * counted_NA).sum() / count,
    }


def _is_hard(losses_NA: torch.Tensor, is_object_NA: torch.Tensor, negatives: float) -> torch.Tensor:
    """bool [N, A]: the anchors of the background with the largest losses, `negatives` for each one with an object."""
    most_N1 = negatives * is_object_NA.sum(dim=1, keepdim=True)
    order_NA = torch.where(is_object_NA, -torch.inf, losses_NA).argsort(dim=1, descending=True)
    return order_NA.argsort(dim=1) < most_N1
