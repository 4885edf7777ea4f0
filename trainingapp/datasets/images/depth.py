"""Choice of the scale that reduces images of more than 8 bits per channel to 8 bits: one scale per dataset.

A common scale keeps images comparable: a dark image stays darker than a bright one. With a scale per image, a faint
scratch and a deep one would have the same gray value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainingapp.contract.deep_images import Conversion, Scale
from trainingapp.datasets.options import ReadingOptions

_BITS = (8, 10, 12, 14, 16)
"""Depths of cameras; values of fewer bits than the type are usual: 12 bits in files of 16."""
_FILLED = 0.25
"""Floats of 0 to 1 that stay below this share are stretched: their upper two bits are unused."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The lowest and the highest value of an image; `is_float` if its values are not integers."""

    low: float
    high: float
    is_float: bool

    def united(self, other: "ValueRange") -> "ValueRange":
        return ValueRange(min(self.low, other.low), max(self.high, other.high), self.is_float)


def value_range(strips: Iterable[NDArray[np.generic]]) -> ValueRange:
    """The range of the finite values in all strips (arrays of any shape) of an image."""
    low, high, is_float = np.inf, -np.inf, False
    for values in strips:
        is_float = values.dtype.kind == "f"
        finite = values[np.isfinite(values)] if is_float else values
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return ValueRange(low, high, is_float) if low <= high else ValueRange(0.0, 0.0, is_float)


def choose_scale(ranges: Iterable[ValueRange], depth: Literal["auto", "true_range", "type_range"]) -> Scale:
    """The scale for images with these ranges, which are either all integers or all floats.

    "true_range" stretches the values that occur. "type_range" uses 0 to 1 for floats, and 16 bits for integers, or 32
    bits if 16 are not enough. "auto" uses the intended range: for floats 0 to 1 or 0 to 255 if the values fill it, for
    integers the smallest bit depth of cameras that holds all values; other values are stretched.
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


def conversion_of(ranges: Iterable[ValueRange], reading: ReadingOptions) -> Conversion:
    """The conversion for a dataset whose deep images have these ranges."""
    several = list(ranges)
    kinds = ([one for one in several if one.is_float is is_float] for is_float in (False, True))
    integers, floats = (choose_scale(kind, reading.depth) if kind else None for kind in kinds)
    return Conversion(integers, floats, reading.bands)
