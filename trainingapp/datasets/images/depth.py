"""Reducing images of more than 8 bits per channel to 8 bits, by one scale for all images of a dataset.

One scale for the dataset keeps images comparable: a dark image stays darker than a bright one. A scale for each image
would turn a faint scratch and a deep one into the same grey.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.datasets.options import ReadingOptions

DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
STRIP_ROWS = 256
_BITS = (8, 10, 12, 14, 16)
"""Depths of cameras; values of fewer bits than the type are usual: 12 bits in files of 16."""
_FILLED = 0.25
"""Floats of 0 to 1 that stay below this share are stretched: their upper two bits are unused."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The lowest and the highest value of an image; `is_float` where its values are not integers."""

    low: float
    high: float
    is_float: bool

    def united(self, other: "ValueRange") -> "ValueRange":
        return ValueRange(min(self.low, other.low), max(self.high, other.high), self.is_float)


@dataclass(frozen=True, slots=True)
class Scale:
    """The values that become 0 and 255. Where `bits` is set, integers lose all but their upper 8 of so many bits."""

    low: float
    high: float
    bits: int = 0


def value_range(strips: Iterable[NDArray[np.generic]]) -> ValueRange:
    """The range of the finite values in all strips of an image."""
    low, high, is_float = np.inf, -np.inf, False
    for values in strips:
        is_float = values.dtype.kind == "f"
        finite = values[np.isfinite(values)] if is_float else values
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return ValueRange(low, high, is_float) if low <= high else ValueRange(0.0, 0.0, is_float)


def choose_scale(ranges: Iterable[ValueRange], depth: Literal["auto", "true_range", "type_range"]) -> Scale:
    """The scale for images of these ranges, either all of integers or all of floats.

    "true_range" stretches the values that occur. "type_range" takes 0 to 1 for floats and 16 bits for integers, or 32
    where they do not suffice. "auto" takes the range that the values are meant for: 0 to 1 or 0 to 255 for floats that
    fill it, the fewest bits of a camera that hold all integers; other values are stretched.
    """
    several = list(ranges)
    whole = several[0]
    for one in several[1:]:
        whole = whole.united(one)
    low, high = whole.low, whole.high
    if depth == "true_range":
        return Scale(low, high)
    if depth == "type_range":
        if whole.is_float:
            return Scale(0.0, 1.0)
        return (
            Scale(0, (1 << 16) - 1, 16) if low >= 0 and high < 1 << 16 else Scale(-(1 << 31) * (low < 0), (1 << 31) - 1)
        )
    if whole.is_float:
        for top in (1.0, 255.0):
            if low >= 0 and _FILLED * top < high <= top:
                return Scale(0.0, top)
    elif low >= 0 and high < 1 << 16:
        bits = next(bits for bits in _BITS if high < 1 << bits)
        return Scale(0, (1 << bits) - 1, bits)
    return Scale(low, high)


def to_8_bits(values: NDArray[np.generic], scale: Scale) -> NDArray[np.uint8]:
    """The values scaled and clipped to 0 to 255; what is not a number becomes 0."""
    if scale.bits and values.dtype.kind in "ui":
        return (values.clip(0, (1 << scale.bits) - 1).astype(np.uint32) >> max(scale.bits - 8, 0)).astype(np.uint8)
    span = scale.high - scale.low
    if not span > 0:
        return np.zeros(values.shape, np.uint8)
    scaled: NDArray[np.float32] = (values.astype(np.float32) - np.float32(scale.low)) * np.float32(255 / span)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return scaled.clip(0, 255).round().astype(np.uint8)


def strips_of(image: Image.Image) -> Iterator[NDArray[np.generic]]:
    """(rows, W) values of a decoded image of a deep mode, in the byte order of this machine.

    A few rows at a time: all at once, they would take the memory of the image once more.
    """
    for top in range(0, image.height, STRIP_ROWS):
        values = np.asarray(image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))))
        yield values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def scaled_strips(strips: Iterable[NDArray[np.generic]], scale: Scale, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, S) of 8 bits, of this shape."""
    scaled = np.empty(shape, np.uint8)
    top = 0
    for values in strips:
        scaled[top : top + len(values)] = to_8_bits(values, scale)
        top += len(values)
    return scaled


def row_strips(values: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """A few rows of the values at a time."""
    for top in range(0, len(values), STRIP_ROWS):
        yield values[top : top + STRIP_ROWS]


@dataclass(frozen=True, slots=True)
class Scales:
    """The scales of a dataset for its deep images of integers and of floats; None where there are none."""

    integers: Scale | None
    floats: Scale | None

    @classmethod
    def of(cls, ranges: Iterable[ValueRange], reading: ReadingOptions) -> "Scales":
        several = list(ranges)
        kinds = ([one for one in several if one.is_float is is_float] for is_float in (False, True))
        return cls(*(choose_scale(kind, reading.depth) if kind else None for kind in kinds))

    def for_range(self, found: ValueRange) -> Scale:
        scale = self.floats if found.is_float else self.integers
        assert scale, "scales are chosen from the ranges of all images"
        return scale
