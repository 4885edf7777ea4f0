"""Images of more than 8 bits per channel, or of many bands, as the 8-bit images that a network is trained on.

The import stores such images converted by one scale for the whole dataset; a prediction converts them with the scale
of the dataset that the model was trained on. An export contains this file for models that need it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainingapp.contract.tiff_bands import Bands, read_bands, read_header

DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of one channel with more than 8 bits."""
MOST_BYTES = 256 * 1024**2
"""Memory that decoding one image may take during an import."""
STRIP_ROWS = 256
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns a stored image upright, by EXIF orientation."""
_PHOTOMETRIC = 262
_PLAIN_PHOTOMETRICS = (0, 1, 2)
"""Grey and RGB; palettes, CMYK and YCbCr are left to Pillow."""
_NOT_BY_PILLOW = ("i1", "u4", "f2", "f8")


@dataclass(frozen=True, slots=True)
class Scale:
    """The values that become 0 and 255. Where `bits` is set, integers lose all but their upper 8 of so many bits."""

    low: float
    high: float
    bits: int = 0

    def as_data(self) -> "ScaleData":
        return {"low": self.low, "high": self.high, "bits": self.bits}


class ScaleData(TypedDict):
    """A `Scale` in JSON."""

    low: float
    high: float
    bits: int


class ConversionData(TypedDict):
    """A `Conversion` in JSON."""

    integers: ScaleData | None
    floats: ScaleData | None
    bands: list[int] | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """The scales of a dataset for its deep images of integers and of floats; None where it has none.

    `bands` are the bands of a TIFF of more than three, counted from 0, that become red, green and blue; None where they
    were not chosen.
    """

    integers: Scale | None = None
    floats: Scale | None = None
    bands: tuple[int, ...] | None = None

    def scale_of(self, *, is_float: bool) -> Scale | None:
        return self.floats if is_float else self.integers

    def as_data(self) -> ConversionData:
        integers, floats = (one.as_data() if one else None for one in (self.integers, self.floats))
        return {"integers": integers, "floats": floats, "bands": None if self.bands is None else list(self.bands)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any] | None) -> "Conversion | None":
        """The conversion in a card or a dataset; None where there is none, as in those of older versions."""
        if not data:
            return None
        integers, floats = (Scale(**data[kind]) if data.get(kind) else None for kind in ("integers", "floats"))
        return cls(integers, floats, tuple(data["bands"]) if data.get("bands") else None)


def converted(path: Path, conversion: Conversion, formats: tuple[str, ...] | None = None) -> Image.Image | None:
    """The image upright with 8 bits per channel, grey or RGB; None for an image that is used as it is.

    An image of integers or floats that the conversion has no scale for is used as it is, too. Raises ValueError for a
    TIFF without one of the chosen bands, and the errors of PIL for a file that is not a complete image.
    """
    with path.open("rb") as file:
        header = read_header(file)
    if header and (bands := bands_to_read(header, conversion.bands)):
        return _from_bands(path, header, bands, conversion)
    with Image.open(path, formats=formats) as image:
        scale = conversion.scale_of(is_float=image.mode == "F")
        if image.mode not in DEEP_MODES or scale is None:
            return None
        image.load()
        scaled = Image.fromarray(scaled_strips(strips_of(image), scale, (image.height, image.width)))
        return _upright(scaled, image.getexif().get(ORIENTATION, 1))


def _from_bands(path: Path, header: Bands, bands: tuple[int, ...], conversion: Conversion) -> Image.Image | None:
    if max(bands) >= header.bands:
        raise ValueError(f"there is no band {max(bands)}: the image has {header.bands} bands, counted from 0")
    scale = conversion.scale_of(is_float=header.numbers.startswith("f"))
    if scale is None and header.numbers != "u1":
        return None
    values_HWS = read_bands(path, header, bands)
    values = values_HWS if len(bands) > 1 else values_HWS[..., 0]
    image = Image.fromarray(scaled_strips(row_strips(values), scale, values.shape) if scale else values)
    return _upright(image, header.tags.get(ORIENTATION, 1))


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def is_plain(header: Bands) -> bool:
    """Whether the bands of a TIFF are grey values or colors, without a table."""
    return header.tags.get(_PHOTOMETRIC, 1) in _PLAIN_PHOTOMETRICS


def bands_to_read(header: Bands, chosen: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The bands of a TIFF that become its channels where Pillow does not read it as a whole; None for all others."""
    if not is_plain(header):
        return None
    if chosen and header.bands > 3:
        return chosen
    if header.bands > 2 and header.numbers != "u1":
        # Of integers of 16 bits that take too much memory so, Pillow reads the upper 8.
        return None if header.numbers == "u2" and header.decoding_bytes > MOST_BYTES else (0, 1, 2)
    return (0,) if header.bands == 1 and header.numbers in _NOT_BY_PILLOW else None


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
