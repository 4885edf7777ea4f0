"""A split of images with a class for each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from trainingapp.contract.dataset_index import IGNORED_PIXEL, DatasetIndex, Sample
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages.tasks import MASK_VALUE
from trainingapp.contract.tasks.segmentation import SegmentationConfig
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.images import PixelStore, load_fitted_image, load_fitted_mask
from trainingapp.engine.data.transforms import annotated_augmentation, switches

LARGEST_CLASS_WEIGHT = 10.0

MaskedImage = tuple[torch.Tensor, torch.Tensor]
"""uint8 [3, size, size] and its mask, uint8 [size, size]."""


@dataclass(frozen=True)
class MaskedBatch(TensorBatch):
    """`images_NCHW` and `masks_NHW` are uint8, `indices_N` int64; N may be smaller in the last batch of an epoch.

    A mask holds 0 for the background, i + 1 for classes[i] and IGNORED_PIXEL for unknown pixels and the padding.
    """

    images_NCHW: torch.Tensor
    masks_NHW: torch.Tensor
    indices_N: torch.Tensor


class MaskedImages:
    """A split as items: images and masks fitted into the square and changed together."""

    def __init__(
        self, dataset: DatasetIndex, samples: Sequence[Sample], config: SegmentationConfig, memory_limit_bytes: int
    ) -> None:
        size = config.image_size
        conversion = dataset.conversion
        self.sample_count = len(samples)
        self._class_count = len(dataset.classes)
        self._ignores_background = config.ignore_background
        self._augmentation = annotated_augmentation(switches(config), size)
        images = [dataset.folder / sample.path for sample in samples]
        masks = [dataset.folder / sample.mask for sample in samples]
        self._images = PixelStore(
            lambda index: load_fitted_image(images[index], size, conversion, config.decoding),
            len(samples),
            (3, size, size),
            memory_limit_bytes=memory_limit_bytes,
        )
        self._masks = PixelStore(
            lambda index: self._load_mask(masks[index], size),
            len(samples),
            (size, size),
            memory_limit_bytes=memory_limit_bytes,
        )

    def item(self, index: int) -> MaskedImage:
        return self._images.get(index), self._masks.get(index)

    def training_item(self, index: int) -> MaskedImage:
        return self.augmented(self.item(index))

    def augmented(self, item: MaskedImage) -> MaskedImage:
        """The image and its mask changed together at random, on their device."""
        image, mask = self._augmentation(tv_tensors.Image(item[0]), tv_tensors.Mask(item[1]))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)

    def collate(self, items: list[MaskedImage], indices_N: torch.Tensor) -> MaskedBatch:
        images, masks = zip(*items, strict=True)
        return MaskedBatch(torch.stack(images), torch.stack(masks), indices_N)

    def mix(self, batch: MaskedBatch) -> MaskedBatch:
        return batch

    def pixel_counts(self) -> torch.Tensor:
        """int64 [K]: pixels of the background and of each class in the whole split; reads every mask."""
        counts = np.zeros(IGNORED_PIXEL + 1, dtype=np.int64)
        for index in range(self.sample_count):
            counts += np.bincount(self._masks.get(index).flatten().numpy(), minlength=len(counts))
        return torch.from_numpy(counts[: self._class_count + 1])

    def _load_mask(self, path: Path, size: int) -> torch.Tensor:
        mask_HW = load_fitted_mask(path, size)
        beyond = mask_HW[(mask_HW > self._class_count) & (mask_HW != IGNORED_PIXEL)]
        if len(beyond):
            raise BadData(MASK_VALUE(path=str(path), value=int(beyond[0]), count=self._class_count))
        return torch.where(mask_HW == 0, IGNORED_PIXEL, mask_HW) if self._ignores_background else mask_HW


def balanced_weights(counts_K: torch.Tensor) -> torch.Tensor:
    """float32 [K]: weights n / (k n_c) of classes with n_c of the n pixels, k being the classes that occur.

    As scikit-learn's class_weight="balanced", but at most LARGEST_CLASS_WEIGHT, so that few pixels do not dominate the
    loss. Classes without pixels get 1.
    """
    counts = counts_K.double()
    occurs_K = counts > 0
    even = counts.sum() / occurs_K.sum().clamp(min=1)
    weights_K = (even / counts.clamp(min=1)).clamp(max=LARGEST_CLASS_WEIGHT)
    return torch.where(occurs_K, weights_K, 1.0).float()
