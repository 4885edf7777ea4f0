"""Proposals of a region proposal network for a whole batch: Ren et al., arXiv:1506.01497, section 3."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import nms

from trainingapp.engine.tasks.detection.losses.anchors import Anchors
from trainingapp.engine.tasks.detection.losses.boxes import decoded

NMS_CALLS = 3
"""Calls of non-maximum suppression for a batch on a GPU. Each waits for the GPU once; its time and memory grow with the
square of its boxes."""


@dataclass(frozen=True)
class Proposals:
    """`boxes_NP4` of each image, the most confident first, where `is_valid_NP`."""

    boxes_NP4: torch.Tensor
    is_valid_NP: torch.Tensor


@torch.no_grad()
def training_proposals(
    rpn: RegionProposalNetwork, logits_NA: torch.Tensor, codes_NA4: torch.Tensor, anchors: Anchors, size: torch.Size
) -> Proposals:
    """As `RegionProposalNetwork.filter_proposals` in training mode, for images of `size` (height, width)."""
    index_NK, counts = _most_confident(logits_NA, anchors.counts, rpn._pre_nms_top_n["training"])
    codes_NK4 = codes_NA4.gather(1, index_NK[..., None].expand(-1, -1, 4))
    corners_NK22 = decoded(codes_NK4, anchors.boxes_A4[index_NK]).unflatten(-1, (2, 2))
    boxes_NK4 = torch.stack(
        [corners_NK22[..., 0].clamp(min=0, max=size[1]), corners_NK22[..., 1].clamp(min=0, max=size[0])], dim=-1
    ).flatten(-2)
    scores_NK = logits_NA.gather(1, index_NK).sigmoid()
    sides_NK2 = boxes_NK4[..., 2:] - boxes_NK4[..., :2]
    is_valid_NK = (sides_NK2 >= rpn.min_size).all(dim=-1) & (scores_NK >= rpn.score_thresh)
    is_kept_NK = is_valid_NK & unsuppressed(
        torch.where(is_valid_NK[..., None], boxes_NK4, 0.0), scores_NK, counts, rpn.nms_thresh, max(size)
    )
    most = min(rpn._post_nms_top_n["training"], is_kept_NK.shape[1])
    best_NP, index_NP = torch.where(is_kept_NK, scores_NK, -1.0).topk(most, dim=1)
    return Proposals(boxes_NK4.gather(1, index_NP[..., None].expand(-1, -1, 4)), best_NP >= 0)


def _most_confident(logits_NA: torch.Tensor, counts: Sequence[int], most: int) -> tuple[torch.Tensor, list[int]]:
    """[N, K]: the anchors with the largest logits, at most `most` of each level, and how many each level has."""
    chosen, first = [], 0
    for logits_NB in logits_NA.split(list(counts), dim=1):
        chosen.append(logits_NB.topk(min(most, logits_NB.shape[1]), dim=1).indices + first)
        first += logits_NB.shape[1]
    return torch.cat(chosen, dim=1), [part.shape[1] for part in chosen]


def unsuppressed(
    boxes_NK4: torch.Tensor, scores_NK: torch.Tensor, counts: Sequence[int], threshold: float, side: int
) -> torch.Tensor:
    """bool [N, K]: the boxes that non-maximum suppression keeps, by itself for each image and level.

    `counts` are the boxes of each level, `side` is the largest coordinate. A box without area suppresses nothing.
    """
    if not is_waited_for(scores_NK.device):  # then small calls take the least time
        images = zip(boxes_NK4, scores_NK, strict=True)
        return torch.stack([_kept_by_level(boxes_K4, scores_K, counts, threshold) for boxes_K4, scores_K in images])
    size = -(-len(scores_NK) // NMS_CALLS)
    apart_BK4 = _apart(size, counts, side, like=boxes_NK4)
    parts = []
    for boxes_BK4, scores_BK in zip(boxes_NK4.split(size), scores_NK.split(size), strict=True):
        shifted = (boxes_BK4 + apart_BK4[: len(boxes_BK4)]).flatten(0, 1)
        parts.append(_kept(shifted, scores_BK.flatten(), threshold).view_as(scores_BK))
    return torch.cat(parts)


def is_waited_for(device: torch.device) -> bool:
    """Whether reading a value from the device stops the host until the device has finished its work."""
    return device.type != "cpu"


def _kept_by_level(
    boxes_K4: torch.Tensor, scores_K: torch.Tensor, counts: Sequence[int], threshold: float
) -> torch.Tensor:
    levels = zip(boxes_K4.split(list(counts)), scores_K.split(list(counts)), strict=True)
    return torch.cat([_kept(boxes, scores, threshold) for boxes, scores in levels])


def _kept(boxes_B4: torch.Tensor, scores_B: torch.Tensor, threshold: float) -> torch.Tensor:
    """bool [B]: of one call of non-maximum suppression."""
    return torch.zeros_like(scores_B, dtype=torch.bool).index_fill_(0, nms(boxes_B4, scores_B, threshold), True)


def _apart(images: int, counts: Sequence[int], side: int, *, like: torch.Tensor) -> torch.Tensor:
    """[N, K, 4]: what to add to boxes so that those of different images or levels do not overlap.

    They are put on a grid and not in a row: the larger a coordinate, the fewer digits are left for the box.
    """
    levels_K = torch.cat([like.new_full((count,), level) for level, count in enumerate(counts)])
    place_NK = torch.arange(images, device=like.device)[:, None] * len(counts) + levels_K
    columns = math.ceil(math.sqrt(images * len(counts)))
    rows_NK = (place_NK / columns).floor()
    return torch.stack([place_NK - rows_NK * columns, rows_NK], dim=-1).repeat(1, 1, 2) * (side + 1)
