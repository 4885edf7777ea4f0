"""Picture files to tensors."""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from trainingapp.engine.dataset_files import Sample
from trainingapp.engine.errors import BadData

MEMORY_LIMIT_BYTES = 512 * 1024 * 1024

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What PIL raises for files that are damaged or no pictures; SyntaxError comes from its PNG reader."""


def load_picture(path: Path, size: int) -> torch.Tensor:
    """A file as RGB, turned upright and scaled to a square: uint8 [3, size, size].

    Transparent parts become white. Raises BadData with the path for a file that is no whole picture.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # JPEG only: decode no more of a large photograph than is needed
            upright = ImageOps.exif_transpose(image)
            scaled = _rgb(upright).resize((size, size), Image.Resampling.BILINEAR)
    except UNREADABLE as error:
        raise BadData(f"{path} cannot be read as a picture: {error}") from error
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # PIL would clip 16-bit greys to white instead of scaling them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


class PictureStore:
    """The pictures of one split, decoded once and kept in memory where they are few enough.

    The memory is an anonymous shared mapping: loader processes are forks and fill the same one, so every picture is
    decoded once in all, and /dev/shm, which is small in containers, is not used.
    """

    def __init__(self, folder: Path, samples: Sequence[Sample], size: int, memory_limit_bytes: int) -> None:
        self._paths = [folder / sample.path for sample in samples]
        self._size = size
        self._pixels_NCHW: torch.Tensor | None = None
        bytes_each = 3 * size * size
        if 0 < len(samples) * bytes_each <= memory_limit_bytes:
            shape = (len(samples), 3, size, size)
            self._pixels_NCHW = torch.frombuffer(mmap.mmap(-1, len(samples) * bytes_each), dtype=torch.uint8).view(
                shape
            )
            self._filled = np.frombuffer(mmap.mmap(-1, len(samples)), dtype=np.uint8)
            self._filled.flags.writeable = True

    def picture(self, index: int) -> torch.Tensor:
        """uint8 [3, size, size], not to be changed in place. Raises BadData."""
        if self._pixels_NCHW is None:
            return load_picture(self._paths[index], self._size)
        if not self._filled[index]:  # two processes that come here at once write the same bytes
            self._pixels_NCHW[index] = load_picture(self._paths[index], self._size)
            self._filled[index] = 1
        return self._pixels_NCHW[index]
