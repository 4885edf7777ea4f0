"""Which object each anchor is to find. Nothing here has a gradient.

A result is int64 [N, A]: the number of the object in its image, BACKGROUND, or IGNORED for an anchor that counts
neither as an object nor as background.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torchvision.models.detection._utils import Matcher

from trainingapp.engine.tasks.detection.losses.boxes import areas, overlaps
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets

BACKGROUND = -1
IGNORED = -2

MOST_PAIRS = 1 << 21
"""Pairs of object and anchor that are compared at once: 8 MB for each of a dozen temporary tensors."""


class Rule(Protocol):
    """Matches the anchors [N, A, 4] of some images with their objects [N, M, 4], where `is_object_NM`."""

    def __call__(
        self, boxes_NM4: torch.Tensor, is_object_NM: torch.Tensor, anchors_NA4: torch.Tensor
    ) -> torch.Tensor: ...


def matched(rule: Rule, targets: PaddedTargets, anchors: torch.Tensor) -> torch.Tensor:
    """[N, A] for anchors [A, 4] of all images or [N, A, 4].

    Images are taken together as long as their pairs are few: padding then costs little, and memory is bounded. Their
    numbers of objects are known to the host.
    """
    anchors_NA4 = anchors.expand(len(targets.counts), -1, -1)
    parts = []
    with torch.no_grad():
        for images, most in image_groups(targets.counts, anchors_NA4.shape[1]):
            group_NA4 = anchors_NA4[images]
            if most:
                parts.append(rule(targets.boxes_NM4[images, :most], targets.is_object_NM[images, :most], group_NA4))
            else:
                parts.append(group_NA4.new_full(group_NA4.shape[:2], BACKGROUND, dtype=torch.int64))
    return torch.cat(parts)


def image_groups(counts: Sequence[int], anchors: int) -> Iterator[tuple[slice, int]]:
    """Consecutive images with the largest number of objects in them; more than MOST_PAIRS pairs only for one image."""
    first, most = 0, 0
    for image, count in enumerate(counts):
        wider = max(most, count)
        if image > first and (image - first + 1) * wider * anchors > MOST_PAIRS:
            yield slice(first, image), most
            first, wider = image, count
        most = wider
    yield slice(first, len(counts)), most


def by_overlap(
    boxes_NM4: torch.Tensor,
    is_object_NM: torch.Tensor,
    anchors_NA4: torch.Tensor,
    *,
    least: float,
    background_below: float,
    keeps_best: bool,
) -> torch.Tensor:
    """The object with the largest IoU where that is at least `least`, as torchvision's `Matcher`.

    Ren et al., arXiv:1506.01497, section 3.1.2. IGNORED from `background_below` to `least`. With `keeps_best`, the
    anchors that overlap an object more than all others do are matched whatever their IoU is, each with the object that
    it overlaps most itself.
    """
    overlaps_NMA = _overlaps_of_objects(boxes_NM4, is_object_NM, anchors_NA4)
    largest_NA, object_NA = overlaps_NMA.max(dim=1)
    matched_NA = _above(largest_NA, object_NA, least, background_below)
    if not keeps_best:
        return matched_NA
    is_best_NMA = (overlaps_NMA == overlaps_NMA.amax(dim=2, keepdim=True)) & is_object_NM[..., None]
    return torch.where(is_best_NMA.any(dim=1), object_NA, matched_NA)


def by_overlap_with_owners(
    boxes_NM4: torch.Tensor, is_object_NM: torch.Tensor, anchors_NA4: torch.Tensor, *, least: float
) -> torch.Tensor:
    """The same with one threshold, where each object owns the anchor that overlaps it most, as `SSDMatcher`.

    Liu et al., arXiv:1512.02325, section 2.2. The last of several owners has the anchor.
    """
    overlaps_NMA = _overlaps_of_objects(boxes_NM4, is_object_NM, anchors_NA4)
    largest_NA, object_NA = overlaps_NMA.max(dim=1)
    owned_NM = overlaps_NMA.argmax(dim=2)
    numbers_M, numbers_A = (torch.arange(count, device=owned_NM.device) for count in overlaps_NMA.shape[1:])
    is_owned_NMA = (owned_NM[..., None] == numbers_A) & is_object_NM[..., None]
    owner_NA = torch.where(is_owned_NMA, numbers_M[:, None], BACKGROUND).amax(dim=1)
    return torch.where(owner_NA >= 0, owner_NA, _above(largest_NA, object_NA, least, least))


def by_center_and_size(
    boxes_NM4: torch.Tensor,
    is_object_NM: torch.Tensor,
    anchors_NA4: torch.Tensor,
    *,
    radius: float,
    sizes_A2: torch.Tensor,
) -> torch.Tensor:
    """The smallest object in which the center of an anchor lies, as torchvision's `FCOS.compute_loss`.

    Tian et al., arXiv:2006.09214. The center is nearer than `radius` sides of the anchor to that of the object, and its
    largest distance to a side of the object is within the limits `sizes_A2`.
    """
    centers_NA2 = (anchors_NA4[..., :2] + anchors_NA4[..., 2:]) / 2
    sides_NA = anchors_NA4[..., 2] - anchors_NA4[..., 0]
    x_N1A, y_N1A = centers_NA2.movedim(2, 0)[:, :, None].contiguous()
    center_x, center_y = ((boxes_NM4[..., :2] + boxes_NM4[..., 2:]) / 2)[..., None].unbind(2)
    away_NMA = torch.maximum((x_N1A - center_x).abs_(), (y_N1A - center_y).abs_())
    left, top, right, bottom = boxes_NM4[..., None].unbind(2)
    to_left, to_top, to_right, to_bottom = x_N1A - left, y_N1A - top, right - x_N1A, bottom - y_N1A
    nearest_NMA = torch.minimum(torch.minimum(to_left, to_top), torch.minimum(to_right, to_bottom))
    farthest_NMA = torch.maximum(torch.maximum(to_left, to_top), torch.maximum(to_right, to_bottom))
    fits_NMA = (away_NMA < radius * sides_NA[:, None]) & (nearest_NMA > 0) & is_object_NM[..., None]
    fits_NMA &= (farthest_NMA > sizes_A2[:, 0]) & (farthest_NMA < sizes_A2[:, 1])
    # As torchvision computes it: a match is worth the more, the smaller the object is.
    worth_NA, object_NA = (fits_NMA.float() * (1e8 - areas(boxes_NM4))[..., None]).max(dim=1)
    return torch.where(worth_NA < 1e-5, BACKGROUND, object_NA)


def rule_of(matcher: Matcher) -> Rule:
    """Matching as torchvision's `matcher` does it."""
    return partial(
        by_overlap,
        least=matcher.high_threshold,
        background_below=matcher.low_threshold,
        keeps_best=matcher.allow_low_quality_matches,
    )


def _overlaps_of_objects(
    boxes_NM4: torch.Tensor, is_object_NM: torch.Tensor, anchors_NA4: torch.Tensor
) -> torch.Tensor:
    """[N, M, A]: IoU, and -1 for padding."""
    return overlaps(boxes_NM4, anchors_NA4).masked_fill_(~is_object_NM[..., None], -1)


def _above(largest_NA: torch.Tensor, object_NA: torch.Tensor, least: float, background_below: float) -> torch.Tensor:
    matched_NA = torch.where(largest_NA < least, IGNORED, object_NA)
    return torch.where(largest_NA < background_below, BACKGROUND, matched_NA)
