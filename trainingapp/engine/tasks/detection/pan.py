"""A fast detector without anchors for any device: three levels of a small backbone, joined in both directions.

The parts and where they come from: stages whose features take a short and a long way (Wang et al., arXiv:1911.11929,
with all intermediate results joined as by Lee et al., arXiv:1904.09730); a path from coarse to fine levels and back
(Liu et al., arXiv:1803.01534); heads with a branch for classes and one for boxes (Ge et al., arXiv:2107.08430); sides
of a box as the mean of a distribution over distances (Li et al., arXiv:2006.04388). The loss is that of
`losses/task_aligned.py`.

Legend: N images; A cells of all levels, fine ones first; C classes; B bins, the distances 0, 1 .. B - 1 in strides; D
detections; a cell is the square of the image that belongs to a place of a feature map, and its box is xyxy.
"""

import math
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

BINS = 16
LEVELS = 3
FIRST_STRIDE = 8
"""Of the finest level, in pixels, with an anchor scale of 1."""

LEAST_STRIDE = 4
MOST_CANDIDATES = 1000
"""Pairs of cell and class of an image that non-maximum suppression compares."""

FIRST_CONFIDENCE = 0.01
"""Of every class at the start: most cells have no object (Lin et al., arXiv:1708.02002)."""

FIRST_FALL = 0.4
"""By how much the logit of a bin is below that of the bin before at the start: distances of one to two strides."""


class Size(NamedTuple):
    """`stem` and `widths` are channels, of the first layers and of the three levels; `joined` those of the levels after
    joining and of the heads; `depth` residual blocks in a stage."""

    stem: int
    widths: tuple[int, int, int]
    joined: int
    depth: int


SIZES = {
    "pan_n": Size(24, (64, 96, 160), 64, 1),
    "pan_s": Size(32, (96, 160, 256), 96, 1),
    "pan_m": Size(48, (128, 256, 384), 160, 2),
}


