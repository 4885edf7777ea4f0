"""Anchors, made once for each shape of the feature maps: making them copies from host to device."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

Generator = AnchorGenerator | DefaultBoxGenerator


@dataclass(frozen=True)
class Anchors:
    """`boxes_A4` xyxy, float32, level by level; `counts` are the anchors of each level."""

    boxes_A4: torch.Tensor
    counts: tuple[int, ...]


_Key = tuple[torch.Size, tuple[torch.Size, ...], torch.device]
_made: WeakKeyDictionary[Generator, dict[_Key, Anchors]] = WeakKeyDictionary()


def anchors_of(generator: Generator, images_NCHW: torch.Tensor, features: list[torch.Tensor]) -> Anchors:
    """The anchors that torchvision's `generator` makes for these feature maps [N, .., H, W]: the same for all images.

    They are float32 whatever the feature maps are: in bfloat16, coordinates above 256 are multiples of two.
    """
    shapes = tuple(level.shape[-2:] for level in features)
    key = (images_NCHW.shape[-2:], shapes, images_NCHW.device)
    made = _made.setdefault(generator, {})
    if key not in made:
        made[key] = _make(generator, *key)
    return made[key]


def _make(generator: Generator, size: torch.Size, shapes: tuple[torch.Size, ...], device: torch.device) -> Anchors:
    # A validation in inference mode may be the first to need them; training saves them for its backward pass.
    with torch.inference_mode(False), torch.no_grad():
        images, *levels = (torch.empty((), device=device).expand(1, 1, *shape) for shape in (size, *shapes))
        [boxes_A4] = generator(ImageList(images, [(size[0], size[1])]), levels)
    places = generator.num_anchors_per_location()
    return Anchors(boxes_A4, tuple(shape.numel() * each for shape, each in zip(shapes, places, strict=True)))
