"""Looking at one picture: can it be read whole, and is there anything about it that its owner should know?"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from trainingapp.datasets.errors import DatasetError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 89_478_485
"""Pillow warns of a decompression bomb above this: about 9,459 x 9,459 pixels."""

TINY_PIXELS = 8
_EXIF_ORIENTATION = 0x0112
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
}
"""Codes of warnings about pictures, each as the rest of a sentence "3 pictures are ..."."""


@dataclass(frozen=True)
class Facts:
    """Size in pixels once turned upright, and the codes of `NOTES` that hold."""

    width: int
    height: int
    notes: tuple[str, ...]


def examine(path: Path, shown_name: str) -> Facts:
    """Decode the whole picture (the first frame). Raises DatasetError when that fails, OSError when the disk does."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise _too_large(shown_name, f"{image.width:,} x {image.height:,} pixels")
            if image.format == "PNG":  # the only reader whose verify() finds more than load(): wrong checksums
                image.verify()
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            width, height = _upright_size(image)
            return Facts(width, height, tuple(_notes(image)))
    except Image.DecompressionBombError:
        raise _too_large(shown_name, "too many pixels") from None
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError.one("not_a_picture", _not_a_picture(path, shown_name), shown_name) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(shown_name, error) from None
    except _BROKEN as error:
        raise _unreadable(shown_name, error) from None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    lies_on_side = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if lies_on_side else image.size


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


def _not_a_picture(path: Path, shown_name: str) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return f"{shown_name} is empty (0 bytes)."
    if start.isascii() and start.decode("ascii").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"{shown_name} is a text file, not a picture."
    return f"{shown_name} is not a picture in any format that is read ({', '.join(FORMATS)})."


def _too_large(shown_name: str, size: str) -> DatasetError:
    message = f"{shown_name} is too large to decode ({size}); at most {MOST_PIXELS:,} pixels are taken."
    return DatasetError.one("too_many_pixels", message, shown_name)


def _unreadable(shown_name: str, error: Exception) -> DatasetError:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        message = f"{shown_name} is cut short: its end is missing."
        return DatasetError.one("truncated", message, shown_name)
    return DatasetError.one("unreadable", f"{shown_name} is damaged and cannot be read: {error}.", shown_name)
