"""Looking at one image: can it be read whole, and is there anything about it that its owner should know?"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.images.memory_budget import MOST_BYTES, decoding_bytes, is_progressive
from trainingapp.datasets.sources.archive import SourceFile
from trainingapp.datasets.sources.files import read_bytes

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 89_478_485
"""Pillow warns of a decompression bomb above this: about 9,459 x 9,459 pixels."""

TINY_PIXELS = 8
_EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations whose stored width is the upright height."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a stored image upright, by EXIF orientation."""
_LOOK_PIXELS = 32
_LARGE_PIXELS = 4_000_000
_STRIP_ROWS = 256
MASK_BYTES = 12
"""A pixel of a mask takes so many bytes while its values are looked at."""
_FLAT = 8
"""An image whose shades differ by less looks like any other of one colour."""
_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
#: What Pillow's readers raise for broken files, as its own fuzzing treats them.
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

NOTES = {
    "tiny": f"smaller than {TINY_PIXELS} pixels on a side; a network will hardly see anything",
    "exif_orientation": "stored turned; training turns them upright as their EXIF data says",
    "animated": "with several frames, of which the first is used",
    "deep": "with more than 8 bits a channel, which are reduced to 8",
    "annotation_turned": "annotated as stored, before EXIF turns them; their annotations are turned along",
}
"""Codes of warnings about images, each as the rest of a sentence "3 images are ..."."""


@dataclass(frozen=True)
class Facts:
    """What is known of an image once it is decoded.

    Size in pixels once turned upright, the codes of `NOTES` that hold, how EXIF says that it is stored (1 to 8, 1 being
    upright), and 64 bits that are nearly the same for images that look alike; None where it is all one colour.
    """

    width: int
    height: int
    notes: tuple[str, ...]
    orientation: int = 1
    look: int | None = None

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height before it is turned upright."""
        return (self.height, self.width) if self.orientation in SIDEWAYS else (self.width, self.height)


def examine(path: Path, shown_name: str) -> Facts:
    """Decode the whole image (the first frame). Raises DatasetError when that fails, OSError when the disk does."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse_large(image, shown_name, decoding_bytes(image))
            if image.format == "PNG":  # the only reader whose verify() finds more than load(): wrong checksums
                image.verify()
        with Image.open(path, formats=FORMATS) as image:
            stored_size = image.size
            if is_progressive(image):  # every byte is read all the same
                image.draft(image.mode, (image.width // 2, image.height // 2))
            image.load()
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            width, height = reversed(stored_size) if orientation in SIDEWAYS else stored_size
            return Facts(width, height, tuple(_notes(image)), orientation, _look(image, orientation))
    except Image.DecompressionBombError:
        raise _too_large(shown_name, "too many pixels") from None
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


def _look(image: Image.Image, orientation: int) -> int | None:
    """The perceptual hash of the upright image: signs of the lowest frequencies of its cosine transform."""
    plain = image if image.mode in ("L", "RGB") else _smaller(image).convert("RGB")
    small = plain.resize((_LOOK_PIXELS, _LOOK_PIXELS), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    darkest, brightest = small.getextrema()
    if not isinstance(darkest, int | float) or not isinstance(brightest, int | float) or brightest - darkest < _FLAT:
        return None
    if orientation in TURNS:
        small = small.transpose(TURNS[orientation])
    return int.from_bytes(np.packbits(imagehash.phash(small).hash).tobytes())


def _smaller(image: Image.Image) -> Image.Image:
    """The image, or of a large one every so manieth pixel: in another mode it would take its memory once more."""
    if image.width * image.height <= _LARGE_PIXELS:
        return image
    return image.resize((_LOOK_PIXELS * 16, _LOOK_PIXELS * 16), Image.Resampling.NEAREST)


def _refuse_large(image: Image.Image, shown_name: str, needed_bytes: int) -> None:
    """By the header alone; nothing is decoded yet."""
    size = f"{image.width:,} x {image.height:,} pixels"
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(shown_name, size)
    if needed_bytes > MOST_BYTES:
        message = (
            f"{shown_name} is too large to decode ({size} of a {image.format} take {needed_bytes >> 20:,} MB); "
            f"at most {MOST_BYTES >> 20} MB are taken."
        )
        raise DatasetError.one("too_many_pixels", message, shown_name)


def needed_bytes(path: Path) -> int:
    """Memory that looking at this image takes, as far as its header says; 0 for what is no image."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return min(decoding_bytes(image), MOST_BYTES)
    except (OSError, Image.DecompressionBombError, *_BROKEN):
        return 0


def read_mask(file: SourceFile, *, in_colour: bool) -> NDArray[np.int32]:
    """(H, W) numbers of a mask's pixels, or red << 16 | green << 8 | blue where `in_colour`. Palettes give the index.

    A mask of one bit has 0 and 255. Raises DatasetError when it cannot be read or is a colour image without a table.
    """
    content = io.BytesIO(read_bytes(file))
    try:
        with Image.open(content, formats=FORMATS) as image:
            needed = image.width * image.height * MASK_BYTES
            _refuse_large(image, file.path, needed)
            image.load()
            return _mask_values(image, file.path, in_colour)
    except Image.DecompressionBombError:
        raise _too_large(file.path, "too many pixels") from None
    except DatasetError:
        raise
    except UnidentifiedImageError:
        message = f"{file.path} is not an image in any format that is read ({', '.join(FORMATS)})."
        raise DatasetError.one("not_an_image", message, file.path) from None
    except (OSError, *_BROKEN) as error:
        raise _unreadable(file.path, error) from None


def _mask_values(image: Image.Image, path: str, in_colour: bool) -> NDArray[np.int32]:
    if not in_colour and image.mode in ("P", "L", "1", "LA", "I", *_DEEP_MODES):
        plain = image.convert("L") if image.mode in ("1", "LA") else image
        return np.asarray(plain).astype(np.int32)
    values_HW = np.empty((image.height, image.width), np.int32)
    for top in range(0, image.height, _STRIP_ROWS):  # all at once would take ten times the memory
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        red, green, blue = np.moveaxis(np.asarray(strip.convert("RGB"), np.int32), -1, 0)
        if not in_colour and ((red != green).any() or (red != blue).any()):
            message = f"{path} is in colours; class_dict.csv or labelmap.txt must say which class each colour is."
            raise DatasetError.one("colours_unknown", message, path)
        values_HW[top : top + _STRIP_ROWS] = red << 16 | green << 8 | blue if in_colour else red
    return values_HW


def _notes(image: Image.Image) -> list[str]:
    notes = []
    if min(image.size) < TINY_PIXELS:
        notes.append("tiny")
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        notes.append("exif_orientation")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes.append("animated")
    if image.mode in _DEEP_MODES:
        notes.append("deep")
    return notes


def _not_an_image(path: Path, shown_name: str) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return f"{shown_name} is empty (0 bytes)."
    if start.isascii() and start.decode("ascii").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"{shown_name} is a text file, not an image."
    return f"{shown_name} is not an image in any format that is read ({', '.join(FORMATS)})."


def _too_large(shown_name: str, size: str) -> DatasetError:
    message = f"{shown_name} is too large to decode ({size}); at most {MOST_PIXELS:,} pixels are taken."
    return DatasetError.one("too_many_pixels", message, shown_name)


def _unreadable(shown_name: str, error: Exception) -> DatasetError:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        message = f"{shown_name} is cut short: its end is missing."
        return DatasetError.one("truncated", message, shown_name)
    return DatasetError.one("unreadable", f"{shown_name} is damaged and cannot be read: {error}.", shown_name)
