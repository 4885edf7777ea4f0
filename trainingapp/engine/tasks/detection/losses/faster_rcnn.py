"""Faster R-CNN: Ren et al., arXiv:1506.01497, with the feature pyramid of Lin et al., arXiv:1612.03144."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, roi_align

from trainingapp.engine.tasks.detection.losses.anchors import Anchors, anchors_of
from trainingapp.engine.tasks.detection.losses.boxes import areas, encoded
from trainingapp.engine.tasks.detection.losses.matching import IGNORED, matched, rule_of
from trainingapp.engine.tasks.detection.losses.normalizing import normalised_for
from trainingapp.engine.tasks.detection.losses.proposals import Proposals, training_proposals
from trainingapp.engine.tasks.detection.losses.sampling import balanced_samples
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

BETA = 1 / 9
"""Where the smooth L1 loss of boxes changes from a square to a line."""


def faster_rcnn_losses(model: FasterRCNN, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    """As `FasterRCNN.forward` in training mode."""
    stage = first_stage(model, images_NCHW)
    return {
        **roi_losses(cast(RoIHeads, model.roi_heads), stage.features, stage.proposals, targets, stage.size),
        **stage.losses(targets),
    }


@dataclass(frozen=True)
class FirstStage:
    """What the region proposal network makes of images of `size` (height, width): `proposals` without a gradient."""

    rpn: RegionProposalNetwork
    features: dict[str, torch.Tensor]
    logits_NA: torch.Tensor
    codes_NA4: torch.Tensor
    anchors: Anchors
    proposals: Proposals
    size: torch.Size

    def losses(self, targets: PaddedTargets) -> dict[str, torch.Tensor]:
        """See `rpn_losses`."""
        return rpn_losses(self.rpn, self.logits_NA, self.codes_NA4, self.anchors, targets)


def first_stage(model: FasterRCNN, images_NCHW: torch.Tensor) -> FirstStage:
    """The backbone and the region proposal network."""
    images_NCHW = normalised_for(model, images_NCHW)
    features: dict[str, torch.Tensor] = model.backbone(images_NCHW)
    levels = list(features.values())
    rpn = cast(RegionProposalNetwork, model.rpn)
    anchors = anchors_of(rpn.anchor_generator, images_NCHW, levels)
    count, size = len(images_NCHW), images_NCHW.shape[-2:]
    logits, codes = concat_box_prediction_layers(*rpn.head(levels))
    logits_NA, codes_NA4 = logits.view(count, -1), codes.view(count, -1, 4)
    proposals = training_proposals(rpn, logits_NA.detach(), codes_NA4.detach(), anchors, size)
    return FirstStage(rpn, features, logits_NA, codes_NA4, anchors, proposals, size)


def rpn_losses(
    rpn: RegionProposalNetwork,
    logits_NA: torch.Tensor,
    codes_NA4: torch.Tensor,
    anchors: Anchors,
    targets: PaddedTargets,
) -> dict[str, torch.Tensor]:
    """As `RegionProposalNetwork.assign_targets_to_anchors` and `compute_loss`: means over the anchors drawn."""
    matched_NA = matched(rule_of(rpn.proposal_matcher), targets, anchors.boxes_A4)
    is_object_NA = matched_NA >= 0
    labels_NA = torch.where(matched_NA == IGNORED, -1, is_object_NA.long())
    sampler = rpn.fg_bg_sampler
    samples = balanced_samples(labels_NA, sampler.batch_size_per_image, sampler.positive_fraction)
    is_drawn_NA = samples.mask(labels_NA.shape[1])
    is_counted_NA = is_drawn_NA & is_object_NA
    goal_NA4 = torch.where(is_counted_NA[..., None], encoded(targets.boxes_of(matched_NA), anchors.boxes_A4), 0.0)
    losses_of_boxes_NA = F.smooth_l1_loss(codes_NA4, goal_NA4, beta=BETA, reduction="none").sum(dim=-1)
    losses_NA = F.binary_cross_entropy_with_logits(logits_NA, is_object_NA.float(), reduction="none")
    count = is_drawn_NA.sum()
    return {
        "loss_objectness": torch.where(is_drawn_NA, losses_NA, 0.0).sum() / count,
        "loss_rpn_box_reg": torch.where(is_counted_NA, losses_of_boxes_NA, 0.0).sum() / count,
    }


def roi_losses(
    heads: RoIHeads,
    features: Mapping[str, torch.Tensor],
    proposals: Proposals,
    targets: PaddedTargets,
    size: torch.Size,
) -> dict[str, torch.Tensor]:
    """As `RoIHeads.forward` in training mode, for images of `size` (height, width): means over the samples."""
    pyramid = Pyramid.of(heads.box_roi_pool, features, size)
    return box_losses(heads, training_samples(heads, proposals, targets, pyramid), pyramid)


def box_losses(heads: RoIHeads, samples: "RoISamples", pyramid: "Pyramid") -> dict[str, torch.Tensor]:
    """The losses of classes and boxes of the samples."""
    logits_SC, codes_S = heads.box_predictor(heads.box_head(pyramid.pooled(samples.regions_S5, samples.counts)))
    is_class_SC = samples.labels_S[:, None] == torch.arange(logits_SC.shape[1], device=logits_SC.device)
    codes_S4 = torch.where(is_class_SC[..., None], codes_S.view(*logits_SC.shape, 4), 0.0).sum(dim=1)
    losses_of_boxes_S = F.smooth_l1_loss(codes_S4, samples.goal_S4, beta=BETA, reduction="none").sum(dim=-1)
    return {
        "loss_classifier": F.cross_entropy(logits_SC, samples.labels_S),
        "loss_box_reg": torch.where(samples.labels_S > 0, losses_of_boxes_S, 0.0).sum() / len(samples.labels_S),
    }


@dataclass(frozen=True)
class Pyramid:
    """The feature maps from which regions are pooled, the coarsest last, as in torchvision's `MultiScaleRoIAlign`.

    `scales` are their sides over that of the image.
    """

    pool: MultiScaleRoIAlign
    levels: list[torch.Tensor]
    scales: list[float]

    @classmethod
    def of(cls, pool: MultiScaleRoIAlign, features: Mapping[str, torch.Tensor], size: torch.Size) -> "Pyramid":
        levels = [level for name, level in features.items() if name in pool.featmap_names]
        return cls(pool, levels, [2.0 ** round(math.log2(level.shape[-2] / size[0])) for level in levels])

    def level_of(self, boxes: torch.Tensor) -> torch.Tensor:
        """int64 [..]: the level for boxes [.., 4] by their area, as equation 1 of the paper."""
        finest, coarsest = (-math.log2(self.scales[place]) for place in (0, -1))
        octave = torch.log2(areas(boxes).sqrt() / self.pool.canonical_scale)
        level = torch.floor(self.pool.canonical_level + octave + 1e-6).clamp(min=finest, max=coarsest)
        return level.long() - int(finest)

    def pooled(self, regions_S5: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """[S, channels, side, side] for regions (image, xyxy) in the order of their levels, `counts` of each."""
        parts = [
            roi_align(level, regions, self.pool.output_size, scale, self.pool.sampling_ratio)
            for level, regions, scale in zip(self.levels, regions_S5.split(counts), self.scales, strict=True)
        ]
        return torch.cat([part.to(parts[0].dtype) for part in parts])


@dataclass(frozen=True)
class RoISamples:
    """The proposals that count: `regions_S5` (image, xyxy), level by level, `counts` of each; `labels_S`, 0 for the
    background; `goal_S4` what is to be predicted for the boxes of the others.

    `objects_S` are the numbers of the objects of the others in their images; `object_counts` how many of them each
    level has.
    """

    regions_S5: torch.Tensor
    labels_S: torch.Tensor
    goal_S4: torch.Tensor
    counts: list[int]
    objects_S: torch.Tensor
    object_counts: list[int]


@torch.no_grad()
def training_samples(heads: RoIHeads, proposals: Proposals, targets: PaddedTargets, pyramid: Pyramid) -> RoISamples:
    """As `RoIHeads.select_training_samples`: the objects are proposals too. Waits once for the device.

    The head takes as many regions as there are samples: padding would cost time, and batch norms would see it.
    """
    boxes_NP4 = torch.cat([proposals.boxes_NP4, targets.boxes_NM4], dim=1)
    is_valid_NP = torch.cat([proposals.is_valid_NP, targets.is_object_NM], dim=1)
    matched_NP = matched(rule_of(heads.proposal_matcher), targets, boxes_NP4)
    labels_NP = torch.where(matched_NP >= 0, targets.labels_of(matched_NP), 0)
    labels_NP = torch.where(is_valid_NP & (matched_NP != IGNORED), labels_NP, -1)
    sampler = heads.fg_bg_sampler
    samples = balanced_samples(labels_NP, sampler.batch_size_per_image, sampler.positive_fraction)
    levels_NP = torch.where(is_valid_NP, pyramid.level_of(boxes_NP4), 0)
    levels_NS = torch.where(samples.is_drawn_NS, levels_NP.gather(1, samples.index_NS), len(pyramid.levels))
    order_S = levels_NS.flatten().argsort(stable=True)
    is_object_NS = labels_NP.gather(1, samples.index_NS) > 0
    of_levels = [levels_NS == level for level in range(len(pyramid.levels))]
    sums = [*(of_level.sum() for of_level in of_levels), *((each & is_object_NS).sum() for each in of_levels)]
    both: list[int] = torch.stack(sums).tolist()
    counts, object_counts = both[: len(of_levels)], both[len(of_levels) :]
    order_S = order_S[: sum(counts)]
    images_S = order_S // levels_NS.shape[1]
    places_S = images_S * labels_NP.shape[1] + samples.index_NS.flatten()[order_S]
    boxes_S4, labels_S = boxes_NP4.flatten(0, 1)[places_S], labels_NP.flatten()[places_S]
    found_S4 = targets.boxes_of(matched_NP).flatten(0, 1)[places_S]
    goal_S4 = torch.where(labels_S[:, None] > 0, encoded(found_S4, boxes_S4, heads.box_coder.weights), 0.0)
    regions_S5 = torch.cat([images_S[:, None].to(boxes_S4), boxes_S4], dim=1)
    objects_S = matched_NP.flatten()[places_S].clamp(min=0)
    return RoISamples(regions_S5, labels_S, goal_S4, counts, objects_S, object_counts)
