"""Images with boxes and masks of their objects, as items.

Masks are bits of planes from the file to the device (see `losses.py`): augmentation moves whole bytes, nearest to
nearest. Legend: N images of a batch, M objects of an image, P planes; xyxy = left, top, right, bottom in pixels of the
square image, right and bottom exclusive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from trainingapp.contract.dataset_index import DatasetIndex, Sample
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages.tasks import MASK_UNREADABLE
from trainingapp.contract.run_lengths import Bools, decoded, read_outlines
from trainingapp.contract.tasks.instances import InstancesConfig
from trainingapp.engine.data.images import PADDING_GREY, Fit, PixelStore, letterbox, load_fitted_image
from trainingapp.engine.data.transforms import annotated_augmentation, switches
from trainingapp.engine.tasks.detection.data import (
    LEAST_SHARE_SEEN,
    LEAST_SIDE,
    BoxBatch,
    MosaicLayout,
    ScaledBatches,
    clipped,
    fitted_boxes,
    training_sizes,
)
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.instances.losses import BITS, MaskTargets, packed, unpacked

INSIDE = 128
"""Gray of a scaled mask, from 0 to 255, from which on a pixel belongs to the object."""


@dataclass(frozen=True)
class InstanceBatch(BoxBatch):
    """With the planes of all images, and the places of the objects in them: see `MaskTargets`."""

    planes_PHW: torch.Tensor
    places_NM: torch.Tensor

    def targets(self, first_label: int) -> MaskTargets:
        plain = PaddedTargets.of(self.boxes_NM4, self.labels_NM, self.counts, first_label)
        return MaskTargets(**vars(plain), planes_PHW=self.planes_PHW, places_NM=self.places_NM)

    def resized(self, size: int) -> Self:
        """The batch with images of this side, boxes in their pixels, and masks, nearest to nearest.

        Objects that become too small are dropped, as everywhere: see `Objects.kept`.
        """
        before = self.images_NCHW.shape[-1]
        if size == before:
            return self
        planes_PHW = scaled_planes(self.planes_PHW, size)
        objects = [
            Objects(boxes_M4, labels_M, planes_PHW, places_M[: len(labels_M)]).kept(boxes_M4 * (size / before), size)
            for (boxes_M4, labels_M), places_M in zip(self.by_image(), self.places_NM, strict=True)
        ]
        boxes_NM4, labels_NM = padded([one.boxes_xyxy for one in objects], [one.labels_M for one in objects])
        return replace(
            self,
            images_NCHW=TF.resize(self.images_NCHW, [size, size], antialias=True),
            boxes_NM4=boxes_NM4,
            labels_NM=labels_NM,
            counts=tuple(len(one.labels_M) for one in objects),
            planes_PHW=planes_PHW,
            places_NM=_padded_places([one.places_M for one in objects]),
        )


@dataclass(frozen=True)
class Objects:
    """`boxes_xyxy` float32 [M, 4], `labels_M` int64, `planes_PHW` uint8, `places_M` int64."""

    boxes_xyxy: torch.Tensor
    labels_M: torch.Tensor
    planes_PHW: torch.Tensor
    places_M: torch.Tensor

    def masks(self) -> torch.Tensor:
        """uint8 [M, H, W]."""
        return unpacked(self.planes_PHW, self.places_M)

    def kept(self, boxes_xyxy: torch.Tensor, size: int) -> "Objects":
        """With these boxes instead, clipped; without the objects that `clipped` drops and those without a pixel."""
        cut_xyxy, kept_M = clipped(boxes_xyxy, torch.arange(len(boxes_xyxy), device=boxes_xyxy.device), size)
        seen_M = unpacked(self.planes_PHW, self.places_M[kept_M]).flatten(1).bool().any(dim=1)
        kept_M = kept_M[seen_M]
        return Objects(cut_xyxy[seen_M], self.labels_M[kept_M], self.planes_PHW, self.places_M[kept_M])


@dataclass(frozen=True)
class InstanceImage:
    """`image_CHW` is uint8 of the size of the planes."""

    image_CHW: torch.Tensor
    objects: Objects


class InstanceImages(ScaledBatches[InstanceBatch]):
    """A split as items: images fitted into [3, size, size], and their objects. Crowds are no targets."""

    def __init__(
        self, dataset: DatasetIndex, samples: Sequence[Sample], config: InstancesConfig, memory_limit_bytes: int
    ) -> None:
        size = config.image_size
        paths = [dataset.folder / sample.path for sample in samples]
        conversion = dataset.conversion
        self.sample_count = len(samples)
        self._folder, self._samples, self._size = dataset.folder, samples, size
        self._mosaic = config.mosaic
        self._copy_paste = config.copy_paste
        self._sizes = training_sizes(size, config.multi_scale)
        self._augmentation = annotated_augmentation(switches(config), size, mask_fill=0)
        self._store = PixelStore(
            lambda index: load_fitted_image(paths[index], size, conversion, config.decoding),
            len(samples),
            (3, size, size),
            memory_limit_bytes=memory_limit_bytes,
        )

    def item(self, index: int) -> InstanceImage:
        return InstanceImage(self._store.get(index), nothing(self._size))

    def training_item(self, index: int) -> InstanceImage:
        use_mosaic = self._mosaic > 0 and float(torch.rand(())) < self._mosaic
        others = torch.randint(self.sample_count, (3,)).tolist() if use_mosaic else []
        images = [self._with_objects(number) for number in (index, *others)]
        return self._changed(mosaic(images) if use_mosaic else images[0])

    def closing_item(self, index: int) -> InstanceImage:
        """The same without a mosaic, for the last epochs."""
        return self._changed(self._with_objects(index))

    def _with_objects(self, index: int) -> InstanceImage:
        return InstanceImage(self._store.get(index), self._objects(index))

    def _changed(self, image: InstanceImage) -> InstanceImage:
        """With objects of another image, where that is drawn, and augmented."""
        if self._copy_paste and float(torch.rand(())) < self._copy_paste:
            image = pasted(image, self._with_objects(int(torch.randint(self.sample_count, ()))))
        return augmented(image, self._augmentation)

    def target(self, index: int) -> Objects:
        """The objects of image `index` without any change, by the rules for targets: see `clipped`."""
        found = self._objects(index)
        return found.kept(found.boxes_xyxy, self._size)

    def collate(self, items: list[InstanceImage], indices_N: torch.Tensor) -> InstanceBatch:
        boxes_NM4, labels_NM, planes_PHW, places_NM = _together([item.objects for item in items])
        counts = tuple(len(item.objects.labels_M) for item in items)
        images_NCHW = torch.stack([item.image_CHW for item in items])
        return InstanceBatch(images_NCHW, boxes_NM4, labels_NM, counts, indices_N, planes_PHW, places_NM)

    def mix(self, batch: InstanceBatch) -> InstanceBatch:
        return batch

    def _objects(self, index: int) -> Objects:
        """The objects of an image where `load_fitted_image` puts them. Raises BadData."""
        sample = self._samples[index]
        boxes_xyxy, labels_M = fitted_boxes(sample, self._size)
        if not len(labels_M):
            return nothing(self._size)
        fit = letterbox(sample.width, sample.height, self._size)
        masks = [
            fitted_mask(mask_HW, fit, self._size)
            for box, mask_HW in zip(sample.boxes, masks_of(self._folder, sample), strict=True)
            if not box.crowd
        ]
        return Objects(boxes_xyxy, labels_M, packed(torch.stack(masks)), torch.arange(len(masks)))


def masks_of(folder: Path, sample: Sample) -> list[Bools]:
    """bool [H, W] of each box of the sample, crowds too. Raises BadData."""
    path = folder / sample.outlines
    try:
        counts = read_outlines(path)
        if len(counts) != len(sample.boxes):
            raise ValueError(f"{len(counts)} masks for {len(sample.boxes)} boxes")
        return [decoded(one, sample.height, sample.width) for one in counts]
    except (OSError, ValueError) as error:
        raise BadData(MASK_UNREADABLE(path=str(path), error=str(error))) from error


def fitted_mask(mask_HW: Bools, fit: Fit, size: int) -> torch.Tensor:
    """uint8 [size, size], 0 or 1: the mask of an upright image, scaled as the image is and padded."""
    square = torch.zeros(size, size, dtype=torch.uint8)
    inner = square[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    if mask_HW.shape == inner.shape:
        inner.copy_(torch.from_numpy(np.ascontiguousarray(mask_HW)))
        return square
    # Of a large image, only the part with the object is scaled.
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if len(rows):
        x0, y0 = int(columns[0] * fit.scale_x), int(rows[0] * fit.scale_y)
        x1 = min(fit.width, int(columns[-1] * fit.scale_x) + 2)
        y1 = min(fit.height, int(rows[-1] * fit.scale_y) + 2)
        part = (x0 / fit.scale_x, y0 / fit.scale_y, x1 / fit.scale_x, y1 / fit.scale_y)
        part = (*part[:2], min(part[2], mask_HW.shape[1]), min(part[3], mask_HW.shape[0]))
        gray = Image.fromarray(mask_HW.astype(np.uint8) * 255)
        scaled = gray.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=part)
        inner[y0:y1, x0:x1] = torch.from_numpy((np.asarray(scaled) >= INSIDE).astype(np.uint8))
    return square


def nothing(size: int) -> Objects:
    """No object."""
    empty = torch.zeros(0, dtype=torch.int64)
    return Objects(torch.zeros(0, 4), empty, torch.zeros(0, size, size, dtype=torch.uint8), empty)


def targets_of(objects: Sequence[Objects], first_label: int) -> MaskTargets:
    """The targets of images with these objects; the first class has the number `first_label`."""
    boxes_NM4, labels_NM, planes_PHW, places_NM = _together(objects)
    plain = PaddedTargets.of(boxes_NM4, labels_NM, [len(one.labels_M) for one in objects], first_label)
    return MaskTargets(**vars(plain), planes_PHW=planes_PHW, places_NM=places_NM)


def _together(objects: Sequence[Objects]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes and labels as `padded` gives them, the planes of all images, and places int64 [N, M]."""
    compact = [_compact(one) for one in objects]
    firsts = [0, *torch.tensor([len(one.planes_PHW) for one in compact]).cumsum(0).tolist()]
    places = [one.places_M + BITS * first for one, first in zip(compact, firsts, strict=False)]
    boxes_NM4, labels_NM = padded([one.boxes_xyxy for one in compact], [one.labels_M for one in compact])
    return boxes_NM4, labels_NM, torch.cat([one.planes_PHW for one in compact]), _padded_places(places)


