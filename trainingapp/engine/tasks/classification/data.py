"""Labeled images as items.

Legend: N images of a batch, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from trainingapp.contract.dataset_index import DatasetIndex, Sample
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.images import PixelStore, load_image
from trainingapp.engine.data.transforms import Switches, image_augmentation, switches
from trainingapp.engine.tasks.classification.mixing import Mix, draw_mix


@dataclass(frozen=True)
class Batch(TensorBatch):
    """`images_NCHW` is uint8, `indices_N` int64, and `targets` what the objective of the run makes of the labels: int64
    [N], or float32 [N, C] where an image can have several. N may be smaller in the last batch of an epoch."""

    images_NCHW: torch.Tensor
    targets: torch.Tensor
    indices_N: torch.Tensor
    mix: Mix | None = None


class LabelledImages:
    """A split as items: uint8 [3, size, size] each."""

    def __init__(
        self,
        dataset: DatasetIndex,
        samples: Sequence[Sample],
        config: ClassificationConfig,
        memory_limit_bytes: int,
        targets: torch.Tensor,
    ) -> None:
        """`targets` has a row for each sample."""
        size = config.image_size
        paths = [dataset.folder / sample.path for sample in samples]
        conversion = dataset.conversion
        self.sample_count = len(samples)
        self.targets = targets
        self._alphas = (config.mixup, config.cutmix)
        self._augmentation = image_augmentation(_switches(config), size)
        self._store = PixelStore(
            lambda index: load_image(paths[index], size, conversion, config.decoding),
            len(samples),
            (3, size, size),
            memory_limit_bytes=memory_limit_bytes,
        )

    def item(self, index: int) -> torch.Tensor:
        return self._store.get(index)

    def training_item(self, index: int) -> torch.Tensor:
        return self.augmented(self._store.get(index))

    def augmented(self, image_CHW: torch.Tensor) -> torch.Tensor:
        """The image changed at random, on its device."""
        return cast(torch.Tensor, self._augmentation(image_CHW))

    def collate(self, items: list[torch.Tensor], indices_N: torch.Tensor) -> Batch:
        return Batch(torch.stack(items), self.targets[indices_N], indices_N)

    def mix(self, batch: Batch) -> Batch:
        return replace(batch, mix=draw_mix(*self._alphas))


def _switches(config: ClassificationConfig) -> Switches:
    """The steps of the configuration, with those that have no meaning for boxes and masks."""
    chosen = switches(config)
    if config.augmentation != "custom":
        return chosen
    return replace(chosen, auto_augment=config.auto_augment, erasing=config.erasing)
