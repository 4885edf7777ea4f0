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
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image, nms, roi_align
from torchvision.ops.poolers import _setup_scales

from trainingapp.contract.architectures import HF
from trainingapp.contract.export_options import NMS_OUTPUTS, ExportOptions
from trainingapp.contract.messages import MessageError
from trainingapp.contract.messages.weights import EXPORT_TRANSFORMER_SIZE, EXPORT_TWO_STAGES
from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, TOLERANCE, Card
from trainingapp.contract.prediction import MOST_CANDIDATES, Floats, Prepared, candidates, suppressed
from trainingapp.engine.plain_outputs import Outputs, largest_difference
from trainingapp.engine.tasks.detection.from_transformers import TransformerDetector
from trainingapp.engine.tasks.detection.pan import PanDetector, distances_to_boxes

LEAST_COMPARED = 0.05
"""Confidence from which on the boxes of two formats of a network are compared."""

MOST_COMPARED = 100
"""Boxes of an image that are compared after suppression."""


def plain_detector(network: nn.Module, image_size: int) -> nn.Module:
    """`network`, in evaluation mode, as a module that gives (boxes, scores) for one image."""
    network = network.eval()
    if isinstance(network, TransformerDetector):
        return _Queries(network).eval()
    if isinstance(network, FasterRCNN):
        return TwoStages(network, image_size).eval()
    assert isinstance(network, FCOS | RetinaNet | SSD | PanDetector)
    return _Dense(network, image_size).eval()


def export_detector(network: nn.Module, card: Card, options: ExportOptions) -> nn.Module:
    """`plain_detector` as `options` describe it: for any number or size of images, or with suppression inside.

    Raises MessageError for a detector in two stages, whose proposals are made for one image of one size.
    """
    size, network = card["image_size"], network.eval()
    plain: nn.Module
    if isinstance(network, TransformerDetector):
        if options.size == "dynamic":
            raise MessageError(EXPORT_TRANSFORMER_SIZE())
        plain = BatchedQueries(network) if options.batch == "dynamic" else _Queries(network)
    elif isinstance(network, FasterRCNN):
        if options.is_dynamic:
            raise MessageError(EXPORT_TWO_STAGES())
        plain = plain_detector(network, size)
    else:
        assert isinstance(network, FCOS | RetinaNet | SSD | PanDetector)
        kind = BatchedDetector if options.batch == "dynamic" else _Dense
        plain = kind(network, size, any_size=options.size == "dynamic")
    if options.nms:
        plain = WithSuppression(plain, confidence=card["confidence"], iou=card["iou"], limit=card["max_boxes"])
    return plain.eval()


def box_differences(card: Card, expected: Sequence[Floats], found: Sequence[Floats]) -> tuple[float, float]:
    """The largest difference of scores, and of boxes in pixels; infinite where one finds what the other does not."""
    if len(expected) == len(NMS_OUTPUTS):
        return _differences_of_rows(*(_rows(*outputs) for outputs in (expected, found)))
    has_queries = card["architecture"].startswith(HF)
    is_dense = (expected[0].ndim != 3 or expected[1].ndim == 3) and not has_queries
    if [part.shape for part in expected] == [part.shape for part in found]:
        score, box = largest_difference(expected[1], found[1]), largest_difference(expected[0], found[0])
        if is_dense or (score <= TOLERANCE and box <= BOX_TOLERANCE_PIXELS):
            return score, box
    elif is_dense:
        return float("inf"), 0.0
    # The proposals of a two-stage detector and the queries of a transformer may have another order: where scores are
    # nearly equal, others may even be chosen. Compare the final detections.
    if expected[1].ndim == 3:  # of several images
        images = [list(zip(*outputs, strict=True)) for outputs in (expected, found)]
        scores, boxes = zip(*(_differences_of_detections(card, *one) for one in zip(*images, strict=True)), strict=True)
        return max(scores), max(boxes)
    return _differences_of_detections(card, expected, found)


def _differences_of_detections(card: Card, *outputs: Sequence[Floats]) -> tuple[float, float]:
    """The same of the detections after suppression, for the outputs of one image in two formats."""
    size = card["image_size"]
    whole = Prepared(np.zeros(0, np.float32), size, size, 0, 0, size, size)
    return _differences_of_rows(
        *(
            suppressed(candidates(boxes, scores, whole, LEAST_COMPARED), card["iou"], MOST_COMPARED)
            for boxes, scores in outputs
        )
    )


def _rows(boxes_D4: Floats, scores_D: Floats, labels_D: Floats) -> list[list[float]]:
    """The outputs of `WithSuppression` as rows of `candidates`."""
    found = zip(labels_D.tolist(), scores_D.tolist(), boxes_D4.tolist(), strict=True)
    return [[label, score, *box] for label, score, box in found]


