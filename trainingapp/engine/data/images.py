"""Read image files as tensors."""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from trainingapp.contract.base_config import DecodingChoice
from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.contract.deep_images import Conversion, converted
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages.tasks import IMAGE_UNREADABLE, MASK_CHANNELS, MASK_UNREADABLE
from trainingapp.contract.prediction import ORIENTATION, SIDEWAYS, least_decoded

PADDING_GREY = 114
"""The padding of an image that is not square: a medium gray, as in YOLO's letterbox."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What PIL raises for damaged files and files that are not images; SyntaxError comes from its PNG reader."""


@dataclass(frozen=True)
class Fit:
    """Where an image lies in a square, in pixels: scaled to `width` x `height`, with its corner at (`left`, `top`).

    `scale_x` and `scale_y` are the factors by which it was scaled; they differ by rounding.
    """

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    height: int


def letterbox(width: int, height: int, size: int) -> Fit:
    """The largest centered area of a `size` x `size` square that keeps the image's aspect ratio."""
    scale = size / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    return Fit(new_width / width, new_height / height, left, top, new_width, new_height)


def load_image(
    path: Path, size: int, conversion: Conversion | None = None, decoding: DecodingChoice = "auto"
) -> torch.Tensor:
    """A file as RGB, turned upright and scaled to a square: uint8 [3, size, size].

    Transparent parts become white. Images of more than 8 bits are converted by `conversion`; without it, their upper 8
    bits are used. Raises BadData with the path for a file that is not a complete image.
    """
    image, _width, _height = _opened(path, size, conversion, decoding, fitted=False)
    return _tensor(image.resize((size, size), Image.Resampling.BILINEAR))


def load_fitted_image(
    path: Path, size: int, conversion: Conversion | None = None, decoding: DecodingChoice = "auto"
) -> torch.Tensor:
    """As `load_image`, but with its aspect ratio kept and gray padding around it (see `letterbox`)."""
    image, width, height = _opened(path, size, conversion, decoding, fitted=True)
    # Reduced sizes are rounded up, so that their ratio differs a little. Runs with auto continue with that ratio, which
    # moves an edge by a pixel at most; at the smaller sizes of fast it would be more.
    fit = letterbox(width, height, size) if decoding == "fast" else letterbox(image.width, image.height, size)
    square = Image.new("RGB", (size, size), (PADDING_GREY,) * 3)
    square.paste(image.resize((fit.width, fit.height), Image.Resampling.BILINEAR), (fit.left, fit.top))
    return _tensor(square)


def load_fitted_mask(path: Path, size: int) -> torch.Tensor:
    """A mask of a dataset, fitted like its image: uint8 [size, size], padded with IGNORED_PIXEL. Raises BadData."""
    try:
        with Image.open(path) as image:
            fit = letterbox(image.width, image.height, size)
            scaled = np.array(image.resize((fit.width, fit.height), Image.Resampling.NEAREST))
    except UNREADABLE as error:
        raise BadData(MASK_UNREADABLE(path=str(path), error=str(error))) from error
    if scaled.ndim != 2:
        raise BadData(MASK_CHANNELS(path=str(path)))
    square = np.full((size, size), IGNORED_PIXEL, dtype=np.uint8)
    square[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = scaled
    return torch.from_numpy(square)


def _opened(
    path: Path, size: int, conversion: Conversion | None, decoding: DecodingChoice, *, fitted: bool
) -> tuple[Image.Image, int, int]:
    """The image, upright and RGB, and its full width and height; a large JPEG is decoded at a reduced size."""
    try:
        if conversion and (reduced := converted(path, conversion)):
            return reduced.convert("RGB"), *reduced.size
        with Image.open(path) as image:
            width, height = image.size
            if least := least_decoded(decoding, width, height, size, fitted=fitted):
                image.draft("RGB", least)
            if image.getexif().get(ORIENTATION, 1) in SIDEWAYS:
                width, height = height, width
            return _upright(image), width, height
    except UNREADABLE as error:
        raise BadData(IMAGE_UNREADABLE(path=str(path), error=str(error))) from error


def _upright(image: Image.Image) -> Image.Image:
    upright: Image.Image = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # PIL would clip 16-bit grays to white instead of scaling them
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class PixelStore:
    """The decoded images (or masks) of one split, kept in memory where they fit into `memory_limit_bytes`.

    The memory is an anonymous shared mapping: loader processes are forks and fill the same memory, so each image is
    decoded only once. /dev/shm, which is small in containers, is not used.
    """

    def __init__(
        self, load: Callable[[int], torch.Tensor], count: int, shape: tuple[int, ...], *, memory_limit_bytes: int
    ) -> None:
        """`load(index)` gives uint8 of `shape`."""
        self._load = load
        self._kept: torch.Tensor | None = None
        size_bytes = count * int(np.prod(shape))
        if 0 < size_bytes <= memory_limit_bytes:
            self._kept = torch.frombuffer(mmap.mmap(-1, size_bytes), dtype=torch.uint8).view((count, *shape))
            self._filled = np.frombuffer(mmap.mmap(-1, count), dtype=np.uint8)
            self._filled.flags.writeable = True

    def get(self, index: int) -> torch.Tensor:
        """uint8 of the store's shape; must not be changed in place. Raises BadData."""
        if self._kept is None:
            return self._load(index)
        if not self._filled[index]:  # no lock: two processes that get here at the same time write the same bytes
            self._kept[index] = self._load(index)
            self._filled[index] = 1
        return self._kept[index]
