"""The losses of Mask R-CNN over a whole batch: those of Faster R-CNN and one for masks.

He et al., arXiv:1703.06870, section 3: the mask of the object's own class alone counts, each pixel by itself.

Masks of a batch are bits: eight objects of an image share a plane of bytes, so that hundreds of objects in large images
take little memory on the host, between processes and on the device. Legend: N images; M objects of an image, padded;
P planes of all images; S regions with an object; C classes with the background; m side of a predicted mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.faster_rcnn import (
    Pyramid,
    RoISamples,
    box_losses,
    first_stage,
    training_samples,
)
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

BITS = 8
"""Objects of a plane."""

MOST_PIXELS = 1 << 24
"""Pixels of masks as numbers at a time: 64 MB."""


@dataclass(frozen=True)
class MaskTargets(PaddedTargets):
    """Targets with masks: that of an object is bit `places_NM % BITS` of the bytes of `planes_PHW`, uint8, at
    `places_NM // BITS`."""

    planes_PHW: torch.Tensor
    places_NM: torch.Tensor

    def to(self, device: torch.device) -> "MaskTargets":
        values: dict[str, Any] = vars(self)
        moved = {name: part.to(device) for name, part in values.items() if isinstance(part, torch.Tensor)}
        return MaskTargets(**(values | moved))

    def by_image(self) -> list[dict[str, torch.Tensor]]:
        """With "masks", uint8 [M, H, W]."""
        found = super().by_image()
        for one, places_M, count in zip(found, self.places_NM, self.counts, strict=True):
            one["masks"] = unpacked(self.planes_PHW, places_M[:count])
        return found


def unpacked(planes_PHW: torch.Tensor, places_M: torch.Tensor) -> torch.Tensor:
    """uint8 [M, H, W], 0 or 1: the masks at these places."""
    shifts_M11 = (places_M % BITS).to(torch.uint8)[:, None, None]
    return (planes_PHW[places_M // BITS] >> shifts_M11) & 1


def packed(masks_MHW: torch.Tensor) -> torch.Tensor:
    """uint8 [P, H, W] from masks of 0 and 1, uint8; the place of each is its number."""
    count, height, width = masks_MHW.shape
    planes_PHW = masks_MHW.new_zeros(-(-count // BITS), height, width)
    for number, mask_HW in enumerate(masks_MHW):
        planes_PHW[number // BITS] |= mask_HW << (number % BITS)
    return planes_PHW


@detector_losses.register(MaskRCNN)
def mask_rcnn_losses(model: Any, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    """As `MaskRCNN.forward` in training mode."""
    assert isinstance(targets, MaskTargets)
    stage = first_stage(model, images_NCHW)
    heads = cast(RoIHeads, model.roi_heads)
    pyramid = Pyramid.of(heads.box_roi_pool, stage.features, stage.size)
    samples = training_samples(heads, stage.proposals, targets, pyramid)
    return {
        **box_losses(heads, samples, pyramid),
        **mask_losses(heads, stage.features, samples, targets, stage.size),
        **stage.losses(targets),
    }


def mask_losses(
    heads: Any,
    features: dict[str, torch.Tensor],
    samples: RoISamples,
    targets: MaskTargets,
    size: torch.Size,
) -> dict[str, torch.Tensor]:
    """As `maskrcnn_loss`: the mean over the pixels of the masks of all samples that have an object."""
    count = sum(samples.object_counts)
    if not count:  # as torchvision: zero, with a gradient of zero
        parts = [*heads.mask_head.parameters(), *heads.mask_predictor.parameters()]
        return {"loss_mask": torch.stack([part.sum() for part in parts]).sum() * 0}
    chosen_S = (samples.labels_S <= 0).to(torch.uint8).argsort(stable=True)[:count]
    regions_S5, labels_S = samples.regions_S5[chosen_S], samples.labels_S[chosen_S]
    pyramid = Pyramid.of(heads.mask_roi_pool, features, size)
    pooled = pyramid.pooled(regions_S5, samples.object_counts)
    logits_SCmm = heads.mask_predictor(heads.mask_head(pooled))
    places_S = targets.places_NM[regions_S5[:, 0].long(), samples.objects_S[chosen_S]]
    goal_Smm = mask_goals(targets.planes_PHW, places_S, regions_S5, logits_SCmm.shape[-1])
    logits_Smm = logits_SCmm.gather(1, labels_S[:, None, None, None].expand(-1, 1, *logits_SCmm.shape[2:]))[:, 0]
    return {"loss_mask": F.binary_cross_entropy_with_logits(logits_Smm, goal_Smm)}


@torch.no_grad()
def mask_goals(planes_PHW: torch.Tensor, places_S: torch.Tensor, regions_S5: torch.Tensor, side: int) -> torch.Tensor:
    """float32 [S, side, side]: the part of each object's mask in its region, as `project_masks_on_boxes`."""
    return torch.cat(list(_goals(planes_PHW, places_S, regions_S5, side)))


def _goals(
    planes_PHW: torch.Tensor, places_S: torch.Tensor, regions_S5: torch.Tensor, side: int
) -> Iterator[torch.Tensor]:
    """Some regions at a time, so that memory is bounded whatever their number."""
    step = max(1, MOST_PIXELS // planes_PHW[0].numel())
    for places, regions in zip(places_S.split(step), regions_S5.split(step), strict=True):
        masks = unpacked(planes_PHW, places)[:, None].float()
        numbers = torch.arange(len(places), device=regions.device, dtype=regions.dtype)[:, None]
        yield roi_align(masks, torch.cat([numbers, regions[:, 1:]], dim=1), side, 1.0)[:, 0]
