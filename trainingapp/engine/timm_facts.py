"""What timm knows about its networks without building them: sizes, pixel statistics and licences of their weights.

timm is imported only where a network of it is named, because that takes seconds.
"""

import re
from typing import Any

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.tasks import OTHER_SIZE_PUBLISHED, PIXELS_BESIDE_PATCHES, WEIGHTS_LICENCE
from trainingapp.engine.checkpoint_content import Normalisation

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "")
"""Licences of weights that ask for no more than to be named."""


def normalisation_of(name: str) -> Normalisation | None:
    """Mean and standard deviation of the pixels that timm's `name` was trained with; None for an unknown network."""
    known = _pretrained_cfg(name)
    return {"mean": list(known.mean), "std": list(known.std)} if known else None


def patch_remarks(name: str, image_size: int) -> list[Message]:
    """What timm's `name` does not see of images of this size."""
    patch = patch_size(name)
    rest = image_size % patch
    return [PIXELS_BESIDE_PATCHES(patch=patch, size=image_size, rest=rest, fitting=_fitting(patch))] if rest else []


def published_remarks(name: str, image_size: int) -> list[Message]:
    """What a person should know who starts from the published weights of timm's `name`."""
    known = _pretrained_cfg(name)
    if known is None:
        return []
    found: list[Message] = []
    published, licence = int(known.input_size[-1]), known.license or ""
    if published >= 2 * image_size:
        found.append(OTHER_SIZE_PUBLISHED(name=name, published=published, size=image_size))
    return found if licence in PERMISSIVE else [*found, WEIGHTS_LICENCE(name=name, licence=licence)]


def patch_size(name: str) -> int:
    """The side of the patches that a transformer cuts images into, by its name; 1 for other networks."""
    found = re.search(r"patch(\d+)", name)
    return int(found[1]) if found else 1


def _fitting(patch: int) -> int:
    """A usual image size that is a multiple of 32 and of the patches."""
    return next((size for size in (224, 448, 672, 896) if size % patch == 0), 32 * patch)


def _pretrained_cfg(name: str) -> Any:
    import timm

    return timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
