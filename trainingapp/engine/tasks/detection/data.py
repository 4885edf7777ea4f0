"""Images with boxes, as items.

Legend: N images of a batch, M boxes of an image (padded to the same number where images are together); xyxy = left,
top, right, bottom in pixels of the square image, right and bottom exclusive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from trainingapp.contract.base_config import IMAGE_SIZE_MULTIPLE
from trainingapp.contract.dataset_index import DatasetIndex, Sample
from trainingapp.contract.tasks.detection import TAKES_SIZES, DetectionConfig
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.images import PADDING_GREY, PixelStore, letterbox, load_fitted_image, load_fitted_mask
from trainingapp.engine.data.transforms import annotated_augmentation, switches
from trainingapp.engine.tasks.detection.losses.targets import padded

LEAST_SIDE = 2.0
"""Shortest side, in pixels, of an object that is kept as a target."""

LEAST_SHARE_SEEN = 0.2
"""Share of its area that must remain visible for a cut object to be kept as a target."""


@dataclass(frozen=True)
class BoxBatch(TensorBatch):
    """`images_NCHW` is uint8, `boxes_NM4` float32 xyxy and `labels_NM` int64 as `padded` gives them.

    `counts` are the boxes of each image, known without asking the device; validation has none, because it compares with
    the samples.
    """

    images_NCHW: torch.Tensor
    boxes_NM4: torch.Tensor
    labels_NM: torch.Tensor
    counts: tuple[int, ...]
    indices_N: torch.Tensor

    def by_image(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(boxes_xyxy, labels_M) of each image."""
        images = zip(self.boxes_NM4, self.labels_NM, self.counts, strict=True)
        return [(boxes_M4[:count], labels_M[:count]) for boxes_M4, labels_M, count in images]

    def resized(self, size: int) -> Self:
        """The batch with images of this side, and boxes in their pixels."""
        before = self.images_NCHW.shape[-1]
        if size == before:
            return self
        images_NCHW = TF.resize(self.images_NCHW, [size, size], antialias=True)
        return replace(self, images_NCHW=images_NCHW, boxes_NM4=self.boxes_NM4 * (size / before))


BoxBatchT = TypeVar("BoxBatchT", bound=BoxBatch)


class ScaledBatches(Generic[BoxBatchT]):
    """Items whose training batches have one of several sizes; see `training_sizes`."""

    _sizes: list[int]

    def scaled(self, batch: BoxBatchT) -> BoxBatchT:
        """The batch in one of the training sizes, drawn on torch's global CPU generator."""
        if len(self._sizes) == 1:
            return batch
        return batch.resized(self._sizes[int(torch.randint(len(self._sizes), ()))])

    def largest(self, batch: BoxBatchT) -> BoxBatchT:
        """The batch in the largest of the training sizes."""
        return batch.resized(self._sizes[-1])


@dataclass(frozen=True)
class BoxedImage:
    """`image_CHW` is uint8, `boxes_xyxy` float32 [M, 4], `labels_M` int64."""

    image_CHW: torch.Tensor
    boxes_xyxy: torch.Tensor
    labels_M: torch.Tensor


