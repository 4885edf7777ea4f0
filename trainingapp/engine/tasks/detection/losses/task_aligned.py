"""The loss of `PanDetector`: which cells find an object follows from what they find already.

Assignment: Feng et al., arXiv:2108.07755. A cell is worth score^ALPHA IoU^BETA for an object, where the score is that
of the object's class; the best cells of those whose center is in the object are to find it. The score that such a cell
is to give is its worth, scaled so that the best cell of an object shall score the largest IoU of its cells.
Distribution over distances: Li et al., arXiv:2006.04388. Complete IoU: Zheng et al., arXiv:1911.08287.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from trainingapp.engine.tasks.detection.losses.boxes import overlaps
from trainingapp.engine.tasks.detection.losses.matching import image_groups
from trainingapp.engine.tasks.detection.losses.normalizing import normalised_for
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets
from trainingapp.engine.tasks.detection.pan import BINS, PanDetector, distances_to_boxes

ALPHA, BETA = 1.0, 6.0
CELLS_OF_AN_OBJECT = 10
LEAST_WORTH = 1e-30
"""Keeps cells apart from those outside of an object where nothing overlaps yet."""

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 2.5, 0.5
"""Of the parts of the loss, as Xu et al., arXiv:2203.16250, found them."""


@dataclass(frozen=True)
class Assigned:
    """`scores_NAC`: the score that each cell is to give each class. `boxes_NA4`: the box that it is to find, where
    `weights_NA`, the sum of its scores, is above 0."""

    scores_NAC: torch.Tensor
    boxes_NA4: torch.Tensor
    weights_NA: torch.Tensor


def task_aligned_losses(
    model: PanDetector, images_NCHW: torch.Tensor, targets: PaddedTargets
) -> dict[str, torch.Tensor]:
    """The parts of the loss, for any mode of the model. Each is a sum over cells divided by the sum of their scores."""
    levels = list(model.backbone(normalised_for(model, images_NCHW)).values())
    return head_losses(model.head(levels), model.anchor_generator.of(levels), targets)


def head_losses(
    outputs: dict[str, torch.Tensor], cells_A4: torch.Tensor, targets: PaddedTargets
) -> dict[str, torch.Tensor]:
    """The same from the outputs of the head."""
    logits_NAC, bins_NA4B = outputs["cls_logits"], outputs["bbox_bins"]
    found_NA4 = distances_to_boxes(outputs["bbox_regression"], cells_A4)
    wanted = assigned(logits_NAC.detach().sigmoid(), found_NA4.detach(), cells_A4, targets)
    total = wanted.weights_NA.sum().clamp(min=1)
    classes = F.binary_cross_entropy_with_logits(logits_NAC, wanted.scores_NAC, reduction="none")
    boxes = complete_iou_losses(found_NA4, wanted.boxes_NA4) * wanted.weights_NA
    distances_NA4 = sides_in_strides(wanted.boxes_NA4, cells_A4)
    bins = distribution_losses(bins_NA4B, distances_NA4).mean(dim=-1) * wanted.weights_NA
    return {
        "classification": CLASS_WEIGHT * classes.sum() / total,
        "bbox_regression": BOX_WEIGHT * boxes.sum() / total,
        "bbox_distribution": DISTRIBUTION_WEIGHT * bins.sum() / total,
    }


def assigned(
    scores_NAC: torch.Tensor, found_NA4: torch.Tensor, cells_A4: torch.Tensor, targets: PaddedTargets
) -> Assigned:
    """What each cell is to find, from the scores and boxes that it finds now."""
    parts = []
    with torch.no_grad():
        for images, most in image_groups(targets.counts, len(cells_A4)):
            most = max(1, most)
            parts.append(
                _assigned(
                    scores_NAC[images],
                    found_NA4[images],
                    cells_A4,
                    targets.boxes_NM4[images, :most],
                    targets.labels_NM[images, :most],
                    targets.is_object_NM[images, :most],
                )
            )
    return Assigned(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _assigned(
    scores_NAC: torch.Tensor,
    found_NA4: torch.Tensor,
    cells_A4: torch.Tensor,
    boxes_NM4: torch.Tensor,
    labels_NM: torch.Tensor,
    is_object_NM: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    overlaps_NMA = overlaps(boxes_NM4, found_NA4).nan_to_num_(0.0)
    labels_NMA = labels_NM.clamp(min=0)[..., None].expand(-1, -1, len(cells_A4))
    scores_NMA = scores_NAC.transpose(1, 2).gather(1, labels_NMA)
    can_find_NMA = _is_inside(cells_A4, boxes_NM4) & is_object_NM[..., None]
    worth_NMA = scores_NMA.pow(ALPHA).mul_(overlaps_NMA.pow(BETA)).clamp_(min=LEAST_WORTH).mul_(can_find_NMA)
    count = min(CELLS_OF_AN_OBJECT, len(cells_A4))
    least_NM1 = worth_NMA.topk(count, dim=2).values[..., -1:]
    # Of cells of equal worth at the limit all count: an order among them would depend on the device.
    is_chosen_NMA = (worth_NMA >= least_NM1) & can_find_NMA
    # A cell that several objects have chosen finds the one that it overlaps most.
    owner_NA = torch.where(is_chosen_NMA, overlaps_NMA, -1.0).argmax(dim=1)
    numbers_M1 = torch.arange(boxes_NM4.shape[1], device=boxes_NM4.device)[:, None]
    is_chosen_NMA &= owner_NA[:, None] == numbers_M1
    worth_NMA = worth_NMA * is_chosen_NMA
    largest_NM1 = worth_NMA.amax(dim=2, keepdim=True).clamp(min=LEAST_WORTH)
    best_NM1 = (overlaps_NMA * is_chosen_NMA).amax(dim=2, keepdim=True)
    weights_NA = (worth_NMA / largest_NM1 * best_NM1).amax(dim=1)
    labels_NA = labels_NM.gather(1, owner_NA)
    is_class_NAC = labels_NA[..., None] == torch.arange(scores_NAC.shape[-1], device=labels_NM.device)
    boxes_NA4 = boxes_NM4.gather(1, owner_NA[..., None].expand(-1, -1, 4))
    return weights_NA[..., None] * is_class_NAC, boxes_NA4, weights_NA


def _is_inside(cells_A4: torch.Tensor, boxes_NM4: torch.Tensor) -> torch.Tensor:
    """[N, M, A]: whether the center of a cell is in a box. Boxes count as at least as wide and as high as the smallest
    cells, so that each has a center in it."""
    least = (cells_A4[0, 2] - cells_A4[0, 0]) / 2
    x_A, y_A = ((cells_A4[:, :2] + cells_A4[:, 2:]) / 2).unbind(1)
    center_x, center_y = ((boxes_NM4[..., :2] + boxes_NM4[..., 2:]) / 2)[..., None].unbind(2)
    half_x, half_y = torch.maximum((boxes_NM4[..., 2:] - boxes_NM4[..., :2]) / 2, least)[..., None].unbind(2)
    return ((x_A - center_x).abs_() <= half_x).logical_and_((y_A - center_y).abs_() <= half_y)


def sides_in_strides(boxes_NA4: torch.Tensor, cells_A4: torch.Tensor) -> torch.Tensor:
    """[N, A, 4]: the distances from the centers of the cells to the sides; the inverse of `distances_to_boxes`."""
    centers_A2 = (cells_A4[:, :2] + cells_A4[:, 2:]) / 2
    strides_A1 = cells_A4[:, 2:3] - cells_A4[:, 0:1]
    return torch.cat([centers_A2 - boxes_NA4[..., :2], boxes_NA4[..., 2:] - centers_A2], dim=-1) / strides_A1


def distribution_losses(bins: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """[..] of logits [.., BINS] and distances [..]: the cross-entropy of the two bins beside a distance, each
    weighted by how near it is."""
    distances = distances.clamp(0, BINS - 1)
    numbers_B = torch.arange(BINS, device=bins.device, dtype=bins.dtype)
    nearness = (1 - (distances[..., None] - numbers_B).abs()).clamp(min=0)
    return -(nearness * bins.log_softmax(dim=-1)).sum(dim=-1)


def complete_iou_losses(boxes: torch.Tensor, others: torch.Tensor, smallest: float = 1e-7) -> torch.Tensor:
    """[..] of boxes [.., 4]: one minus the complete IoU, as `torchvision.ops.complete_box_iou_loss`."""
    inner = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    outer = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    inner = torch.where(inner > 0, inner, 0.0)
    shared = inner[..., 0] * inner[..., 1]
    sides, other_sides = boxes[..., 2:] - boxes[..., :2], others[..., 2:] - others[..., :2]
    union = sides[..., 0] * sides[..., 1] + other_sides[..., 0] * other_sides[..., 1] - shared
    overlap = shared / (union + smallest)
    apart = boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]
    distance = apart.square().sum(dim=-1) / 4 / (outer.square().sum(dim=-1) + smallest)
    angle = torch.atan(sides[..., 0] / (sides[..., 1] + smallest))
    other_angle = torch.atan(other_sides[..., 0] / (other_sides[..., 1] + smallest))
    shape = 4 / math.pi**2 * (other_angle - angle).square()
    with torch.no_grad():
        weight = shape / (1 - overlap + shape + smallest)
    return 1 - overlap + distance + weight * shape
