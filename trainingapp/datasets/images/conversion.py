"""Storing 8-bit images in place of files that a trainer cannot use as they are: deep ones, bands of TIFFs, HEIC, AVIF.

The digest of the dataset stays that of the original bytes, so that duplicates are found as before.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from trainingapp.contract.deep_images import Conversion, converted
from trainingapp.datasets.images.decoding import (
    CONVERTED_FORMATS,
    IMPORT_FORMATS,
    ImageFacts,
    is_constant,
    needed_bytes,
    perceptual_hash,
    readable,
)
from trainingapp.datasets.images.memory_budget import MEMORY_BUDGET

_JPEG_QUALITY = 95
_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class Converted:
    """The file that was stored, upright and of 8 bits; `size_bytes` and `perceptual_hash` are its own."""

    path: Path
    size_bytes: int
    perceptual_hash: int | None
    is_constant: bool


def convert(path: Path, shown_name: str, facts: ImageFacts, conversion: Conversion) -> Converted:
    """Replace the file by an 8-bit image beside it; `facts` are what `examine` found.

    Raises DatasetError where it cannot be decoded, OSError when the disk fails.
    """
    with MEMORY_BUDGET.reserve(needed_bytes(path)), readable(path, shown_name):
        image = _decoded(path, conversion)
        is_photograph = image.mode == "RGB" and facts.format in CONVERTED_FORMATS
        # The old name where the one with the ending of what is in the file is taken or too long.
        target = path.with_name(path.name + (".jpg" if is_photograph else ".png"))
        if target.exists() or len(target.name.encode()) > _LONGEST_NAME_BYTES:
            target = path
        path.unlink()  # what was read is in memory, and a crash leaves nothing of an import anyway
        if is_photograph:
            image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        else:
            image.save(target, "PNG", compress_level=3)
        return Converted(target, target.stat().st_size, perceptual_hash(image, 1), is_constant(image))


def _decoded(path: Path, conversion: Conversion) -> Image.Image:
    """The image upright, with 8 bits per channel. What it was made from is freed when this returns."""
    if image := converted(path, conversion, IMPORT_FORMATS):
        return image
    with Image.open(path, formats=IMPORT_FORMATS) as file:
        file.load()
        upright = ImageOps.exif_transpose(file)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
