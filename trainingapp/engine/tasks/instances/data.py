"""Images with boxes and masks of their objects, as items.

Masks are bits of planes from the file to the device (see `losses.py`): augmentation moves whole bytes, nearest to
nearest. Legend: N images of a batch, M objects of an image, P planes; xyxy = left, top, right, bottom in pixels of the
square image, right and bottom exclusive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from trainingapp.engine.tasks.detection.data import BoxBatch, MosaicLayout, clipped, fitted_boxes
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
        cut_xyxy, kept_M = clipped(boxes_xyxy, torch.arange(len(boxes_xyxy)), size)
        seen_M = unpacked(self.planes_PHW, self.places_M[kept_M]).flatten(1).bool().any(dim=1)
        kept_M = kept_M[seen_M]
        return Objects(cut_xyxy[seen_M], self.labels_M[kept_M], self.planes_PHW, self.places_M[kept_M])


@dataclass(frozen=True)
class InstanceImage:
    """`image_CHW` is uint8 of the size of the planes."""

    image_CHW: torch.Tensor
    objects: Objects


class InstanceImages:
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
        return augmented(mosaic(images) if use_mosaic else images[0], self._augmentation)

    def closing_item(self, index: int) -> InstanceImage:
        """The same without a mosaic, for the last epochs."""
        return augmented(self._with_objects(index), self._augmentation)

    def _with_objects(self, index: int) -> InstanceImage:
        return InstanceImage(self._store.get(index), self._objects(index))

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
    places_NM = pad_sequence(places, batch_first=True)
    if not places_NM.shape[1]:
        places_NM = places_NM.new_zeros(len(compact), 1)
    return boxes_NM4, labels_NM, torch.cat([one.planes_PHW for one in compact]), places_NM


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
    planes_PHW = layout.joined(tiles, 0)
    if ends[-1]:
        planes_PHW = TF.resize(planes_PHW, [size, size], interpolation=TF.InterpolationMode.NEAREST_EXACT)
    labels_M = torch.cat([one.labels_M for one in objects])
    places_M = torch.cat([one.places_M + BITS * first for one, first in zip(objects, firsts, strict=True)])
    moved_xyxy = layout.moved([one.boxes_xyxy for one in objects])
    return InstanceImage(image_CHW, Objects(moved_xyxy, labels_M, planes_PHW, places_M).kept(moved_xyxy, size))


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
