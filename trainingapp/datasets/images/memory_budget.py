"""Limits on the memory used to decode images: per image, and for all threads together.

A file of a few kilobytes can unpack to gigabytes. The memory that an image needs is estimated from its header, by
format and mode. An image that needs more than MOST_BYTES is refused; a thread waits until its image fits in the
remaining budget.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image

from trainingapp.contract import deep_images

MOST_BYTES = deep_images.MOST_BYTES
#: Bytes per pixel in Pillow's memory; it stores three channels in four bytes.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
#: Additional bytes per pixel that a format's decoder needs: WebP keeps three canvases and a copy.
_FORMAT_BYTES = {"WEBP": 12.0, "GIF": 4.0, "TIFF": 1.0, "AVIF": 12.0, "HEIF": 12.0}
#: Modes of more than 8 bits are reduced to 8. They are decoded twice, possibly by two threads, and glibc keeps the
#: freed memory of each thread: their bytes count twice, those of the result once.
_REDUCED_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
#: Additional bytes per pixel of a 16-bit PPM, which Pillow decodes in Python with two copies.
_DEEP_PPM_BYTES = 10
#: A progressive JPEG is held as two-byte coefficients until it is complete, and is decoded at half size.
_COEFFICIENT_BYTES = 2
_SCALED_SHARE = 0.25


def decoding_bytes(image: Image.Image) -> int:
    """Estimated peak memory for decoding the opened image, in bytes."""
    pixels = image.width * image.height
    in_mode = _MODE_BYTES.get(image.mode, 4)
    if is_progressive(image):
        # Coefficients per pixel: three without chroma subsampling, one and a half with the usual 4:2:0.
        layers: list[int] = [across * down for _number, across, down, _table in getattr(image, "layer", [])]
        coefficients = sum(layers) / max(layers) if layers else 3.0
        return round(pixels * (coefficients * _COEFFICIENT_BYTES + in_mode * _SCALED_SHARE))
    if image.mode in _REDUCED_MODES:
        in_mode = 2 * in_mode + 1 + _DEEP_PPM_BYTES * (image.format == "PPM")
    return round(pixels * (in_mode + _FORMAT_BYTES.get(image.format or "", 0.0)))


def is_progressive(image: Image.Image) -> bool:
    return image.format == "JPEG" and bool(image.info.get("progressive") or image.info.get("progression"))


class MemoryBudget:
    """A byte budget shared by threads. A reservation waits until it fits; a sole reservation is always granted."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def reserve(self, needed: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + needed <= self._size)
            self._used += needed
        try:
            yield
        finally:
            with self._freed:
                self._used -= needed
                self._freed.notify_all()


#: Parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK_BYTES = 8 << 20


@cache
def return_large_blocks() -> None:
    """Make the C library return large blocks to the system as soon as they are freed; once per process.

    By default, glibc raises the threshold with each large block that is freed, up to 32 MB. Pixel buffers would then
    stay in the heap of each decoding thread, outside the budget.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # not available with musl and on macOS, which return such blocks anyway
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        # Otherwise it stays at 128 KB, and each typical image would be returned to the system and faulted in again.
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BLOCK_BYTES)


#: Shared by all imports of this process.
MEMORY_BUDGET = MemoryBudget(MOST_BYTES)
