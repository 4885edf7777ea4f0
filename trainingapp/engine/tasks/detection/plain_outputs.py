"""Detectors as others can use them, and how their outputs are read and compared.

Outputs are boxes [B, 4] or, where each class has its own, [B, C, 4], and scores [B, C], before any threshold and before
non-maximum suppression, which `contract/prediction.py` has. Legend: A anchors, B boxes, C classes, K classes and the
background, P proposals; boxes are xyxy (left, top, right, bottom) in pixels of the square that the network sees.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image, nms, roi_align
from torchvision.ops.poolers import _setup_scales

from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, TOLERANCE, Card
from trainingapp.contract.prediction import Floats, Prepared, candidates, suppressed
from trainingapp.engine.plain_outputs import Outputs, largest_difference

LEAST_COMPARED = 0.05
"""Confidence from which on the boxes of two formats of a network are compared."""

MOST_COMPARED = 100
"""Boxes of an image that are compared after suppression."""


def plain_detector(network: nn.Module, image_size: int) -> nn.Module:
    """`network`, in evaluation mode, as a module that gives (boxes, scores) for one image."""
    network = network.eval()
    if isinstance(network, FasterRCNN):
        return _TwoStages(network, image_size).eval()
    assert isinstance(network, FCOS | RetinaNet | SSD)
    return _Dense(network, image_size).eval()


def box_differences(card: Card, expected: Sequence[Floats], found: Sequence[Floats]) -> tuple[float, float]:
    """The largest difference of scores, and of boxes in pixels; infinite where one finds what the other does not."""
    is_dense = expected[0].ndim != 3
    if [part.shape for part in expected] == [part.shape for part in found]:
        score, box = largest_difference(expected[1], found[1]), largest_difference(expected[0], found[0])
        if is_dense or (score <= TOLERANCE and box <= BOX_TOLERANCE_PIXELS):
            return score, box
    elif is_dense:
        return float("inf"), 0.0
    # The proposals of a detector in two stages may stand in another order: compare what is found in the end.
    size = card["image_size"]
    whole = Prepared(np.zeros(0, np.float32), size, size, 0, 0, size, size)
    rows = [
        suppressed(candidates(boxes, scores, whole, LEAST_COMPARED), card["iou"], MOST_COMPARED)
        for boxes, scores in (expected, found)
    ]
    if [row[0] for row in rows[0]] != [row[0] for row in rows[1]]:
        return float("inf"), 0.0
    one, other = (np.array(part, dtype=np.float32).reshape(-1, 6) for part in rows)
    return largest_difference(one[:, 1], other[:, 1]), largest_difference(one[:, 2:], other[:, 2:])


def _anchors(generator: Any, features: list[torch.Tensor], image_size: int) -> torch.Tensor:
    """[A, 4] xyxy: the same for every image of this size."""
    images = torch.zeros(1, 3, image_size, image_size)
    anchors: torch.Tensor = generator(ImageList(images, [(image_size, image_size)]), features)[0]
    return anchors


class _Dense(nn.Module):
    """FCOS, RetinaNet and SSD: each anchor gives one box with a score for each class."""

    anchors_A4: torch.Tensor

    def __init__(self, network: Any, image_size: int) -> None:
        super().__init__()
        self.network = network
        self._size = (image_size, image_size)
        with torch.no_grad():
            features = self._features(torch.zeros(1, 3, image_size, image_size))
            anchors = _anchors(network.anchor_generator, features, image_size)
        self.register_buffer("anchors_A4", anchors, persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        found: dict[str, torch.Tensor] = self.network.head(self._features(images_NCHW))
        logits_AC, deltas_A4 = found["cls_logits"][0], found["bbox_regression"][0]
        if isinstance(self.network, FCOS):
            scores_AC = torch.sqrt(logits_AC.sigmoid() * found["bbox_ctrness"][0].sigmoid())
            boxes_A4 = self.network.box_coder.decode(deltas_A4, self.anchors_A4)
        else:
            is_ssd = isinstance(self.network, SSD)
            scores_AC = logits_AC.softmax(dim=1)[:, 1:] if is_ssd else logits_AC.sigmoid()
            boxes_A4 = self.network.box_coder.decode_single(deltas_A4, self.anchors_A4)
        return clip_boxes_to_image(boxes_A4, self._size), scores_AC

    def _features(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        images, _targets = self.network.transform(images_NCHW)
        return list(self.network.backbone(images.tensors).values())


class _TwoStages(nn.Module):
    """Faster R-CNN: each proposal gives a box and a score for each class."""

    anchors_A4: torch.Tensor
    levels_A: torch.Tensor

    def __init__(self, network: Any, image_size: int) -> None:
        super().__init__()
        self.network = network
        self._size = (image_size, image_size)
        with torch.no_grad():
            features = list(self._features(torch.zeros(1, 3, image_size, image_size)).values())
            logits, _deltas = network.rpn.head(features)
            anchors = _anchors(network.rpn.anchor_generator, features, image_size)
        self._counts = [level.numel() for level in logits]
        levels = torch.cat([torch.full((count,), float(level)) for level, count in enumerate(self._counts)])
        self.register_buffer("anchors_A4", anchors, persistent=False)
        self.register_buffer("levels_A", levels, persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        features = self._features(images_NCHW)
        proposals = [self._proposals(list(features.values()))]
        heads = self.network.roi_heads
        pooled = self._pooled(features, proposals[0])
        logits_PK, deltas_P = heads.box_predictor(heads.box_head(pooled))
        boxes_PK4 = clip_boxes_to_image(heads.box_coder.decode(deltas_P, proposals), self._size)
        return boxes_PK4[:, 1:], logits_PK.softmax(dim=1)[:, 1:]

    def _features(self, images_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        images, _targets = self.network.transform(images_NCHW)
        features: dict[str, torch.Tensor] = self.network.backbone(images.tensors)
        return features

    def _pooled(self, features: dict[str, torch.Tensor], boxes_P4: torch.Tensor) -> torch.Tensor:
        """[P, channels, side, side]. torch.export cannot sort boxes by level: for it every level is looked at."""
        pooler = self.network.roi_heads.box_roi_pool
        if not torch.compiler.is_exporting():
            pooled: torch.Tensor = pooler(features, [boxes_P4], [self._size])
            return pooled
        maps = [level for name, level in features.items() if name in pooler.featmap_names]
        scales, level_of = _setup_scales(maps, [self._size], pooler.canonical_scale, pooler.canonical_level)
        levels_P, boxes_P5 = level_of([boxes_P4]), torch.cat([torch.zeros_like(boxes_P4[:, :1]), boxes_P4], dim=1)
        parts = [
            roi_align(level_map, boxes_P5, pooler.output_size, scale, pooler.sampling_ratio)
            * (levels_P == level).to(boxes_P4.dtype)[:, None, None, None]
            for level, (level_map, scale) in enumerate(zip(maps, scales, strict=True))
        ]
        return torch.stack(parts).sum(dim=0)

    def _proposals(self, features: list[torch.Tensor]) -> torch.Tensor:
        """[P, 4]: as `RegionProposalNetwork.filter_proposals`, in operations that exporters know."""
        rpn = self.network.rpn
        logits_A, deltas_A4 = (
            torch.cat([_by_anchor(level, size) for level in found])
            for found, size in zip(rpn.head(features), (1, 4), strict=True)
        )
        logits_A = logits_A[:, 0]
        chosen, first = [], 0
        for count in self._counts:
            best = logits_A[first : first + count].topk(min(count, rpn.pre_nms_top_n())).indices
            chosen.append(best + first)
            first += count
        chosen_A = torch.cat(chosen)
        boxes_A4 = rpn.box_coder.decode_single(deltas_A4[chosen_A], self.anchors_A4[chosen_A])
        boxes_A4 = clip_boxes_to_image(boxes_A4, self._size)
        scores_A, levels_A = logits_A[chosen_A].sigmoid(), self.levels_A[chosen_A]
        sides_A2 = boxes_A4[:, 2:] - boxes_A4[:, :2]
        kept = torch.where((sides_A2 >= rpn.min_size).all(dim=1))[0]
        boxes_A4, scores_A, levels_A = boxes_A4[kept], scores_A[kept], levels_A[kept]
        apart_A4 = boxes_A4 + levels_A[:, None] * (2.0 * self._size[0])  # no box suppresses one of another level
        return boxes_A4[nms(apart_A4, scores_A, rpn.nms_thresh)[: rpn.post_nms_top_n()]]


def _by_anchor(level_1AHW: torch.Tensor, size: int) -> torch.Tensor:
    """[1, A * size, H, W] to [H * W * A, size], in the order of the anchors."""
    _one, channels, height, width = level_1AHW.shape
    anchors = level_1AHW.view(channels // size, size, height, width).permute(2, 3, 0, 1)
    return anchors.reshape(-1, size)
