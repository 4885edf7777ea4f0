"""Conversion of files that the trainer cannot use directly (deep images, TIFF bands, HEIC, AVIF) to 8-bit images.

The dataset keeps the digest of the original bytes, so that duplicate detection is unaffected.
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
    """The stored file, upright with 8 bits per channel; `size_bytes` and `perceptual_hash` describe this file."""

    path: Path
    size_bytes: int
    perceptual_hash: int | None
    is_constant: bool


def convert(path: Path, shown_name: str, facts: ImageFacts, conversion: Conversion) -> Converted:
    """Replace the file by an 8-bit image in the same folder; `facts` is the result of `examine`.

    Raises DatasetError if the file cannot be decoded and OSError on a disk error.
    """
    with MEMORY_BUDGET.reserve(needed_bytes(path)), readable(path, shown_name):
        image = _decoded(path, conversion)
        is_photograph = image.mode == "RGB" and facts.format in CONVERTED_FORMATS
        # Keep the old name if the name with the suffix of the new format is taken or too long.
        target = path.with_name(path.name + (".jpg" if is_photograph else ".png"))
        if target.exists() or len(target.name.encode()) > _LONGEST_NAME_BYTES:
            target = path
        path.unlink()  # the content is in memory, and a crash discards the whole import anyway
        if is_photograph:
            image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        else:
            image.save(target, "PNG", compress_level=3)
        return Converted(target, target.stat().st_size, perceptual_hash(image, 1), is_constant(image))


def _decoded(path: Path, conversion: Conversion) -> Image.Image:
    """The upright image with 8 bits per channel. The source images are freed on return."""
    if image := converted(path, conversion, IMPORT_FORMATS):
        return image
    with Image.open(path, formats=IMPORT_FORMATS) as file:
        file.load()
        upright = ImageOps.exif_transpose(file)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