class BoxedImages(ScaledBatches[BoxBatch]):
    """A split as items: images fitted into [3, size, size] and their boxes. Crowds are no targets."""

    def __init__(
        self, dataset: DatasetIndex, samples: Sequence[Sample], config: DetectionConfig, memory_limit_bytes: int
    ) -> None:
        size = config.image_size
        paths = [dataset.folder / sample.path for sample in samples]
        conversion = dataset.conversion
        self.sample_count = len(samples)
        self._size = size
        self._mosaic = config.mosaic
        self._copy_paste = config.copy_paste
        takes_sizes = TAKES_SIZES.holds({"model": config.model})
        self._sizes = training_sizes(size, config.multi_scale if takes_sizes else 0)
        self._truth = [fitted_boxes(sample, size) for sample in samples]
        self._augmentation = annotated_augmentation(switches(config), size)
        self._store = PixelStore(
            lambda index: load_fitted_image(paths[index], size, conversion, config.decoding),
            len(samples),
            (3, size, size),
            memory_limit_bytes=memory_limit_bytes,
        )
        self._masks = PixelStore(
            lambda index: load_fitted_mask(dataset.folder / samples[index].mask, size),
            len(samples),
            (size, size),
            memory_limit_bytes=memory_limit_bytes if config.copy_paste else 0,
        )
        self._has_mask = [bool(sample.mask) for sample in samples]

    def item(self, index: int) -> BoxedImage:
        return BoxedImage(self._store.get(index), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    def training_item(self, index: int) -> BoxedImage:
        use_mosaic = self._mosaic > 0 and float(torch.rand(())) < self._mosaic
        others = torch.randint(self.sample_count, (3,)).tolist() if use_mosaic else []
        images = [self._boxed(number) for number in (index, *others)]
        return self._changed(mosaic(images) if use_mosaic else images[0])

    def closing_item(self, index: int) -> BoxedImage:
        """The same without a mosaic, for the last epochs."""
        return self._changed(self._boxed(index))

    def _boxed(self, index: int) -> BoxedImage:
        return BoxedImage(self._store.get(index), *self._truth[index])

    def _changed(self, image: BoxedImage) -> BoxedImage:
        """With objects of another image, where that is drawn, and augmented."""
        if self._copy_paste and float(torch.rand(())) < self._copy_paste:
            other = int(torch.randint(self.sample_count, ()))
            mask_HW = self._masks.get(other) if self._has_mask[other] else None
            image = pasted(image, self._boxed(other), mask_HW)
        return augmented(image, self._augmentation)

    def target(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """boxes_xyxy and labels_M of image `index` without any change, by the rules for targets: see `clipped`."""
        return clipped(*self._truth[index], self._size)

    def collate(self, items: list[BoxedImage], indices_N: torch.Tensor) -> BoxBatch:
        return BoxBatch(
            torch.stack([item.image_CHW for item in items]),
            *padded([item.boxes_xyxy for item in items], [item.labels_M for item in items]),
            tuple(len(item.labels_M) for item in items),
            indices_N,
        )

    def mix(self, batch: BoxBatch) -> BoxBatch:
        return batch


def training_sizes(size: int, share: float) -> list[int]:
    """The multiples of 32 that differ from `size` by at most this share of it, and `size` itself."""
    step = IMAGE_SIZE_MULTIPLE
    least = max(step, math.ceil(size * (1 - share) / step) * step)
    return sorted({size, *range(least, int(size * (1 + share)) + 1, step)})


def pasted(image: BoxedImage, other: BoxedImage, mask_HW: torch.Tensor | None) -> BoxedImage:
    """The image with about half of the objects of another one of its size, each moved to a random place.

    Ghiasi et al., arXiv:2012.07177. `mask_HW` is that of the other image, with i + 1 for class i: of each box, the
    pixels of its class are pasted; without it, the whole box. Objects of which too little remains visible are dropped.
    Draws on torch's global CPU generator.
    """
    size, count = image.image_CHW.shape[-1], len(other.labels_M)
    chosen_M, places_M2 = torch.rand(count) < 0.5, torch.rand(count, 2)
    image_CHW = image.image_CHW.clone()
    boxes_xyxy, labels_M = image.boxes_xyxy, image.labels_M
    for number in torch.where(chosen_M)[0].tolist():
        left, top, right, bottom = _pixels(other.boxes_xyxy[number], size)
        width, height = right - left, bottom - top
        if min(width, height) < LEAST_SIDE:
            continue
        x, y = (int(place * (size - side)) for place, side in zip(places_M2[number], (width, height), strict=True))
        shape_HW = torch.zeros(size, size, dtype=torch.bool)
        own = slice(top, bottom), slice(left, right)
        shape_HW[y : y + height, x : x + width] = (
            True if mask_HW is None else mask_HW[own] == int(other.labels_M[number]) + 1
        )
        image_CHW[:, y : y + height, x : x + width] = torch.where(
            shape_HW[y : y + height, x : x + width],
            other.image_CHW[(slice(None), *own)],
            image_CHW[:, y : y + height, x : x + width],
        )
        is_seen_M = torch.tensor(
            [_share_of(shape_HW, box) <= 1 - LEAST_SHARE_SEEN for box in boxes_xyxy], dtype=torch.bool
        )
        shift = torch.tensor([x - left, y - top] * 2)
        boxes_xyxy = torch.cat([boxes_xyxy[is_seen_M], (other.boxes_xyxy[number] + shift)[None]])
        labels_M = torch.cat([labels_M[is_seen_M], other.labels_M[number : number + 1]])
    return BoxedImage(image_CHW, boxes_xyxy, labels_M)


def _pixels(box_xyxy: torch.Tensor, size: int) -> tuple[int, int, int, int]:
    """The pixels that a box touches, within the image."""
    left, top, right, bottom = box_xyxy.clamp(0, size).tolist()
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _share_of(shape_HW: torch.Tensor, box_xyxy: torch.Tensor) -> float:
    """The share of a box that a shape covers."""
    left, top, right, bottom = _pixels(box_xyxy, len(shape_HW))
    part = shape_HW[top:bottom, left:right]
    return float(part.float().mean()) if part.numel() else 0.0


def mosaic(images: Sequence[BoxedImage]) -> BoxedImage:
    """Four images of one size around a random point, and a random square of that.

    Bochkovskiy et al., arXiv:2004.10934.

    The images meet at a point in the middle half of a canvas of twice their side and are cut at its edges. A square
    of one to two sides is cropped from it and scaled to one. Draws on torch's global CPU generator.
    """
    size = images[0].image_CHW.shape[-1]
    layout = MosaicLayout.drawn(size)
    image_CHW = TF.resize(layout.joined([one.image_CHW for one in images], PADDING_GREY), [size, size], antialias=True)
    moved = layout.moved([one.boxes_xyxy for one in images])
    return BoxedImage(image_CHW, *clipped(moved, torch.cat([one.labels_M for one in images]), size))


@dataclass(frozen=True)
class MosaicLayout:
    """Where four images of `size` meet on a canvas of twice their side, and the square of it that is kept."""

    size: int
    center_x: int
    center_y: int
    x: int
    y: int
    side: int

    @classmethod
    def drawn(cls, size: int) -> "MosaicLayout":
        center_x, center_y = (int(size / 2 + float(draw) * size) for draw in torch.rand(2))
        share, right, down = torch.rand(3).tolist()
        side = round(size * (1 + share))
        return cls(size, center_x, center_y, int(right * (2 * size - side)), int(down * (2 * size - side)), side)

    def joined(self, images: Sequence[torch.Tensor], fill: int) -> torch.Tensor:
        """uint8 [.., side, side] of four [.., size, size]."""
        size = self.size
        canvas = images[0].new_full((*images[0].shape[:-2], 2 * size, 2 * size), fill)
        for image, (left, top) in zip(images, self._corners(), strict=True):
            x0, y0, x1, y1 = max(0, left), max(0, top), min(2 * size, left + size), min(2 * size, top + size)
            canvas[..., y0:y1, x0:x1] = image[..., y0 - top : y1 - top, x0 - left : x1 - left]
        return canvas[..., self.y : self.y + self.side, self.x : self.x + self.side]

    def moved(self, boxes: Sequence[torch.Tensor]) -> torch.Tensor:
        """The boxes [.., 4] of the four images, one after the other, in pixels of the result, not clipped."""
        shifts = (torch.tensor([left, top, left, top]) for left, top in self._corners())
        placed = torch.cat([one + shift for one, shift in zip(boxes, shifts, strict=True)])
        return (placed - torch.tensor([self.x, self.y, self.x, self.y])) * (self.size / self.side)

    def _corners(self) -> list[tuple[int, int]]:
        """Left and top of each image on the canvas."""
        lefts, tops = ([center - self.size, center] for center in (self.center_x, self.center_y))
        return [(left, top) for top in tops for left in lefts]


def augmented(image: BoxedImage, augmentation: nn.Module) -> BoxedImage:
    """The image changed at random, with the boxes that remain visible enough; see `clipped`."""
    size = image.image_CHW.shape[-1]
    # Without a clamping mode boxes may leave the image, so that `clipped` can compare their areas inside and outside.
    boxes = tv_tensors.BoundingBoxes(image.boxes_xyxy, format="XYXY", canvas_size=(size, size), clamping_mode=None)
    image_CHW, changed = augmentation(tv_tensors.Image(image.image_CHW), {"boxes": boxes})
    moved_xyxy = changed["boxes"].as_subclass(torch.Tensor)
    return BoxedImage(image_CHW.as_subclass(torch.Tensor), *clipped(moved_xyxy, image.labels_M, size))


def clipped(boxes_xyxy: torch.Tensor, labels_M: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes clipped to a `size` x `size` image, and their labels.

    Boxes with a side under LEAST_SIDE or with less than LEAST_SHARE_SEEN of their area left are dropped.
    """
    cut_xyxy = boxes_xyxy.clamp(0, size)
    sides, whole = cut_xyxy[:, 2:] - cut_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    kept_M = (sides >= LEAST_SIDE).all(1) & (sides.prod(1) >= LEAST_SHARE_SEEN * whole.prod(1))
    return cut_xyxy[kept_M], labels_M[kept_M]


def fitted_boxes(sample: Sample, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes (not the crowds) where `load_fitted_image` puts them, and their labels."""
    fit = letterbox(sample.width, sample.height, size)
    objects = [box for box in sample.boxes if not box.crowd]
    corners = [(box.left, box.top, box.right, box.bottom) for box in objects]
    boxes_xyxy = torch.tensor(corners, dtype=torch.float32).view(-1, 4)
    boxes_xyxy = boxes_xyxy * torch.tensor([fit.scale_x, fit.scale_y] * 2)
    boxes_xyxy = boxes_xyxy + torch.tensor([fit.left, fit.top] * 2, dtype=torch.float32)
    return boxes_xyxy, torch.tensor([box.label for box in objects], dtype=torch.int64)
