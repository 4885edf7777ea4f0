"""Cases with their expected outcomes, and helpers that create their files."""

import io
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tests.helpers.sources import image

Tree = dict[str, bytes | None]
Corners = tuple[float, float, float, float]

SIZE = (48, 40)
"""Width and height of the images, in pixels."""
PIL_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "png": "PNG", "ppm": "PPM"}


@dataclass(frozen=True)
class Ready:
    """An import that succeeds. `warnings` are the codes of the report, in alphabetical order, separated by spaces.

    `val` are the stems of the validation images if the source defines the split. `boxes` are the objects of some images
    by the end of their path without suffix; corners in pixels: left, top, right, bottom.
    """

    format: str
    tasks: str
    classes: list[str]
    train: int
    val: int
    warnings: str = ""
    val_stems: str = ""
    boxes: Mapping[str, list[tuple[str, Corners]]] = field(default_factory=dict)
    label_mode: str = "single"


@dataclass(frozen=True)
class Refused:
    """An import that is refused with errors of these codes; their messages contain `texts`.

    `left_out` is the outcome if images and objects with faults are left out.
    """

    errors: str
    texts: tuple[str, ...]
    left_out: "Ready | Refused | None" = None


Outcome = Ready | Refused


@dataclass(frozen=True)
class Case:
    """`upload` names the file of `build()` that is uploaded; otherwise its files lie in a folder of the server.

    `accepted` are further acceptable outcomes. `wrong` describes a known deviation from the expected outcome.
    """

    name: str
    build: Callable[[], Tree]
    expected: Outcome
    accepted: tuple[Outcome, ...] = ()
    upload: str = ""
    linked: bool = False
    wrong: str = ""


def photo(path: str, size: tuple[int, int] = SIZE) -> bytes:
    """An image in the format of the suffix, different for each path."""
    return image(zlib.crc32(path.encode()), size, PIL_FORMATS[path.rpartition(".")[2].lower()])


def photos(*paths: str) -> Tree:
    return {path: photo(path) for path in paths}


def numbered(pattern: str, count: int) -> Tree:
    """Images with numbers from 0 in their paths."""
    return photos(*(pattern.format(number) for number in range(count)))


def class_folders(*names: str, each: int = 4, prefix: str = "", suffix: str = "jpg") -> Tree:
    return photos(*(f"{prefix}{name}/{name}_{number}.{suffix}" for name in names for number in range(each)))


def encoded(picture: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def lines(*rows: str, end: str = "\n") -> bytes:
    return "".join(row + end for row in rows).encode()


def painted(*values: int, size: tuple[int, int] = SIZE, dtype: type = np.uint8) -> Image.Image:
    """A mask with a rectangle of 8 x 18 pixels per value on a background of 0."""
    values_HW = np.zeros((size[1], size[0]), dtype)
    for number, value in enumerate(values):
        values_HW[4 + 3 * number : 22 + 3 * number, 4 + 8 * number : 12 + 8 * number] = value
    return Image.fromarray(values_HW)
