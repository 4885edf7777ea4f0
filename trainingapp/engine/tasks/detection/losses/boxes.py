"""Arithmetic of boxes xyxy over batches: torchvision's, whose functions take one image or read values back."""

import math

import torch

Weights = tuple[float, float, float, float]

PLAIN: Weights = (1.0, 1.0, 1.0, 1.0)
LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Bound on the logarithm of a predicted side over that of its anchor."""


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """[..] of boxes [.., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(boxes_NM4: torch.Tensor, anchors_NA4: torch.Tensor) -> torch.Tensor:
    """[N, M, A]: intersection over union of each box with each anchor, as `torchvision.ops.box_iou`."""
    left, top, right, bottom = boxes_NM4[..., None].unbind(2)
    # Coordinate by coordinate, so that processors read them without gaps.
    anchor_left, anchor_top, anchor_right, anchor_bottom = anchors_NA4.movedim(2, 0)[:, :, None].contiguous()
    width = torch.minimum(right, anchor_right).sub_(torch.maximum(left, anchor_left)).clamp_(min=0)
    height = torch.minimum(bottom, anchor_bottom).sub_(torch.maximum(top, anchor_top)).clamp_(min=0)
    shared = width.mul_(height)
    return shared / (areas(boxes_NM4)[..., None] + areas(anchors_NA4)[:, None]).sub_(shared)


def encoded(boxes: torch.Tensor, anchors: torch.Tensor, weights: Weights = PLAIN) -> torch.Tensor:
    """[.., 4]: what a network is to predict at anchors [.., 4] for boxes [.., 4], as torchvision's `BoxCoder`.

    Girshick et al., arXiv:1311.2524, appendix C: shifts of the center in sides of the anchor, and logarithms of scales.
    """
    sizes, anchor_sizes = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    shifts = (boxes[..., :2] + 0.5 * sizes) - (anchors[..., :2] + 0.5 * anchor_sizes)
    shift_x, shift_y = (shifts / anchor_sizes).unbind(-1)
    scale_x, scale_y = (sizes / anchor_sizes).log().unbind(-1)
    wx, wy, ww, wh = weights
    return torch.stack([wx * shift_x, wy * shift_y, ww * scale_x, wh * scale_y], dim=-1)


def decoded(codes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """[.., 4]: the boxes that codes [.., 4] stand for at anchors [.., 4]: the inverse of `encoded` with PLAIN."""
    anchor_sizes = anchors[..., 2:] - anchors[..., :2]
    centers = codes[..., :2] * anchor_sizes + (anchors[..., :2] + 0.5 * anchor_sizes)
    halves = 0.5 * (codes[..., 2:].clamp(max=LARGEST_LOG_SCALE).exp() * anchor_sizes)
    return torch.cat([centers - halves, centers + halves], dim=-1)


def generalized_iou_losses(boxes: torch.Tensor, others: torch.Tensor, smallest: float = 1e-7) -> torch.Tensor:
    """[..] of boxes [.., 4]: one minus the generalized IoU, as `torchvision.ops.generalized_box_iou_loss`.

    Rezatofighi et al., arXiv:1902.09630. `smallest` is added to divisors.
    """
    inner = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    outer = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    inner = torch.where(inner > 0, inner, 0.0)  # unlike `clamp`, without a gradient where a box has no width
    # Not `prod`, whose backward pass reads back whether a factor is zero.
    shared, hull = inner[..., 0] * inner[..., 1], outer[..., 0] * outer[..., 1]
    union = areas(boxes) + areas(others) - shared
    return 1 - shared / (union + smallest) + (hull - union) / (hull + smallest)