class ConvNorm(nn.Sequential):
    """A convolution that keeps or divides the size, batch norm and SiLU."""

    def __init__(self, channels_in: int, channels_out: int, side: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, side, stride, side // 2, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.SiLU(inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + cast(torch.Tensor, self.layers(features))


class Stage(nn.Module):
    """Half of the channels pass by the blocks; the result of each block is among the outputs that are joined."""

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.split = ConvNorm(channels_in, 2 * half, 1)
        self.blocks = nn.ModuleList([Residual(half) for _number in range(depth)])
        self.join = ConvNorm((2 + depth) * half, channels_out, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        parts = list(self.split(features).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return cast(torch.Tensor, self.join(torch.cat(parts, dim=1)))


class Body(nn.Module):
    """The feature extractor: maps of three levels, each half the size of the one before, the first at `stride`."""

    def __init__(self, size: Size, stride: int) -> None:
        super().__init__()
        stem: list[nn.Module] = [ConvNorm(3, size.stem, 3, 2)]
        channels = size.stem
        for _doubling in range(int(math.log2(stride)) - 2):
            stem += [ConvNorm(channels, 2 * size.stem, 3, 2), Stage(2 * size.stem, 2 * size.stem, 1)]
            channels = 2 * size.stem
        self.stem = nn.Sequential(*stem)
        stages = []
        for width in size.widths:
            stages.append(nn.Sequential(ConvNorm(channels, width, 3, 2), Stage(width, width, size.depth)))
            channels = width
        self.stages = nn.ModuleList(stages)

    def forward(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        features, levels = self.stem(images_NCHW), []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return levels


class Neck(nn.Module):
    """Joins the levels from the coarsest to the finest and back; all have `size.joined` channels afterwards."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.joined
        self.laterals = nn.ModuleList([ConvNorm(channels, width, 1) for channels in size.widths])
        self.finer = nn.ModuleList([Stage(2 * width, width, size.depth) for _level in range(LEVELS - 1)])
        self.halvings = nn.ModuleList([ConvNorm(width, width, 3, 2) for _level in range(LEVELS - 1)])
        self.coarser = nn.ModuleList([Stage(2 * width, width, size.depth) for _level in range(LEVELS - 1)])

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        for level in reversed(range(LEVELS - 1)):
            enlarged = F.interpolate(maps[level + 1], size=maps[level].shape[-2:])
            maps[level] = self.finer[level](torch.cat([maps[level], enlarged], dim=1))
        for level in range(LEVELS - 1):
            halved = self.halvings[level](maps[level])
            maps[level + 1] = self.coarser[level](torch.cat([halved, maps[level + 1]], dim=1))
        return maps


class Backbone(nn.Module):
    """Body and neck, with the maps by the name of their level as torchvision's backbones give them."""

    def __init__(self, size: Size, stride: int) -> None:
        super().__init__()
        self.body = Body(size, stride)
        self.neck = Neck(size)

    def forward(self, images_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        return {str(level): features for level, features in enumerate(self.neck(self.body(images_NCHW)))}


class Branch(nn.Sequential):
    """A part of the head at one level."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(ConvNorm(channels, channels), nn.Conv2d(channels, outputs, 1))

    @property
    def last(self) -> nn.Conv2d:
        """The layer that gives the outputs."""
        return cast(nn.Conv2d, self[-1])

    def begin_with(self, biases: torch.Tensor) -> None:
        """Set what the outputs are before anything is learned."""
        with torch.no_grad():
            cast(nn.Parameter, self.last.bias).copy_(biases)


class Head(nn.Module):
    """Gives "cls_logits" [N, A, C], "bbox_bins" [N, A, 4, B] and "bbox_regression" [N, A, 4] in float32.

    The regression is the mean of the bins: the distances from the center of the cell to the left, top, right and bottom
    side of the object, in strides.
    """

    def __init__(self, channels: int, class_count: int) -> None:
        super().__init__()
        classes, boxes = (
            [Branch(channels, outputs) for _level in range(LEVELS)] for outputs in (class_count, 4 * BINS)
        )
        for branch in classes:
            nn.init.normal_(branch.last.weight, std=0.01)
            branch.begin_with(torch.full((class_count,), -math.log(1 / FIRST_CONFIDENCE - 1)))
        for branch in boxes:
            branch.begin_with(-FIRST_FALL * torch.arange(BINS).repeat(4))
        self.classes, self.boxes = nn.ModuleList(classes), nn.ModuleList(boxes)
        self.register_buffer("distances_B", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def forward(self, levels: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        logits_NAC, bins = (
            torch.cat(
                [
                    branch(level).permute(0, 2, 3, 1).flatten(1, 2)
                    for branch, level in zip(branches, levels, strict=True)
                ],
                dim=1,
            ).float()
            for branches in (self.classes, self.boxes)
        )
        bins_NA4B = bins.unflatten(2, (4, BINS))
        # Not a product of matrices, which mixed precision would round to bfloat16.
        distances_NA4 = (bins_NA4B.softmax(dim=-1) * self.distances_B).sum(dim=-1)
        return {"cls_logits": logits_NAC, "bbox_bins": bins_NA4B, "bbox_regression": distances_NA4}


class Cells(nn.Module):
    """The cells of the levels, called like torchvision's generators of anchors: [A, 4] for each image."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides

    def of(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """[A, 4] float32."""
        cells = []
        for stride, level in zip(self.strides, levels, strict=True):
            rows, columns = (torch.arange(side, device=level.device) * stride for side in level.shape[-2:])
            top, left = torch.meshgrid(rows, columns, indexing="ij")
            cells.append(torch.stack([left, top, left + stride, top + stride], dim=-1).reshape(-1, 4))
        return torch.cat(cells).float()

    def forward(self, images: ImageList, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.of(levels)] * len(images.image_sizes)


class PanDetector(nn.Module):
    """The detector; `build_detector` gives it the `transform` that normalizes its input."""

    transform: nn.Module

    def __init__(
        self,
        name: str,
        class_count: int,
        *,
        anchor_scale: float,
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
    ) -> None:
        super().__init__()
        size, stride = SIZES[name], first_stride(anchor_scale)
        self.backbone = Backbone(size, stride)
        self.head = Head(size.joined, class_count)
        self.anchor_generator = Cells(tuple(stride * 2**level for level in range(LEVELS)))
        self.score_thresh, self.nms_thresh, self.limit = score_thresh, nms_thresh, detections_per_img

    def forward(self, images_NCHW: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """For each image "boxes" [D, 4] xyxy, "scores" [D] in descending order and "labels" [D], classes from 0.

        The same in both modes: losses come from `detector_losses`.
        """
        levels = list(self.backbone(self.transform.normalised(images_NCHW)).values())  # type: ignore[operator]
        found = self.head(levels)
        boxes_NA4 = distances_to_boxes(found["bbox_regression"], self.anchor_generator.of(levels))
        height, width = images_NCHW.shape[-2:]
        boxes_NA4 = clip_boxes_to_image(boxes_NA4, (height, width))
        return [self._detections(*one) for one in zip(boxes_NA4, found["cls_logits"].sigmoid(), strict=True)]

    def _detections(self, boxes_A4: torch.Tensor, scores_AC: torch.Tensor) -> dict[str, torch.Tensor]:
        count = min(MOST_CANDIDATES, scores_AC.numel())
        scores, places = scores_AC.flatten().topk(count)
        scores, places = scores[scores > self.score_thresh], places[scores > self.score_thresh]
        cells, labels = places // scores_AC.shape[1], places % scores_AC.shape[1]
        boxes = boxes_A4[cells]
        kept = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.limit]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def distances_to_boxes(distances_NA4: torch.Tensor, cells_A4: torch.Tensor) -> torch.Tensor:
    """[N, A, 4] xyxy from distances to the sides in strides."""
    strides_A1 = cells_A4[:, 2:3] - cells_A4[:, 0:1]
    centers_A2 = (cells_A4[:, :2] + cells_A4[:, 2:]) / 2
    before_NA2, after_NA2 = (distances_NA4 * strides_A1).split(2, dim=-1)
    return torch.cat([centers_A2 - before_NA2, centers_A2 + after_NA2], dim=-1)


def first_stride(anchor_scale: float) -> int:
    """Stride of the finest level: a power of two near 8 times the scale, from 4 to 8."""
    return LEAST_STRIDE if FIRST_STRIDE * anchor_scale < LEAST_STRIDE * math.sqrt(2) else FIRST_STRIDE
