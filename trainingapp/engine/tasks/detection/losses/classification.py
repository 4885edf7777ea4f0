"""The loss of classes in detectors that score each class by itself."""

import torch
from torch.nn import functional as F

ALPHA = 0.25
"""The weight of the class of an object; of all others it is the rest to one."""


def focal_losses(logits_NAC: torch.Tensor, labels_NA: torch.Tensor) -> torch.Tensor:
    """[N, A]: sums over the classes of the focal loss with gamma 2, as `torchvision.ops.sigmoid_focal_loss`.

    Lin et al., arXiv:1708.02002. A label that is no class, such as -1, means background. The loss of a class that is to
    be found is that of its logit with the other sign, but for the weight: one pass over both kinds.
    """
    is_class_NAC = labels_NA[..., None] == torch.arange(logits_NAC.shape[-1], device=logits_NAC.device)
    wrong_NAC = torch.where(is_class_NAC, -logits_NAC, logits_NAC)
    chance_NAC = wrong_NAC.sigmoid()
    losses_NAC = F.softplus(wrong_NAC) * (chance_NAC * chance_NAC)
    return (losses_NAC * torch.where(is_class_NAC, ALPHA, 1 - ALPHA)).sum(dim=-1)
