"""Copies one image with its annotations into the dataset's folder."""

import hashlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from trainingapp.contract.dataset_index import IGNORED_PIXEL, Sample
from trainingapp.contract.run_lengths import write_outlines
from trainingapp.datasets.images.decoding import MASK_BYTES, ImageFacts, examine, needed_bytes
from trainingapp.datasets.images.geometry import Placed, place
from trainingapp.datasets.images.memory_budget import MEMORY_BUDGET, MOST_BYTES
from trainingapp.datasets.images.packed_boxes import PackedBoxes
from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.report import DatasetError, ReportItem
from trainingapp.datasets.sources.layout import Kind, SourceImage
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile, copy_limited

MASKS_DIR = "masks"
OUTLINES_DIR = "outlines"


@dataclass(frozen=True, slots=True)
class IngestedImage:
    """A copied image. `sample` is None if the image cannot be used (see `faults`); its split is preliminary.

    `digest` is the SHA-256 of the file, `mask_digest` that of the mask's pixels, both in hex. `pixels[i]` counts the
    pixels of class i, `known_pixels` all pixels except unknown ones. `perceptual_hash` has 64 bits. `clipped` and the
    fields after it are those of `Placed`. `has_lost_objects`: the image is left out because none of its objects can be
    used; without objects it would count as background.
    """

    file: str
    kind: Kind | None
    digest: str = ""
    size_bytes: int = 0
    sample: Sample | None = None
    mask_digest: str = ""
    pixels: "array[int]" = field(default_factory=lambda: array("q"))
    known_pixels: int = 0
    perceptual_hash: int | None = None
    notes: tuple[str, ...] = ()
    clipped: int = 0
    clipped_at: tuple[Position, ...] = ()
    most_over: float = 0.0
    unusable: tuple[ReportItem, ...] = ()
    has_lost_objects: bool = False
    faults: tuple[ReportItem, ...] = ()
    facts: ImageFacts | None = None
    """Of an image that another file has to be stored for."""

    def shown(self) -> frozenset[int]:
        """The classes in the image: its labels and those of its boxes and its mask."""
        assert self.sample
        own = {self.sample.label} if self.sample.label >= 0 else set(self.sample.labels or ())
        in_mask = {label for label, count in enumerate(self.pixels) if count}
        return frozenset(own | {box.label for box in self.sample.boxes} | in_mask)


def ingest(
    image: SourceImage,
    number: int,
    folder: Path,
    *,
    class_count: int,
    wants_mask: bool,
    wants_outlines: bool = False,
    wants_labels: bool = False,
    reading: ReadingOptions = AUTO,
) -> IngestedImage:
    """Copy and decode an image and place its annotations. An unusable image leaves no file.

    Raises OSError on a disk error.
    """
    path, wants_pixels = folder / image.stored_path, wants_mask or wants_outlines
    try:
        digest, size_bytes = copy(image.file, path)
        with MEMORY_BUDGET.reserve(needed_bytes(path)):
            facts = examine(path, image.file.path, reading)
        with MEMORY_BUDGET.reserve(min(facts.width * facts.height * MASK_BYTES, MOST_BYTES) if wants_pixels else 0):
            placed = place(image, facts, wants_mask=wants_mask, wants_outlines=wants_outlines)
    except DatasetError as error:
        path.unlink(missing_ok=True)
        return IngestedImage(image.file.path, image.kind, faults=tuple(error.items))
    if _has_lost_objects(image, placed):
        path.unlink(missing_ok=True)
        return IngestedImage(
            image.file.path,
            image.kind,
            unusable=tuple(placed.unusable),
            has_lost_objects=True,
            faults=tuple(placed.faults),
        )
    mask = _stored_mask(placed, folder, number, class_count)
    outlines, outlines_bytes = _stored_outlines(placed, facts, folder, number)
    return IngestedImage(
        file=image.file.path,
        kind=image.kind,
        digest=digest,
        size_bytes=size_bytes + mask.size_bytes + outlines_bytes,
        sample=_sample(image, facts, placed, mask.path, outlines, wants_labels=wants_labels),
        mask_digest=mask.digest,
        pixels=mask.pixels,
        known_pixels=mask.known_pixels,
        perceptual_hash=facts.perceptual_hash,
        notes=(*facts.notes, *(("annotation_turned",) if placed.is_turned else ())),
        clipped=placed.clipped,
        clipped_at=tuple(placed.clipped_at),
        most_over=placed.most_over,
        unusable=tuple(placed.unusable),
        faults=tuple(placed.faults),
        facts=facts if facts.needs_conversion else None,
    )


def _sample(
    image: SourceImage, facts: ImageFacts, placed: Placed, mask: str, outlines: str, *, wants_labels: bool
) -> Sample:
    return Sample(
        path=image.stored_path,
        label=image.label,
        split="train",
        width=facts.width,
        height=facts.height,
        boxes=PackedBoxes(placed.boxes),
        mask=mask,
        labels=image.labels if wants_labels else None,
        outlines=outlines,
    )


def _has_lost_objects(image: SourceImage, placed: Placed) -> bool:
    if image.mask or image.label >= 0 or image.labels or placed.boxes:
        return False
    return bool(image.unusable or placed.unusable or placed.faults)


def copy(file: SourceFile, path: Path) -> tuple[str, int]:
    """Copy the bytes unchanged. Returns the SHA-256 and the number of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as target:
        size_bytes = copy_limited(file, target, digest.update)
    return digest.hexdigest(), size_bytes


class _StoredMask(NamedTuple):
    """A mask stored in the dataset's folder; the path is empty if there is no mask. See IngestedImage."""

    path: str = ""
    size_bytes: int = 0
    digest: str = ""
    pixels: "array[int]" = array("q")
    known_pixels: int = 0


def _stored_mask(placed: Placed, folder: Path, number: int, class_count: int) -> _StoredMask:
    """Write the mask as PNG. Raises OSError."""
    if placed.mask_HW is None:
        return _StoredMask()
    name = f"{MASKS_DIR}/{number // 1000:03}/{number:06}.png"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(placed.mask_HW)
    mask.save(path, compress_level=3)
    # The digest covers the pixels, since the bytes of a PNG depend on the version of zlib.
    digest = hashlib.sha256(np.ascontiguousarray(placed.mask_HW).tobytes()).hexdigest()
    pixels = mask.histogram()
    counts = array("q", pixels[1 : class_count + 1])
    return _StoredMask(name, path.stat().st_size, digest, counts, known_pixels=sum(pixels[:IGNORED_PIXEL]))


def _stored_outlines(placed: Placed, facts: ImageFacts, folder: Path, number: int) -> tuple[str, int]:
    """Write the masks of the objects. Returns the path in the dataset's folder and the bytes. Raises OSError."""
    if not placed.outlines:
        return "", 0
    name = f"{OUTLINES_DIR}/{number // 1000:03}/{number:06}.json"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_outlines(path, facts.height, facts.width, placed.outlines)
    return name, path.stat().st_size
