"""Taking one image with its annotations into the dataset's folder."""

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.contract.dataset_index import IGNORED_PIXEL, Sample
from trainingapp.datasets.errors import DatasetError, ReportItem
from trainingapp.datasets.images.decoding import MASK_BYTES, examine, needed_bytes
from trainingapp.datasets.images.geometry import Placed, place
from trainingapp.datasets.images.memory_budget import MOST_BYTES, ROOM
from trainingapp.datasets.sources.archive import SourceFile, copy_limited
from trainingapp.datasets.sources.layout import Kind, SourceImage

MASKS_DIR = "masks"


@dataclass(frozen=True, slots=True)
class Taken:
    """An image that was copied. `sample` is None where `faults` say why it cannot be used; its split is not settled.

    `digest` is the SHA-256 of the file, `mask_digest` that of the mask's pixels. `pixels[i]` counts those of class i,
    `known_pixels` all but those that nobody knows. `look` is its perceptual hash.
    """

    file: str
    kind: Kind | None
    digest: str = ""
    size_bytes: int = 0
    sample: Sample | None = None
    mask_digest: str = ""
    pixels: "array[int]" = field(default_factory=lambda: array("q"))
    known_pixels: int = 0
    look: int | None = None
    notes: tuple[str, ...] = ()
    clipped: int = 0
    faults: tuple[ReportItem, ...] = ()

    def shown(self) -> frozenset[int]:
        """Classes that the image shows: its own, those of its boxes and of its mask."""
        assert self.sample
        own = {self.sample.label} if self.sample.label >= 0 else set()
        in_mask = {label for label, count in enumerate(self.pixels) if count}
        return frozenset(own | {box.label for box in self.sample.boxes} | in_mask)


def take(image: SourceImage, number: int, folder: Path, *, class_count: int, wants_mask: bool) -> Taken:
    """Copy, decode and annotate an image; what cannot be used leaves no file. Raises OSError when the disk fails."""
    path = folder / image.stored_path
    try:
        digest, size_bytes = copy(image.file, path)
        with ROOM.for_bytes(needed_bytes(path)):
            facts = examine(path, image.file.path)
        with ROOM.for_bytes(min(facts.width * facts.height * MASK_BYTES, MOST_BYTES) if wants_mask else 0):
            placed = place(image, facts, wants_mask=wants_mask)
    except DatasetError as error:
        path.unlink(missing_ok=True)
        return Taken(image.file.path, image.kind, faults=tuple(error.items))
    mask_path, mask_bytes, mask_digest = _write_mask(placed, folder, number)
    pixels = _pixels(placed)
    return Taken(
        file=image.file.path,
        kind=image.kind,
        digest=digest,
        size_bytes=size_bytes + mask_bytes,
        sample=Sample(
            path=image.stored_path,
            label=image.label,
            split="train",
            width=facts.width,
            height=facts.height,
            boxes=tuple(placed.boxes),
            mask=mask_path,
        ),
        mask_digest=mask_digest,
        pixels=array("q", pixels[1 : class_count + 1]),
        known_pixels=sum(pixels[:IGNORED_PIXEL]),
        look=facts.look,
        notes=(*facts.notes, *(("annotation_turned",) if placed.is_turned else ())),
        clipped=placed.clipped,
        faults=tuple(placed.faults),
    )


def copy(file: SourceFile, path: Path) -> tuple[str, int]:
    """Copy byte by byte; returns the SHA-256 and the number of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    update: Callable[[bytes], object] = digest.update
    with path.open("xb") as target:
        size_bytes = copy_limited(file, target, update)
    return digest.hexdigest(), size_bytes


def _write_mask(placed: Placed, folder: Path, number: int) -> tuple[str, int, str]:
    """(path within the folder, bytes, digest); empty without a mask."""
    if placed.mask_HW is None:
        return "", 0, ""
    name = f"{MASKS_DIR}/{number // 1000:03}/{number:06}.png"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(placed.mask_HW).save(path, compress_level=3)
    return name, path.stat().st_size, _digest(placed.mask_HW)


def _digest(mask_HW: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(mask_HW).tobytes()).hexdigest()


def _pixels(placed: Placed) -> list[int]:
    """How many pixels have each value."""
    if placed.mask_HW is None:
        return []
    return Image.fromarray(placed.mask_HW).histogram()
