"""A random choice of the anchors or proposals that count for a loss."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Samples:
    """Places for S samples of each image: `index_NS`, int64, of their anchors, where `is_drawn_NS`."""

    index_NS: torch.Tensor
    is_drawn_NS: torch.Tensor

    def mask(self, anchors: int) -> torch.Tensor:
        """bool [N, A]: true for the anchors that are drawn."""
        # Places without a sample write into a column of their own.
        index_NS = torch.where(self.is_drawn_NS, self.index_NS, anchors)
        mask_NB = torch.zeros(len(index_NS), anchors + 1, dtype=torch.bool, device=index_NS.device)
        return mask_NB.scatter_(1, index_NS, True)[:, :anchors]


def balanced_samples(labels_NA: torch.Tensor, size: int, positive_share: float) -> Samples:
    """As torchvision's `BalancedPositiveNegativeSampler`: `size` of each image, at most that share positive.

    A label from 1 on is positive, 0 negative; others are not drawn. Every choice is as likely as any other. Draws on
    the global generator of the labels' device.
    """
    keys_NA = random_keys(labels_NA)
    positives = _largest(keys_NA, labels_NA >= 1, int(size * positive_share))
    negatives = _largest(keys_NA, labels_NA == 0, size)
    left_N1 = size - positives.is_drawn_NS.sum(dim=1, keepdim=True)
    ranks_S = torch.arange(negatives.index_NS.shape[1], device=labels_NA.device)
    return Samples(
        torch.cat([positives.index_NS, negatives.index_NS], dim=1),
        torch.cat([positives.is_drawn_NS, negatives.is_drawn_NS & (ranks_S < left_N1)], dim=1),
    )


def random_keys(labels_NA: torch.Tensor) -> torch.Tensor:
    """[N, A] in [0, 1): the anchors with the largest keys are drawn."""
    return torch.rand(labels_NA.shape, device=labels_NA.device)


def _largest(keys_NA: torch.Tensor, is_candidate_NA: torch.Tensor, most: int) -> Samples:
    """The candidates with the largest keys, the largest first."""
    keys_NS, index_NS = torch.where(is_candidate_NA, keys_NA, -1.0).topk(min(most, keys_NA.shape[1]), dim=1)
    return Samples(index_NS, keys_NS >= 0)
