"""Decoding of single images: checks that they can be read completely and collects their properties."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainingapp.contract.deep_images import (
    DEEP_MODES,
    ORIENTATION,
    STRIP_ROWS,
    TURNS,
    bands_to_read,
    is_plain,
    row_strips,
    strips_of,
)
from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_images as messages
from trainingapp.contract.tiff_bands import Bands, read_bands, read_header
from trainingapp.datasets.images.depth import ValueRange, value_range
from trainingapp.datasets.images.memory_budget import MOST_BYTES, decoding_bytes, is_progressive
from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.report import DatasetError, reason
from trainingapp.datasets.sources.files import read_bytes
from trainingapp.datasets.sources.image_kinds import HAS_AVIF, HAS_HEIF
from trainingapp.datasets.sources.source import SourceFile

if HAS_HEIF:  # an extra, see docs/decisions/2026-11-29-archives-encodings-and-deep-images.md
    from pillow_heif import register_heif_opener

    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(["AVIF"] if HAS_AVIF else []))
"""The formats of images that every process of the studio decodes."""
CONVERTED_FORMATS = ("AVIF", "HEIF")
"""Formats that are stored as JPEG or PNG: not every trainer can decode them, and decoding takes long."""
IMPORT_FORMATS = (*FORMATS, *(["HEIF"] if HAS_HEIF else []))
"""The formats of images that can be imported."""
MOST_PIXELS = 89_478_485
"""Pillow warns of a decompression bomb above this number (PIL.Image.MAX_IMAGE_PIXELS), about 9,459 x 9,459 pixels."""

TINY_PIXELS = 8
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations in which the stored width is the upright height."""
_MOST_PLAIN_BANDS = 4
_HASH_PIXELS = 32
_LARGE_PIXELS = 4_000_000
_JPEG_GREY = 16
"""The channels of a grey image differ by at most so much once it was saved as a JPEG in color."""
MASK_BYTES = 12
"""Memory per pixel of a mask while its values are read."""
_FLAT = 8
"""Images whose grey values differ by less count as one colour; they all have the same hash."""
#: Exceptions that Pillow's decoders raise for broken files, as listed in its own fuzzing tests.
_BROKEN = (
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
)

#: Warnings about images by category, with the number of images as a parameter.
NOTES: dict[str, Callable[[int], Message]] = {
    "tiny": lambda count: messages.TINY(count=count, pixels=TINY_PIXELS),
    "exif_orientation": lambda count: messages.EXIF_ORIENTATION(count=count),
    "animated": lambda count: messages.ANIMATED(count=count),
    "constant": lambda count: messages.CONSTANT(count=count),
    "deep": lambda count: messages.DEEP(count=count),
    "annotation_turned": lambda count: messages.ANNOTATION_TURNED(count=count),
}


@dataclass(frozen=True)
class ImageFacts:
    """Properties of a decoded image.

    `width` and `height` in pixels of the upright image, `notes` as keys of `NOTES`, EXIF `orientation` from 1 (upright)
    to 8. `perceptual_hash` has 64 bits, which differ little between similar images; None for images of a single color
    and for images that `needs_conversion`, whose hash is computed afterwards. `values` is the value range of an image
    with more than 8 bits, `bands` the bands of a TIFF that become its channels if Pillow does not choose them.
    """

    width: int
    height: int
    notes: tuple[str, ...]
    orientation: int = 1
    perceptual_hash: int | None = None
    format: str = ""
    values: ValueRange | None = None
    bands: tuple[int, ...] = ()

    @property
    def needs_conversion(self) -> bool:
        """Whether the dataset stores a converted file instead of this one (`conversion.py`)."""
        return self.values is not None or bool(self.bands) or self.format in CONVERTED_FORMATS

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels before the EXIF rotation."""
        return (self.height, self.width) if self.orientation in SIDEWAYS else (self.width, self.height)


def examine(path: Path, shown_name: str, reading: ReadingOptions = AUTO) -> ImageFacts:
    """Decode the whole image (the first frame). Raises DatasetError if that fails and OSError on a disk error.

    `reading.bands` selects the bands of a TIFF that become its channels.
    """
    with readable(path, shown_name):
        if found := chosen_bands(path, shown_name, reading):
            return _examine_bands(path, shown_name, *found)
        with Image.open(path, formats=IMPORT_FORMATS) as image:
            _refuse_large(image, shown_name, decoding_bytes(image))
            if image.format == "PNG":  # verify() finds wrong checksums, load() does not
                image.verify()
        with Image.open(path, formats=IMPORT_FORMATS) as image:
            return _examine_image(image)


@contextmanager
def readable(path: Path, shown_name: str) -> Iterator[None]:
    """Within: convert Pillow's exceptions for undecodable files into DatasetError; disk errors are not converted."""
    try:
        yield
    except Image.DecompressionBombError:
        raise _far_too_large(shown_name) from None
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError.one("not_an_image", _not_an_image(path, shown_name), shown_name) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(shown_name, error) from None
    except _BROKEN as error:
        raise _unreadable(shown_name, error) from None


