"""How much memory images may take while they are decoded: each by itself, and all threads together.

A file of a few kilobytes can unpack to gigabytes. What an image will take is known from its header, by format and
mode; one that would take more than MOST_BYTES is refused, and a thread waits until its image fits beside the others.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

MOST_BYTES = 256 * 1024**2
#: Bytes a pixel in Pillow's memory; it keeps three channels in four bytes.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
#: What the readers of a format take besides, in bytes a pixel: WebP keeps three canvases and a copy.
_FORMAT_BYTES = {"WEBP": 12.0, "GIF": 4.0, "TIFF": 1.0}
#: A progressive JPEG is kept as coefficients of two bytes until its end, and is scaled down to half while decoded.
_COEFFICIENT_BYTES = 2
_SCALED_SHARE = 0.25


def decoding_bytes(image: Image.Image) -> int:
    """Memory that decoding the opened image takes at its peak, about."""
    pixels = image.width * image.height
    in_mode = _MODE_BYTES.get(image.mode, 4)
    if is_progressive(image):
        return round(pixels * (_coefficients(image) * _COEFFICIENT_BYTES + in_mode * _SCALED_SHARE))
    return round(pixels * (in_mode + _FORMAT_BYTES.get(image.format or "", 0.0)))


def is_progressive(image: Image.Image) -> bool:
    return image.format == "JPEG" and bool(image.info.get("progressive") or image.info.get("progression"))


def _coefficients(image: Image.Image) -> float:
    """Coefficients a pixel: three without subsampling, one and a half with the usual one."""
    layers: list[tuple[int, int]] = [(across, down) for _number, across, down, _table in getattr(image, "layer", [])]
    if not layers:
        return 3.0
    most = max(across * down for across, down in layers)
    return sum(across * down for across, down in layers) / most


class Room:
    """Bytes that several threads share; whoever asks waits until there is room. One alone always gets it."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def for_bytes(self, needed: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + needed <= self._size)
            self._used += needed
        try:
            yield
        finally:
            with self._freed:
                self._used -= needed
                self._freed.notify_all()


#: For every import of this process.
ROOM = Room(MOST_BYTES)