def _padded_places(places: Sequence[torch.Tensor]) -> torch.Tensor:
    """int64 [N, M], with M as `padded` has it."""
    places_NM = pad_sequence(list(places), batch_first=True)
    return places_NM if places_NM.shape[1] else places_NM.new_zeros(len(places), 1)


def _compact(objects: Objects) -> Objects:
    """The same in as few planes as its objects need: a mosaic drops many."""
    needed = -(-len(objects.places_M) // BITS)
    if needed >= len(objects.planes_PHW):
        return objects
    order = torch.arange(len(objects.places_M))
    return Objects(objects.boxes_xyxy, objects.labels_M, packed(objects.masks()), order)


def mosaic(images: Sequence[InstanceImage]) -> InstanceImage:
    """As that of detection, with the masks. Draws on torch's global CPU generator."""
    size = images[0].image_CHW.shape[-1]
    layout, objects = MosaicLayout.drawn(size), [one.objects for one in images]
    image_CHW = TF.resize(layout.joined([one.image_CHW for one in images], PADDING_GREY), [size, size], antialias=True)
    # Each image has planes of its own: two objects with the same bit could not be told apart.
    ends = torch.tensor([len(one.planes_PHW) for one in objects]).cumsum(0).tolist()
    firsts = [0, *ends[:-1]]
    tiles = [torch.zeros(ends[-1], size, size, dtype=torch.uint8) for _one in objects]
    for tile, one, first, end in zip(tiles, objects, firsts, ends, strict=True):
        tile[first:end] = one.planes_PHW
    planes_PHW = scaled_planes(layout.joined(tiles, 0), size)
    labels_M = torch.cat([one.labels_M for one in objects])
    places_M = torch.cat([one.places_M + BITS * first for one, first in zip(objects, firsts, strict=True)])
    moved_xyxy = layout.moved([one.boxes_xyxy for one in objects])
    return InstanceImage(image_CHW, Objects(moved_xyxy, labels_M, planes_PHW, places_M).kept(moved_xyxy, size))


def scaled_planes(planes_PHW: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 [P, size, size]: whole bytes, nearest to nearest."""
    if not len(planes_PHW):
        return planes_PHW.new_zeros(0, size, size)
    return TF.resize(planes_PHW, [size, size], interpolation=TF.InterpolationMode.NEAREST_EXACT)


def pasted(image: InstanceImage, other: InstanceImage) -> InstanceImage:
    """The image with about half of the objects of another one of its size, each moved to a random place.

    Ghiasi et al., arXiv:2012.07177: what an object covers is cut from the masks of the others, whose boxes then enclose
    what is left of them. Objects of which less than LEAST_SHARE_SEEN is left are dropped. Draws on torch's global CPU
    generator.
    """
    size, own, count = image.image_CHW.shape[-1], image.objects, len(other.objects.labels_M)
    chosen_M, places_M2 = torch.rand(count) < 0.5, torch.rand(count, 2)
    masks_MHW, first = other.objects.masks(), BITS * len(own.planes_PHW)
    image_CHW = image.image_CHW.clone()
    planes_PHW = torch.cat([own.planes_PHW, own.planes_PHW.new_zeros(-(-count // BITS), size, size)])
    boxes, numbers = [own.boxes_xyxy], []
    for number, (left, top, right, bottom) in enumerate(enclosing(masks_MHW).int().tolist()):
        width, height = right - left, bottom - top
        if not chosen_M[number] or min(width, height) < LEAST_SIDE:
            continue
        x, y = (int(place * (size - side)) for place, side in zip(places_M2[number], (width, height), strict=True))
        rows, columns = slice(y, y + height), slice(x, x + width)
        shape_HW = masks_MHW[number, top:bottom, left:right].bool()
        behind, above = image_CHW[:, rows, columns], other.image_CHW[:, top:bottom, left:right]
        image_CHW[:, rows, columns] = torch.where(shape_HW, above, behind)
        planes_PHW[:, rows, columns] *= ~shape_HW
        planes_PHW[(first + number) // BITS, rows, columns] |= shape_HW.to(torch.uint8) << (number % BITS)
        boxes.append((other.objects.boxes_xyxy[number] + torch.tensor([x - left, y - top] * 2))[None].clamp(0, size))
        numbers.append(number)
    labels_M = torch.cat([own.labels_M, other.objects.labels_M[numbers]])
    places_M = torch.cat([own.places_M, torch.tensor(numbers, dtype=torch.int64) + first])
    whole_M = torch.cat([_areas(own.masks()), _areas(masks_MHW[numbers])])
    return InstanceImage(image_CHW, _visible(Objects(torch.cat(boxes), labels_M, planes_PHW, places_M), whole_M))


def _visible(objects: Objects, whole_M: torch.Tensor) -> Objects:
    """The objects of which enough is left: `whole_M` are their pixels before something covered them."""
    masks_MHW = objects.masks()
    left_M = _areas(masks_MHW)
    boxes_xyxy = torch.where((left_M < whole_M)[:, None], enclosing(masks_MHW), objects.boxes_xyxy)
    kept_M = left_M >= LEAST_SHARE_SEEN * whole_M
    return Objects(boxes_xyxy[kept_M], objects.labels_M[kept_M], objects.planes_PHW, objects.places_M[kept_M])


def _areas(masks_MHW: torch.Tensor) -> torch.Tensor:
    """int64 [M]: pixels of each mask."""
    return masks_MHW.flatten(1).sum(dim=1)


def enclosing(masks_MHW: torch.Tensor) -> torch.Tensor:
    """float32 [M, 4]: the boxes of the pixels of masks, uint8; zeros for a mask without any."""
    height, width = masks_MHW.shape[1:]
    rows_MH, columns_MW = masks_MHW.amax(dim=2), masks_MHW.amax(dim=1)
    corners = [
        columns_MW.argmax(dim=1),
        rows_MH.argmax(dim=1),
        width - columns_MW.flip(1).argmax(dim=1),
        height - rows_MH.flip(1).argmax(dim=1),
    ]
    return torch.stack(corners, dim=1).float() * rows_MH.amax(dim=1)[:, None]


def augmented(image: InstanceImage, augmentation: nn.Module) -> InstanceImage:
    """The image changed at random, with the objects that remain visible enough; see `clipped`."""
    size, objects = image.image_CHW.shape[-1], image.objects
    boxes = tv_tensors.BoundingBoxes(objects.boxes_xyxy, format="XYXY", canvas_size=(size, size), clamping_mode=None)
    image_CHW, changed = augmentation(
        tv_tensors.Image(image.image_CHW), {"boxes": boxes, "planes": tv_tensors.Mask(objects.planes_PHW)}
    )
    planes_PHW = changed["planes"].as_subclass(torch.Tensor)
    moved = Objects(objects.boxes_xyxy, objects.labels_M, planes_PHW, objects.places_M)
    return InstanceImage(
        image_CHW.as_subclass(torch.Tensor), moved.kept(changed["boxes"].as_subclass(torch.Tensor), size)
    )
