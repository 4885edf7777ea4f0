"""Mask R-CNN as others can use it, and how its outputs are compared.

Unlike detectors it decides itself which boxes stay: masks are computed for these alone. Legend: D objects; m side of a
mask; boxes are xyxy in pixels of the square that the network sees.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, TOLERANCE
from trainingapp.contract.prediction import Floats
from trainingapp.engine.plain_outputs import Outputs, largest_difference
from trainingapp.engine.tasks.detection.plain_outputs import TwoStages, surest


class PlainInstances(TwoStages):
    """boxes [D, 4], scores [D], labels [D] from 0 and masks [D, m, m] of the objects of one image.

    As `WithSuppression` of detection with `confidence`, `iou` and `limit`, by descending score.
    """

    def __init__(self, network: Any, image_size: int, *, confidence: float, iou: float, limit: int) -> None:
        super().__init__(network, image_size)
        self._confidence, self._iou, self._limit = confidence, iou, limit

    def _outputs(self, features: dict[str, torch.Tensor]) -> Outputs:
        boxes, scores_PC = super()._outputs(features)
        boxes_D4, scores_D, labels_D = surest(
            boxes, scores_PC, sum(self._size), confidence=self._confidence, iou=self._iou, limit=self._limit
        )
        heads = self.network.roi_heads
        pooled = self._pooled(heads.mask_roi_pool, features, boxes_D4)
        logits_DKmm = heads.mask_predictor(heads.mask_head(pooled))
        wanted_D111 = (labels_D + 1)[:, None, None, None]  # the background is the first
        logits_D1mm = logits_DKmm.gather(1, wanted_D111.expand(-1, 1, *logits_DKmm.shape[2:]))
        return boxes_D4, scores_D, labels_D, logits_D1mm[:, 0].sigmoid()


def instance_differences(expected: Sequence[Floats], found: Sequence[Floats]) -> tuple[float, float]:
    """The largest difference of scores and mask pixels, and of boxes in pixels; infinite where one finds what the other
    does not."""
    if [part.shape for part in expected] != [part.shape for part in found]:
        return float("inf"), 0.0
    score, box = _differences(expected, found)
    if score <= TOLERANCE and box <= BOX_TOLERANCE_PIXELS:
        return score, box
    # Of equal scores, neither format promises an order: each object is compared with the nearest one of its class.
    left, order = list(range(len(found[0]))), []
    for box_4, label in zip(expected[0], expected[2], strict=True):
        same = [place for place in left if found[2][place] == label]
        if not same:
            return float("inf"), 0.0
        nearest = min(same, key=lambda place: float(np.abs(found[0][place] - box_4).max()))
        left.remove(nearest)
        order.append(nearest)
    return _differences(expected, [part[order] for part in found])


def _differences(expected: Sequence[Floats], found: Sequence[Floats]) -> tuple[float, float]:
    parts = [largest_difference(one, other) for one, other in zip(expected, found, strict=True)]
    box, score, label, mask = parts
    return max(score, mask, float("inf") if label else 0.0), box
