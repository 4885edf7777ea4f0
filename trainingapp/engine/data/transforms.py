"""Augmentation of training images: torchvision's transforms (v2), which also transform boxes and masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.engine.data.images import PADDING_GREY
from trainingapp.engine.device import set_deterministic
from trainingapp.engine.seeding import own_cpu_randomness

ImageT = TypeVar("ImageT")

FLIP_RATE = 0.5


@dataclass(frozen=True)
class Switches:
    """The steps of an augmentation, named as in the configuration.

    `shift`: the largest shift as a share of the side. `crop`: the largest share of the area that a crop removes.
    `colour`: the largest relative change. `erasing`: the probability. `erasing` and `auto_augment` are for images
    without boxes and masks, which they would not transform.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    shift: float = 0.0
    crop: float = 0.0
    colour: float = 0.0
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = "none"
    erasing: float = 0.0


PRESETS: dict[str, Switches] = {
    "none": Switches(),
    "light": Switches(flip_horizontal=True, shift=0.125),
    "medium": Switches(flip_horizontal=True, crop=0.4, colour=0.3),
    "strong": Switches(flip_horizontal=True, crop=0.4, auto_augment="trivialaugment", erasing=0.25),
}
"""`annotated_augmentation` replaces the steps that cannot transform boxes and masks by a change of color."""


def switches(config: BaseRunConfig) -> Switches:
    """The augmentation of a configuration of any task."""
    if config.augmentation != "custom":
        return PRESETS[config.augmentation]
    return Switches(config.flip_horizontal, config.flip_vertical, 0.0, config.crop, config.colour)


def image_augmentation(chosen: Switches, size: int) -> nn.Module:
    """A transform of uint8 [3, size, size] to uint8 [3, size, size] that draws from torch's global CPU generator.

    TrivialAugment: Müller & Hutter, arXiv:2103.10158. RandAugment: Cubuk et al., arXiv:1909.13719.
    """
    steps: list[nn.Module] = _flips(chosen)
    if chosen.shift:
        steps = [FlipAndShift(steps, size, padding=round(size * chosen.shift))]
    if chosen.crop:
        scale = (1 - chosen.crop, 1.0)
        steps.append(v2.RandomResizedCrop(size, scale=scale, ratio=(0.8, 1.25), antialias=True))
    if chosen.colour:
        steps.append(colour_jitter(chosen.colour))
    if chosen.auto_augment != "none":
        steps.append(v2.TrivialAugmentWide() if chosen.auto_augment == "trivialaugment" else v2.RandAugment())
    if chosen.erasing:
        steps.append(v2.RandomErasing(p=chosen.erasing))
    return v2.Compose(steps) if steps else nn.Identity()


class FlipAndShift(nn.Module):
    """Flips, then a crop of the image padded by its reflection: the pixels and the random numbers are those of
    torchvision's transforms, in a third of their time. On a GPU it is them that run."""

    def __init__(self, flips: list[nn.Module], size: int, *, padding: int) -> None:
        super().__init__()
        crop = v2.RandomCrop(size, padding=padding, padding_mode="reflect")
        self._steps = v2.Compose([*flips, crop])
        self._flips_columns = [isinstance(flip, v2.RandomHorizontalFlip) for flip in flips]
        self._size, self._padding = size, padding
        places = np.abs(np.arange(-padding, size + padding))
        #: Of each row or column of the padded image, the one that it is in the image.
        self._origins = np.minimum(places, 2 * (size - 1) - places)

    def forward(self, image_CHW: torch.Tensor) -> torch.Tensor:
        if image_CHW.device.type != "cpu" or not self._padding:
            return cast(torch.Tensor, self._steps(image_CHW))
        flipped = [is_of_columns for is_of_columns in self._flips_columns if torch.rand(1).item() < FLIP_RATE]
        rows, columns = self._shifted(), self._shifted()
        rows = self._size - 1 - rows if False in flipped else rows
        columns = self._size - 1 - columns if True in flipped else columns
        return torch.from_numpy(image_CHW.numpy().take(rows, 1).take(columns, 2))

    def _shifted(self) -> NDArray[np.int64]:
        first = int(torch.randint(0, 2 * self._padding + 1, ()).item())
        return cast(NDArray[np.int64], self._origins[first : first + self._size])


def annotated_augmentation(chosen: Switches, size: int, *, mask_fill: int = IGNORED_PIXEL) -> nn.Module:
    """The same for images with boxes or masks: takes and returns (tv_tensors.Image, dict of tv_tensors).

    RandAugment, TrivialAugment and erasing become a color change of similar strength. Boxes outside of a crop become
    empty; the task removes them with their labels. `mask_fill` is the value of mask pixels outside of the image.
    """
    steps: list[nn.Module] = _flips(chosen)
    if chosen.shift or chosen.crop:
        zoom = (1.0, (1 / (1 - chosen.crop)) ** 0.5 if chosen.crop else 1.0)
        shift = max(chosen.shift, chosen.crop / 4)
        fill: dict[type | str, Any] = {tv_tensors.Image: PADDING_GREY, tv_tensors.Mask: mask_fill}
        steps.append(
            v2.RandomAffine(
                degrees=[0.0, 0.0],
                interpolation=v2.InterpolationMode.BILINEAR,
                translate=(shift, shift),
                scale=zoom,
                fill=fill,
            )
        )
    colour = chosen.colour or (0.4 if chosen.auto_augment != "none" else 0.0)
    if colour:
        steps.append(colour_jitter(colour))
    steps.append(v2.ClampBoundingBoxes())
    return v2.Compose(steps)


def augmented_each(images: Sequence[ImageT], seeds: Sequence[int], augment: Callable[[ImageT], ImageT]) -> list[ImageT]:
    """Each image of a batch on a device augmented with its own seed.

    The transforms draw from torch's global CPU generator wherever the pixels are, so the random choices are those of
    loader processes. Nothing here needs deterministic algorithms: without gradients, only whole numbers are added up in
    any order, by the histograms of equalization, which torch would refuse otherwise.
    """
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    set_deterministic(False)
    try:
        with own_cpu_randomness() as generator:
            found = []
            for seed, image in zip(seeds, images, strict=True):
                generator.manual_seed(seed)
                found.append(augment(image))
            return found
    finally:
        set_deterministic(was_deterministic)


def _flips(chosen: Switches) -> list[nn.Module]:
    steps: list[nn.Module] = [v2.RandomHorizontalFlip(FLIP_RATE)] if chosen.flip_horizontal else []
    return [*steps, v2.RandomVerticalFlip(FLIP_RATE)] if chosen.flip_vertical else steps


def colour_jitter(strength: float) -> nn.Module:
    """Brightness, contrast and saturation by up to `strength`, hue by a tenth of it."""
    return v2.ColorJitter(strength, strength, strength, strength / 10)