def _differences_of_rows(expected: list[list[float]], found: list[list[float]]) -> tuple[float, float]:
    """The same of rows of `candidates`. Of equal scores, neither format promises an order: each row is compared with
    the nearest one of its class."""
    if len(expected) != len(found):
        return float("inf"), 0.0
    score, box, left = 0.0, 0.0, list(found)
    for row in expected:
        same = [other for other in left if other[0] == row[0]]
        if not same:
            return float("inf"), 0.0
        nearest = min(same, key=lambda other: max(abs(a - b) for a, b in zip(row[2:], other[2:], strict=True)))
        left.remove(nearest)
        score = max(score, abs(row[1] - nearest[1]))
        box = max(box, *(abs(a - b) for a, b in zip(row[2:], nearest[2:], strict=True)))
    return score, box


def _anchors(generator: Any, images_1CHW: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
    """[A, 4] xyxy: the same for every image of this size."""
    height, width = images_1CHW.shape[-2:]
    if isinstance(generator, DefaultBoxGenerator):
        # As its `forward`, with the size as a tensor: exporters would store it as a constant.
        grids = [list(level.shape[-2:]) for level in features]
        boxes_A4 = generator._grid_default_boxes(grids, [height, width], dtype=features[0].dtype)
        centres, halves, sides = boxes_A4[:, :2], 0.5 * boxes_A4[:, 2:], _sides(images_1CHW)
        return torch.cat([(centres - halves) * sides, (centres + halves) * sides], dim=-1)
    anchors: torch.Tensor = generator(ImageList(images_1CHW, [(height, width)]), features)[0]
    return anchors


def _sides(images_NCHW: torch.Tensor) -> torch.Tensor:
    """[2]: width and height, as a result of a computation: exporters store what is read from a shape as a constant."""
    row, column = images_NCHW[0, 0, 0, :], images_NCHW[0, 0, :, 0]
    return torch.stack([torch.ones_like(row).sum(), torch.ones_like(column).sum()])


def _clipped(boxes: torch.Tensor, images_NCHW: torch.Tensor) -> torch.Tensor:
    """[..., 4] xyxy within the images, whose size may be unknown until the exported file runs."""
    return torch.minimum(boxes.clamp(min=0), _sides(images_NCHW).repeat(2))


class BatchedDetector(nn.Module):
    """FCOS, RetinaNet and SSD: each anchor gives one box with a score for each class; [N, A, 4] and [N, A, C].

    With `any_size` the anchors are computed from the image that is given, else once for `image_size`.
    """

    anchors_A4: torch.Tensor

    def __init__(
        self, network: FCOS | RetinaNet | SSD | PanDetector, image_size: int, *, any_size: bool = False
    ) -> None:
        super().__init__()
        self.network: Any = network.eval()
        self._any_size = any_size
        with torch.no_grad():
            images = torch.zeros(1, 3, image_size, image_size)
            anchors = _anchors(network.anchor_generator, images, self._features(images))
        self.register_buffer("anchors_A4", anchors, persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        features = self._features(images_NCHW)
        found: dict[str, torch.Tensor] = self.network.head(features)
        logits_NAC, deltas_NA4 = found["cls_logits"], found["bbox_regression"]
        anchors_A4 = self.anchors_A4
        if self._any_size:
            anchors_A4 = _anchors(self.network.anchor_generator, images_NCHW[:1], features)
        count = logits_NAC.shape[0]
        anchors = anchors_A4[None].expand(count, -1, -1).reshape(-1, 4)
        if isinstance(self.network, FCOS):
            scores_NAC = torch.sqrt(logits_NAC.sigmoid() * found["bbox_ctrness"].sigmoid())
            boxes = self.network.box_coder.decode(deltas_NA4.reshape(-1, 4), anchors)
        elif isinstance(self.network, PanDetector):
            scores_NAC, boxes = logits_NAC.sigmoid(), distances_to_boxes(deltas_NA4, anchors_A4)
        else:
            is_ssd = isinstance(self.network, SSD)
            scores_NAC = logits_NAC.softmax(dim=-1)[..., 1:] if is_ssd else logits_NAC.sigmoid()
            boxes = self.network.box_coder.decode_single(deltas_NA4.reshape(-1, 4), anchors)
        return _clipped(boxes.reshape(count, -1, 4), images_NCHW), scores_NAC

    def _features(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        return list(self.network.backbone(self.network.transform.normalised(images_NCHW)).values())


class _Dense(BatchedDetector):
    """The same for one image: [A, 4] and [A, C]."""

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        return self.by_image(images_NCHW)[0]

    def by_image(self, images_NCHW: torch.Tensor) -> list[Outputs]:
        """The outputs for each of several images."""
        boxes_NA4, scores_NAC = super().forward(images_NCHW)
        return list(zip(boxes_NA4, scores_NAC, strict=True))


class BatchedQueries(nn.Module):
    """A detector of transformers: each query gives one box with a score for each class; [N, Q, 4] and [N, Q, C]."""

    def __init__(self, network: TransformerDetector) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        return self.network.boxes_and_scores(images_NCHW)


class _Queries(BatchedQueries):
    """The same for one image: [Q, 4] and [Q, C]."""

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        boxes_1Q4, scores_1QC = super().forward(images_NCHW)
        return boxes_1Q4[0], scores_1QC[0]

    def by_image(self, images_NCHW: torch.Tensor) -> list[Outputs]:
        """The outputs for each of several images."""
        return list(zip(*super().forward(images_NCHW), strict=True))


class WithSuppression(nn.Module):
    """Boxes of one image after confidence threshold and non-maximum suppression of each class, by descending score.

    Gives boxes [D, 4], scores [D] and labels [D], at most `limit`; as `candidates` and `suppressed` of
    `contract/prediction.py` do for an image that fills the square.
    """

    def __init__(self, network: nn.Module, *, confidence: float, iou: float, limit: int) -> None:
        super().__init__()
        self.network = network
        self._confidence, self._iou, self._limit = confidence, iou, limit

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        boxes, scores_BC = self.network(images_NCHW)
        width = images_NCHW.shape[-1] + images_NCHW.shape[-2]
        return surest(boxes, scores_BC, width, confidence=self._confidence, iou=self._iou, limit=self._limit)


def surest(
    boxes: torch.Tensor, scores_BC: torch.Tensor, width: int, *, confidence: float, iou: float, limit: int
) -> Outputs:
    """What `WithSuppression` gives, for boxes whose coordinates are below `width`."""
    places, labels = torch.where(scores_BC >= confidence)
    scores, order = scores_BC[places, labels].sort(descending=True)
    order = order[:MOST_CANDIDATES]
    places, labels, scores = places[order], labels[order], scores[:MOST_CANDIDATES]
    boxes = boxes[places] if boxes.dim() == 2 else boxes[places, labels]
    sides = boxes[:, 2:] - boxes[:, :2]
    has_area = torch.where((sides > 0).all(dim=1))[0]
    boxes, scores, labels = boxes[has_area], scores[has_area], labels[has_area]
    apart = boxes + labels[:, None].to(boxes.dtype) * width  # no box suppresses one of another class
    kept = nms(apart, scores, iou)[:limit]
    return boxes[kept], scores[kept], labels[kept]


class TwoStages(nn.Module):
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
            images = torch.zeros(1, 3, image_size, image_size)
            anchors = _anchors(network.rpn.anchor_generator, images, features)
        self._counts = [level.numel() for level in logits]
        levels = torch.cat([torch.full((count,), float(level)) for level, count in enumerate(self._counts)])
        self.register_buffer("anchors_A4", anchors, persistent=False)
        self.register_buffer("levels_A", levels, persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        return self._outputs(self._features(images_NCHW))

    def by_image(self, images_NCHW: torch.Tensor) -> list[Outputs]:
        """The outputs for each of several images. They share the backbone; each has proposals of its own."""
        features = self._features(images_NCHW)
        return [
            self._outputs({name: level[place : place + 1] for name, level in features.items()})
            for place in range(len(images_NCHW))
        ]

    def _outputs(self, features: dict[str, torch.Tensor]) -> Outputs:
        proposals = [self._proposals(list(features.values()))]
        heads = self.network.roi_heads
        pooled = self._pooled(heads.box_roi_pool, features, proposals[0])
        logits_PK, deltas_P = heads.box_predictor(heads.box_head(pooled))
        boxes_PK4 = clip_boxes_to_image(heads.box_coder.decode(deltas_P, proposals), self._size)
        return boxes_PK4[:, 1:], logits_PK.softmax(dim=1)[:, 1:]

    def _features(self, images_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        images_NCHW = self.network.transform.normalised(images_NCHW)
        features: dict[str, torch.Tensor] = self.network.backbone(images_NCHW)
        return features

    def _pooled(self, pooler: Any, features: dict[str, torch.Tensor], boxes_P4: torch.Tensor) -> torch.Tensor:
        """[P, channels, side, side]. torch.export cannot sort boxes by level: for it every level is looked at."""
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
