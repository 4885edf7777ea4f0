"""Conversion of masks stored as run lengths or small images to COCO run lengths."""

import base64
import binascii
import io
import zlib
from array import array

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.datasets.sources.layout import Rle

_MOST_PIXELS = 89_478_485
"""As many as an image may have (`images/decoding.py`)."""
_MOST_PACKED = 16 << 20


def of_crop(crop_HW: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> Rle | None:
    """The mask of an image of `size` = (width, height) with the crop (H, W) at (left, top).

    Parts outside the image are cut off. None if nothing is left.
    """
    width, height = size
    crop_HW = crop_HW[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top = max(0, left), max(0, top)
    if not crop_HW.any():
        return None
    # Runs go down whole columns: only those of the crop are needed, since all other columns are background.
    columns_HW = np.zeros((height, crop_HW.shape[1]), bool)
    columns_HW[top : top + crop_HW.shape[0]] = crop_HW
    flat = columns_HW.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], edges, [flat.size]])
    counts = np.diff(bounds)
    counts = np.concatenate([[0], counts]) if flat[0] else counts
    counts[0] += left * height
    rest = (width - left - crop_HW.shape[1]) * height
    counts = np.concatenate([counts, [rest]]) if flat[-1] else counts
    if not flat[-1]:
        counts[-1] += rest
    return Rle(height, width, array("q", counts.tolist()))


def crop_of_runs(counts: list[int], width: int, height: int) -> NDArray[np.bool_] | None:
    """(H, W) mask from run lengths along the rows, background first; None if they do not fill it."""
    if not 0 < width * height <= _MOST_PIXELS or min(counts, default=-1) < 0 or sum(counts) != width * height:
        return None
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def crop_of_png(text: str) -> NDArray[np.bool_] | None:
    """(H, W) mask from a base64-encoded PNG, optionally compressed with zlib; an alpha channel is the mask if present.

    None if it is not such an image.
    """
    try:
        content = base64.b64decode(text, validate=True)
        if not content.startswith(b"\x89PNG"):
            unpacked = zlib.decompressobj()
            content = unpacked.decompress(content, _MOST_PACKED)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            has_alpha = image.mode in ("LA", "RGBA") or "transparency" in image.info
            if has_alpha:
                return np.asarray(image.convert("RGBA").getchannel("A")) > 0
            return np.asarray(image if image.mode == "P" else image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, binascii.Error, zlib.error, Image.DecompressionBombError):
        return None


def counts_of_pairs(text: str) -> "array[int] | None":
    """Run lengths from pairs of start and length, counted from 1; None if the pairs are invalid or overlap."""
    try:
        values = [int(part) for part in text.split()]
    except ValueError:
        return None
    if not values or len(values) % 2:
        return None
    counts = array("q")
    end = 1
    for start, length in sorted(zip(values[::2], values[1::2], strict=True)):
        if start < end or length < 1 or start + length > _MOST_PIXELS + 1:
            return None
        counts.extend((start - end, length))
        end = start + length
    return counts


def brush_alpha(packed: list[int], width: int, height: int) -> NDArray[np.bool_] | None:
    """(H, W) mask of a Label Studio brush: the opaque part of the packed RGBA image. None if it is invalid.

    The format is rle-pack: the number of values (32 bits), bits per value minus one (5 bits), four bit widths of counts
    minus one (4 bits each); then runs, each of one repeated value or of literal values:
    https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
    """
    count = 4 * width * height
    try:
        bits = _Bits(bytes(packed))
        if not 0 < count <= 4 * _MOST_PIXELS or bits.read(32) != count:
            return None
        value_bits = bits.read(5) + 1
        lengths = [bits.read(4) + 1 for _ in range(4)]
        values = np.zeros(count, np.uint8)
        at = 0
        while at < count:
            is_run = bits.read(1)
            end = at + 1 + bits.read(lengths[bits.read(2)])
            if end > count:
                return None
            if is_run:
                values[at:end] = bits.read(value_bits) & 255
            else:
                values[at:end] = [bits.read(value_bits) & 255 for _ in range(end - at)]
            at = end
    except (ValueError, TypeError, IndexError):
        return None
    return values.reshape(height, width, 4)[..., 3] > 0


class _Bits:
    """Reads integers of a given number of bits, highest bit first. Raises IndexError past the end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read(self, count: int) -> int:
        end = self._at + count
        if end > 8 * len(self._content):
            raise IndexError(end)
        piece = int.from_bytes(self._content[self._at // 8 : -(-end // 8)], "big")
        self._at, shift = end, -end % 8
        return piece >> shift & ((1 << count) - 1)