def _examine_image(image: Image.Image) -> ImageFacts:
    stored_size = image.size
    if is_progressive(image):  # decoded at half size to save memory; every byte is still read
        image.draft(image.mode, (image.width // 2, image.height // 2))
    is_deep_colour = ";16" in str(getattr(image, "tile", [])[:1])
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)
    width, height = reversed(stored_size) if orientation in SIDEWAYS else stored_size
    notes, format_ = [], image.format or ""
    if min(image.size) < TINY_PIXELS:
        notes.append("tiny")
    if orientation != 1:
        notes.append("exif_orientation")
    if getattr(image, "n_frames", 1) > 1 and format_ != "MPO":
        notes.append("animated")
    if image.mode in DEEP_MODES:
        values = value_range(strips_of(image))
        return ImageFacts(width, height, tuple(notes), orientation, format=format_, values=values)
    if is_deep_colour:
        notes.append("deep")
    hash_ = None if format_ in CONVERTED_FORMATS else perceptual_hash(image, orientation)
    if hash_ is None and format_ not in CONVERTED_FORMATS and is_constant(image):
        notes.append("constant")
    return ImageFacts(width, height, tuple(notes), orientation, hash_, format_)


def is_constant(image: Image.Image) -> bool:
    """Whether all pixels are equal."""
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else [extrema]
    return all(pair[0] == pair[1] for pair in pairs if isinstance(pair, tuple))


# Bands of TIFFs


def chosen_bands(path: Path, shown_name: str, reading: ReadingOptions) -> tuple[Bands, tuple[int, ...]] | None:
    """The directory of a TIFF that Pillow cannot read completely, and the bands that become its channels.

    None for all other images. Raises DatasetError if no bands are chosen or the file lacks one of them.
    """
    with path.open("rb") as file:
        header = read_header(file)
    if header is None or not is_plain(header):
        return None
    if header.bands > _MOST_PLAIN_BANDS and not reading.bands:
        raise DatasetError.one("bands", messages.BANDS_OPEN(path=shown_name, count=header.bands), shown_name)
    bands = bands_to_read(header, reading.bands)
    if bands and max(bands) >= header.bands:
        message = messages.BAND_MISSING(path=shown_name, count=header.bands, band=max(bands))
        raise DatasetError.one("bands", message, shown_name)
    return (header, bands) if bands else None


def _examine_bands(path: Path, shown_name: str, header: Bands, bands: tuple[int, ...]) -> ImageFacts:
    if header.width * header.height > MOST_PIXELS or header.decoding_bytes > MOST_BYTES:
        message = messages.TOO_MUCH_MEMORY(
            path=shown_name,
            width=header.width,
            height=header.height,
            format="TIFF",
            megabytes=header.decoding_bytes >> 20,
            most=MOST_BYTES >> 20,
        )
        raise DatasetError.one("too_many_pixels", message, shown_name)
    values_HWS = read_bands(path, header, bands)
    orientation = header.tags.get(ORIENTATION, 1)
    size = (header.width, header.height)
    width, height = reversed(size) if orientation in SIDEWAYS else size
    values = None if header.numbers == "u1" else value_range(row_strips(values_HWS))
    notes = [] if min(size) >= TINY_PIXELS else ["tiny"]
    if orientation in TURNS:
        notes.append("exif_orientation")
    return ImageFacts(width, height, tuple(notes), orientation, format="TIFF", values=values, bands=bands)


def perceptual_hash(image: Image.Image, orientation: int) -> int | None:
    """64-bit hash: the signs of the lowest frequencies of the cosine transform of the upright image."""
    plain = image
    if image.mode not in ("L", "RGB"):
        if image.width * image.height > _LARGE_PIXELS:  # converting the full-size image would double the memory needed
            plain = image.resize((_HASH_PIXELS * 16, _HASH_PIXELS * 16), Image.Resampling.NEAREST)
        plain = plain.convert("RGB")
    small = plain.resize((_HASH_PIXELS, _HASH_PIXELS), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    darkest, brightest = small.getextrema()
    if not isinstance(darkest, int | float) or not isinstance(brightest, int | float) or brightest - darkest < _FLAT:
        return None
    if orientation in TURNS:
        small = small.transpose(TURNS[orientation])
    return int.from_bytes(np.packbits(imagehash.phash(small).hash).tobytes())


def _refuse_large(image: Image.Image, shown_name: str, needed_bytes: int) -> None:
    """Raise DatasetError for an image that is too large, by its header alone; nothing is decoded yet."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        message = messages.TOO_MANY_PIXELS(path=shown_name, width=width, height=height, most=MOST_PIXELS / 1e6)
        raise DatasetError.one("too_many_pixels", message, shown_name)
    if needed_bytes > MOST_BYTES:
        message = messages.TOO_MUCH_MEMORY(
            path=shown_name,
            width=width,
            height=height,
            format=image.format or "",
            megabytes=needed_bytes >> 20,
            most=MOST_BYTES >> 20,
        )
        raise DatasetError.one("too_many_pixels", message, shown_name)


def needed_bytes(path: Path) -> int:
    """Bytes of memory needed to decode this image, according to its header; 0 if it is not an image."""
    try:
        with path.open("rb") as file:
            if (header := read_header(file)) and header.bands > 1:
                return min(header.decoding_bytes + 2 * path.stat().st_size, MOST_BYTES)
        with Image.open(path, formats=IMPORT_FORMATS) as image:
            return min(decoding_bytes(image), MOST_BYTES)
    except (OSError, Image.DecompressionBombError, *_BROKEN):
        return 0


def read_mask(file: SourceFile, *, in_colour: bool) -> NDArray[np.int32]:
    """(H, W) pixel values of a mask, red << 16 | green << 8 | blue if `in_colour`, indices if it has a palette.

    A 1-bit mask has the values 0 and 255. Raises DatasetError if the mask cannot be read or has colors without a
    color table.
    """
    content = io.BytesIO(read_bytes(file))
    try:
        with Image.open(content, formats=FORMATS) as image:
            needed = image.width * image.height * MASK_BYTES
            _refuse_large(image, file.path, needed)
            image.load()
            return _mask_values(image, file.path, in_colour)
    except Image.DecompressionBombError:
        raise _far_too_large(file.path) from None
    except DatasetError:
        raise
    except UnidentifiedImageError:
        message = messages.NOT_AN_IMAGE(path=file.path, formats=FORMATS)
        raise DatasetError.one("not_an_image", message, file.path) from None
    except (OSError, *_BROKEN) as error:
        raise _unreadable(file.path, error) from None


def _mask_values(image: Image.Image, path: str, in_colour: bool) -> NDArray[np.int32]:
    if not in_colour and image.mode in ("LA", "RGBA") and (alpha := _painted_alpha(image)):
        return np.asarray(alpha).astype(np.int32)
    if not in_colour and image.mode in ("P", "L", "1", "LA", "I", *DEEP_MODES):
        plain = image.convert("L") if image.mode in ("1", "LA") else image
        return np.asarray(plain).astype(np.int32)
    values_HW = np.empty((image.height, image.width), np.int32)
    most_apart = _JPEG_GREY if image.format == "JPEG" else 0
    for top in range(0, image.height, STRIP_ROWS):  # processing all rows at once would take ten times the memory
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))
        red, green, blue = np.moveaxis(np.asarray(strip.convert("RGB"), np.int32), -1, 0)
        if not in_colour and max(np.abs(red - green).max(), np.abs(red - blue).max()) > most_apart:
            raise DatasetError.one("colours_unknown", messages.COLOURS_UNKNOWN(path=path), path)
        values_HW[top : top + STRIP_ROWS] = red << 16 | green << 8 | blue if in_colour else red
    return values_HW


def _painted_alpha(image: Image.Image) -> Image.Image | None:
    """The alpha channel if it alone contains the mask, that is, if it varies and the color does not."""
    *colours, alpha = image.getbands()
    if any(len(set(image.getchannel(band).getextrema())) > 1 for band in colours):
        return None
    channel = image.getchannel(alpha)
    return channel if len(set(channel.getextrema())) > 1 else None


def _not_an_image(path: Path, shown_name: str) -> Message:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return messages.EMPTY_FILE(path=shown_name)
    if start.startswith(b"version https://git-lfs"):
        return messages.POINTER_FILE(path=shown_name)
    if start.isascii() and start.decode("ascii").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return messages.TEXT_FILE(path=shown_name)
    return messages.NOT_AN_IMAGE(path=shown_name, formats=IMPORT_FORMATS)


def _far_too_large(shown_name: str) -> DatasetError:
    """The error for images beyond twice MOST_PIXELS, which Pillow refuses before their size is available."""
    message = messages.FAR_TOO_MANY_PIXELS(path=shown_name, most=MOST_PIXELS / 1e6)
    return DatasetError.one("too_many_pixels", message, shown_name)


def _unreadable(shown_name: str, error: Exception) -> DatasetError:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return DatasetError.one("truncated", messages.TRUNCATED(path=shown_name), shown_name)
    return DatasetError.one("unreadable", messages.CORRUPTED(path=shown_name, reason=reason(error)), shown_name)
