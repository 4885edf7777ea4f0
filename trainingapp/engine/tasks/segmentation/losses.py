"""Losses over pixels.

N images, K classes with the background as 0, H and W the height and width. Logits are [N, K, H, W] and targets
[N, H, W], int64 from 0 to K - 1 or IGNORED_PIXEL, which is left out. Every loss is a float32 scalar, 0 where every
pixel is ignored. The sums are over flat rows of pixels: torch has no deterministic algorithm on GPUs for the
cross-entropy of [N, K, H, W].
"""

import torch
from torch.nn import functional as F

from trainingapp.contract.dataset_index import IGNORED_PIXEL

FOCAL_GAMMA = 2.0
DICE_SMOOTH = 1.0
LEAST_WEIGHT = 1e-6
"""Least sum of the weights of all pixels: a batch in which every pixel is ignored gives 0 instead of 0 / 0."""


def pixel_loss(
    kind: str,
    logits_NKHW: torch.Tensor,
    targets_NHW: torch.Tensor,
    *,
    weights_K: torch.Tensor | None = None,
    dice_weight: float = 0.5,
) -> torch.Tensor:
    """The loss of the configuration's `loss_type`; `weights_K` apply to cross-entropy and focal loss, not to dice.

    combined is (1 - dice_weight) cross-entropy + dice_weight dice.
    """
    logits_MK, targets_M = flat_pixels(logits_NKHW, targets_NHW)
    match kind:
        case "cross_entropy":
            return cross_entropy(logits_MK, targets_M, weights_K)
        case "dice":
            return dice(logits_MK, targets_M)
        case "focal":
            return focal(logits_MK, targets_M, weights_K)
        case "combined":
            entropy = cross_entropy(logits_MK, targets_M, weights_K)
            return (1 - dice_weight) * entropy + dice_weight * dice(logits_MK, targets_M)
    raise AssertionError(kind)


def flat_pixels(logits_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [M, K] and int64 [M], M = N H W pixels; free of copies where the logits are channels-last float32."""
    return logits_NKHW.float().permute(0, 2, 3, 1).flatten(0, 2), targets_NHW.long().flatten()


def cross_entropy(
    logits_MK: torch.Tensor, targets_M: torch.Tensor, weights_K: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of w_t (-log p_t) over the sum of w_t, t being the true class of a pixel, as torch's with weights."""
    losses_M = F.cross_entropy(logits_MK, targets_M, weights_K, ignore_index=IGNORED_PIXEL, reduction="none")
    return losses_M.sum() / _total_weight(targets_M, weights_K)


def focal(logits_MK: torch.Tensor, targets_M: torch.Tensor, weights_K: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy with little weight on easy pixels: w_t (1 - p_t)^2 (-log p_t), averaged as there.

    Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002, with its gamma of 2.
    """
    losses_M = F.cross_entropy(logits_MK, targets_M, ignore_index=IGNORED_PIXEL, reduction="none")
    losses_M = losses_M * (1 - torch.exp(-losses_M)) ** FOCAL_GAMMA
    if weights_K is not None:
        losses_M = losses_M * weights_K[_known(targets_M)]
    return losses_M.sum() / _total_weight(targets_M, weights_K)


def dice(logits_MK: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
    """1 - the mean of (2 sum(p g) + 1) / (sum(p^2) + sum(g) + 1) over the classes that the batch shows.

    p are probabilities and g the ground truth, 0 or 1 (so that g^2 = g); sums are over the pixels of the batch.
    Milletari et al., V-Net, arXiv:1606.04797, for several classes and smoothed by 1.
    """
    is_known_M1 = (targets_M != IGNORED_PIXEL)[:, None]
    chances_MK = logits_MK.softmax(1) * is_known_M1
    truth_MK = (_known(targets_M)[:, None] == torch.arange(logits_MK.shape[1], device=logits_MK.device)) & is_known_M1
    truth_K = truth_MK.sum(0)
    overlap_K = (chances_MK * truth_MK).sum(0)
    dice_K = (2 * overlap_K + DICE_SMOOTH) / (chances_MK.square().sum(0) + truth_K + DICE_SMOOTH)
    is_shown_K = truth_K > 0
    return ((1 - dice_K) * is_shown_K).sum() / is_shown_K.sum().clamp(min=1)


def _known(targets_M: torch.Tensor) -> torch.Tensor:
    """Targets as valid indices: ignored ones become 0 and must be masked afterwards."""
    return torch.where(targets_M == IGNORED_PIXEL, 0, targets_M)


def _total_weight(targets_M: torch.Tensor, weights_K: torch.Tensor | None) -> torch.Tensor:
    is_known_M = targets_M != IGNORED_PIXEL
    total = is_known_M.sum() if weights_K is None else (weights_K[_known(targets_M)] * is_known_M).sum()
    return total.float().clamp(min=LEAST_WEIGHT)
