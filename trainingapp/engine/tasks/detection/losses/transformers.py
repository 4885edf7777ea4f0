"""The losses of RT-DETRv2 (arXiv:2407.17140), D-FINE (arXiv:2410.13842) and RF-DETR (arXiv:2511.09554).

Legend: that of `set_matching`; L layers of the decoder, G groups of queries (RF-DETR in training), D queries for
denoising, B bins.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from trainingapp.engine.tasks.detection.losses.set_losses import (
    ClassLoss,
    bin_losses,
    box_losses,
    overlap_aware_losses,
    share_of_pairs,
    teaching_losses,
    varifocal_losses,
)
from trainingapp.engine.tasks.detection.losses.set_matching import Pairs, SetTargets, matched_lists, united
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

BIN_LIMIT, BIN_SCALE = 0.5, 4.0
"""The constants `up` and `reg_scale` of D-FINE, which all its networks share."""


@dataclass(frozen=True)
class Predictions:
    """What the decoder of a network has found, float32: logits [L, N, Q, C] and boxes [L, N, Q, 4], layer by layer.

    `first` are logits [S, N, Q, C] and boxes [S, N, Q, 4] of what precedes the layers. D-FINE alone has distributions
    [L, N, Q, 4, B] and the boxes that they refer to.
    """

    logits_LNQC: torch.Tensor
    boxes_LNQ4: torch.Tensor
    first: tuple[torch.Tensor, torch.Tensor]
    bins_LNQ4B: torch.Tensor | None = None
    references_LNQ4: torch.Tensor | None = None

    def by_group(self, groups: int) -> "Predictions":
        """The groups of queries of each image as if they were images of their own; without distributions."""
        if groups == 1:
            return self
        parts = (self.logits_LNQC, self.boxes_LNQ4, *self.first)
        logits, boxes, *first = (part.unflatten(2, (groups, -1)).flatten(1, 2) for part in parts)
        return Predictions(logits, boxes, (first[0], first[1]))


@dataclass(frozen=True)
class Outputs:
    """The predictions of a network, those for denoised objects (with D queries), and the groups of its queries."""

    predictions: Predictions
    denoised: Predictions | None = None
    denoising_groups: int = 0
    groups: int = 1


class SetDetector(Protocol):
    """What the losses need of a detector."""

    family: str

    def outputs(self, images_NCHW: torch.Tensor, targets: SetTargets) -> Outputs: ...


def transformer_losses(
    model: SetDetector, images_NCHW: torch.Tensor, targets: PaddedTargets
) -> dict[str, torch.Tensor]:
    """The parts of the loss by the names of the charts: those of the last layer, and the sums of all others.

    In evaluation mode too: with denoising, but RF-DETR with one group of queries.
    """
    objects = SetTargets.of(targets, images_NCHW.shape[-1])
    outputs = model.outputs(images_NCHW, objects)
    # Mixed precision ends here: sums over thousands of boxes need more digits than bfloat16 has.
    with torch.autocast(images_NCHW.device.type, enabled=False):
        return losses_of_outputs(outputs, objects, is_overlap_aware=model.family == "rfdetr")


def losses_of_outputs(outputs: Outputs, targets: SetTargets, *, is_overlap_aware: bool) -> dict[str, torch.Tensor]:
    """The same from the outputs of the network."""
    found = outputs.predictions.by_group(outputs.groups)
    targets = targets.repeated(outputs.groups)
    class_loss: ClassLoss = overlap_aware_losses if is_overlap_aware else varifocal_losses
    logits_SNQC = torch.cat([found.logits_LNQC, found.first[0]])
    boxes_SNQ4 = torch.cat([found.boxes_LNQ4, found.first[1]])
    lists, device = matched_lists(logits_SNQC, boxes_SNQ4, targets), logits_SNQC.device
    pairs = Pairs.of(lists, targets.object_count, device)
    pairs_of_boxes = pairs
    if found.bins_LNQ4B is not None:
        union = united(lists)
        pairs_of_boxes = Pairs.of([union], sum(map(len, union)), device).for_sets(len(boxes_SNQ4))
    class_S = class_loss(logits_SNQC, boxes_SNQ4, pairs, targets)
    box_S, overlap_S = box_losses(boxes_SNQ4, pairs_of_boxes, targets)
    last = len(found.logits_LNQC) - 1
    total = class_S.sum() + box_S.sum() + overlap_S.sum()
    losses = {"loss_class": class_S[last], "loss_box": box_S[last], "loss_giou": overlap_S[last]}
    losses["loss_auxiliary"] = total - class_S[last] - box_S[last] - overlap_S[last]
    share = None
    if found.bins_LNQ4B is not None:
        share = share_of_pairs(pairs_of_boxes.first_sets(1), boxes_SNQ4.shape[2])
        losses["loss_distribution"] = _distribution_loss(found, pairs_of_boxes.first_sets(last + 1), targets, share)
    if not is_overlap_aware:
        losses["loss_denoising"] = _denoising_loss(outputs, targets, share)
    return losses


def _distribution_loss(found: Predictions, pairs: Pairs, targets: SetTargets, share: torch.Tensor) -> torch.Tensor:
    """[]: what the distributions of all layers lose, and what all but the last lose against the last."""
    assert found.bins_LNQ4B is not None
    assert found.references_LNQ4 is not None
    bins = bin_losses(
        found.bins_LNQ4B, found.references_LNQ4, found.boxes_LNQ4, pairs, targets, up=BIN_LIMIT, scale=BIN_SCALE
    )
    before = len(found.bins_LNQ4B) - 1
    if not before:
        return bins.sum()
    scores_NQ = found.logits_LNQC[-1].sigmoid().amax(dim=-1)
    taught, teacher = found.bins_LNQ4B[:before], found.bins_LNQ4B[-1]
    boxes, pairs = found.boxes_LNQ4[:before], pairs.first_sets(before)
    return bins.sum() + teaching_losses(taught, boxes, teacher, scores_NQ, pairs, targets, share).sum()


def _denoising_loss(outputs: Outputs, targets: SetTargets, share: torch.Tensor | None) -> torch.Tensor:
    """[]: the same losses of the queries for denoising, whose objects are known; 0 without objects."""
    found, groups = outputs.denoised, outputs.denoising_groups
    if found is None:
        return outputs.predictions.logits_LNQC.new_zeros(())
    # Each group has a query for each object that is to find it, and then one for each that is not.
    most = max(targets.counts)
    known = [[(2 * most * group + one, one) for group in range(groups) for one in range(n)] for n in targets.counts]
    pairs = Pairs.of([known], groups * targets.object_count, found.logits_LNQC.device)
    logits, boxes = torch.cat([found.logits_LNQC, found.first[0]]), torch.cat([found.boxes_LNQ4, found.first[1]])
    pairs = pairs.for_sets(len(logits))
    box_S, overlap_S = box_losses(boxes, pairs, targets)
    loss = (varifocal_losses(logits, boxes, pairs, targets) + box_S + overlap_S).sum()
    if share is not None:
        loss = loss + _distribution_loss(found, pairs.first_sets(len(found.logits_LNQC)), targets, share)
    return loss
