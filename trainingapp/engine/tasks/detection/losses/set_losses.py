"""The losses of detectors that find each object once, over all layers of a batch.

Published code computes them layer by layer and image by image; here the layers are one dimension, and what does not
count has the weight zero, so that the host does not wait for the device but in `matched_lists`.

Legend: that of `set_matching`; B bins of a distribution.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from trainingapp.engine.tasks.detection.losses.boxes import generalized_iou_losses
from trainingapp.engine.tasks.detection.losses.set_matching import SMALLEST_AREA, Pairs, SetTargets, corners

DISTANCE_WEIGHT, IOU_WEIGHT = 5.0, 2.0
BINS_WEIGHT, TEACHING_WEIGHT = 0.15, 1.5
TEMPERATURE = 5.0

ClassLoss = Callable[[torch.Tensor, torch.Tensor, Pairs, SetTargets], torch.Tensor]
"""[S]: the loss of logits [S, N, Q, C] and boxes [S, N, Q, 4], with weight."""


def overlaps_of_pairs(boxes_SNQ4: torch.Tensor, pairs: Pairs, targets: SetTargets) -> torch.Tensor:
    """[S, N, P]: intersection over union of predicted boxes and their objects, without a gradient."""
    found, goal = corners(pairs.of_queries(boxes_SNQ4.detach())), corners(pairs.boxes(targets))
    sides = (torch.minimum(found[..., 2:], goal[..., 2:]) - torch.maximum(found[..., :2], goal[..., :2])).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (found, goal)]
    # Padding may be paired with a box without an area.
    return torch.where(pairs.is_pair_SNP, shared / (areas[0] + areas[1] - shared).clamp(min=SMALLEST_AREA), 0.0)


def _is_class(logits_SNQC: torch.Tensor, pairs: Pairs, targets: SetTargets) -> torch.Tensor:
    """bool [S, N, Q, C]: whether the query is to find an object of this class."""
    numbers = torch.where(pairs.is_pair_SNP, pairs.labels(targets) + 1, 0)
    labels_SNQ = pairs.at_queries(numbers, logits_SNQC.shape[2])
    return labels_SNQ[..., None] == torch.arange(1, logits_SNQC.shape[3] + 1, device=logits_SNQC.device)


def varifocal_losses(
    logits_SNQC: torch.Tensor, boxes_SNQ4: torch.Tensor, pairs: Pairs, targets: SetTargets
) -> torch.Tensor:
    """Zhang et al., arXiv:2008.13367, with the values of RT-DETR: the score is to be the overlap of the box."""
    overlaps_SNQ = pairs.at_queries(overlaps_of_pairs(boxes_SNQ4, pairs, targets), logits_SNQC.shape[2])
    is_class = _is_class(logits_SNQC, pairs, targets)
    goal = torch.where(is_class, overlaps_SNQ[..., None], 0.0)
    weight = torch.where(is_class, goal, 0.75 * logits_SNQC.detach().sigmoid() ** 2)
    losses = F.binary_cross_entropy_with_logits(logits_SNQC, goal, weight=weight, reduction="none")
    return losses.sum(dim=(1, 2, 3)) / pairs.count


def overlap_aware_losses(
    logits_SNQC: torch.Tensor, boxes_SNQ4: torch.Tensor, pairs: Pairs, targets: SetTargets
) -> torch.Tensor:
    """That of LW-DETR (Chen et al., arXiv:2406.03459) and RF-DETR, by score^0.25 overlap^0.75 of the pair."""
    overlaps_SNQ = pairs.at_queries(overlaps_of_pairs(boxes_SNQ4, pairs, targets), logits_SNQC.shape[2])
    is_class, scores = _is_class(logits_SNQC, pairs, targets), logits_SNQC.sigmoid()
    quality = (scores.detach() ** 0.25 * overlaps_SNQ[..., None] ** 0.75).clamp(min=0.01)
    positive = torch.where(is_class, quality, 0.0)
    negative = torch.where(is_class, 1 - quality, scores**2)
    losses = -positive * F.logsigmoid(logits_SNQC) - negative * F.logsigmoid(-logits_SNQC)
    return losses.sum(dim=(1, 2, 3)) / pairs.count


def box_losses(boxes_SNQ4: torch.Tensor, pairs: Pairs, targets: SetTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """([S], [S]): sums of the distances and of the generalized IoU losses of the pairs, with their weights."""
    found, goal = pairs.of_queries(boxes_SNQ4), pairs.boxes(targets)
    distances = torch.where(pairs.is_pair_SNP, (found - goal).abs().sum(dim=-1), 0.0)
    losses = generalized_iou_losses(corners(found), corners(goal), SMALLEST_AREA)
    losses = torch.where(pairs.is_pair_SNP, losses, 0.0)
    return (
        DISTANCE_WEIGHT * distances.sum(dim=(1, 2)) / pairs.count,
        IOU_WEIGHT * losses.sum(dim=(1, 2)) / pairs.count,
    )


def bin_values(count: int, up: float, scale: float, device: torch.device) -> torch.Tensor:
    """float32 [B]: what the bins of D-FINE stand for, finer around zero; arXiv:2410.13842, equation 5."""
    upper = abs(up) * abs(scale)
    last = count // 2
    step = (upper + 1) ** (2 / (count - 3))
    places = torch.arange(-last, last + 1, device=device)  # not from a list, for which the device would be waited for
    values = torch.where(places.abs() == last, 2 * upper, step ** places.abs().float() - 1)
    return values * places.sign()


def goal_distances(references: torch.Tensor, boxes: torch.Tensor, scale: float) -> torch.Tensor:
    """[.., 4] for reference boxes [.., 4] and boxes [.., 4]: what the distributions of the four sides are to give."""
    centers, sizes = references[..., :2], references[..., 2:] / scale + 1e-16
    goal = corners(boxes)
    return torch.cat([(centers - goal[..., :2]) / sizes, (goal[..., 2:] - centers) / sizes], dim=-1) - 0.5 * scale


def bin_losses(
    logits_SNQ4B: torch.Tensor,
    references_SNQ4: torch.Tensor,
    boxes_SNQ4: torch.Tensor,
    pairs: Pairs,
    targets: SetTargets,
    *,
    up: float,
    scale: float,
) -> torch.Tensor:
    """[S]: the fine-grained localization loss of D-FINE, arXiv:2410.13842, equation 6, with its weight."""
    values = bin_values(logits_SNQ4B.shape[-1], up, scale, logits_SNQ4B.device)
    goal = goal_distances(pairs.of_queries(references_SNQ4.detach()), pairs.boxes(targets), scale)
    lower = (torch.searchsorted(values, goal.contiguous(), right=True) - 1).clamp(0, len(values) - 2)
    share = ((goal - values[lower]) / (values[lower + 1] - values[lower])).clamp(0, 1)
    log_shares = pairs.of_queries(logits_SNQ4B).log_softmax(dim=-1)
    at_lower, at_upper = (log_shares.gather(-1, place[..., None])[..., 0] for place in (lower, lower + 1))
    losses = -(at_lower * (1 - share) + at_upper * share).sum(dim=-1)
    weighted = torch.where(pairs.is_pair_SNP, losses * overlaps_of_pairs(boxes_SNQ4, pairs, targets), 0.0)
    return BINS_WEIGHT * weighted.sum(dim=(1, 2)) / pairs.count


def share_of_pairs(pairs: Pairs, query_count: int) -> torch.Tensor:
    """[]: the weight of the queries that are in a pair, beside that of the others: by the roots of their numbers."""
    paired = (pairs.at_queries(pairs.is_pair_SNP.float(), query_count) > 0).float().mean()
    root, other = paired.sqrt(), (1 - paired).sqrt()
    return root / (root + other)


def teaching_losses(
    logits_SNQ4B: torch.Tensor,
    boxes_SNQ4: torch.Tensor,
    teacher_NQ4B: torch.Tensor,
    teacher_scores_NQ: torch.Tensor,
    pairs: Pairs,
    targets: SetTargets,
    share: torch.Tensor,
) -> torch.Tensor:
    """[S]: what the layers learn of the distributions of the last one: the decoupled distillation focal loss.

    arXiv:2410.13842, section 4.2, with its weight. Queries that are in a pair and the others have a mean of their own;
    the former counts `share`.
    """
    query_count = logits_SNQ4B.shape[2]
    overlaps_SNQ = pairs.at_queries(overlaps_of_pairs(boxes_SNQ4, pairs, targets), query_count)
    is_paired = pairs.at_queries(pairs.is_pair_SNP.float(), query_count) > 0
    weights = torch.where(is_paired, overlaps_SNQ, teacher_scores_NQ.detach())
    goal = (teacher_NQ4B.detach() / TEMPERATURE).softmax(dim=-1).expand_as(logits_SNQ4B)
    divergences = F.kl_div((logits_SNQ4B / TEMPERATURE).log_softmax(dim=-1), goal, reduction="none")
    losses_SNQ = weights * TEMPERATURE**2 * divergences.sum(dim=-1).mean(dim=-1)
    paired, others = (_mean(losses_SNQ, chosen) for chosen in (is_paired, ~is_paired))
    return TEACHING_WEIGHT * (paired * share + others * (1 - share))


def _mean(losses_SNQ: torch.Tensor, chosen_SNQ: torch.Tensor) -> torch.Tensor:
    """[S]: the mean of what is chosen; 0 where nothing is."""
    return torch.where(chosen_SNQ, losses_SNQ, 0.0).sum(dim=(1, 2)) / chosen_SNQ.sum(dim=(1, 2)).clamp(min=1)
