"""Labelme (and AnyLabeling): one JSON file per image, usually in the same folder.

day1/a.jpg  day1/a.json  day2/a.jpg  day2/a.json

Polygons, rectangles, circles, rotated rectangles and masks become objects; image flags become image classes if there
are no objects. https://github.com/wkentaro/labelme/blob/main/labelme/_label_file.py
"""

import math
import re
from array import array

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, best_match, stem
from trainingapp.datasets.sources.formats.collector import whole
from trainingapp.datasets.sources.formats.gathered import Corners, Gathered, ellipse, in_order, polygon
from trainingapp.datasets.sources.formats.run_lengths import crop_of_png, of_crop
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Layout, Rle, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "labelme"
_KNOWN = ("polygon", "rectangle", "circle", "rotation", "mask")
_EMBEDDED = re.compile(r'"imageData"\s*:\s*"[A-Za-z0-9+/=]*"')
"""The image itself as text: it can be larger than any value that is read."""


def recognise(files: Files) -> bool:
    """Whether a JSON file has shapes and an image path."""
    return any(_is_labelme(files.peek(file)) for file in files.first_ending(".json"))


def _is_labelme(content: bytes) -> bool:
    return b'"shapes"' in content and (b'"imagePath"' in content or b'"shape_type"' in content)


def read(files: Files, report: Report) -> Layout:
    """Read every JSON file with shapes. Classes are ordered by name."""
    sources = [file for file in files.ending(".json") if _is_labelme(files.peek(file))]
    gathered = Gathered(NAME, files, report, sources)
    for file in sources:
        with report.leaving_out():
            _read_file(files, file, gathered)
    return gathered.layout()


def _read_file(files: Files, file: SourceFile, gathered: Gathered) -> None:
    """Add the image of one file. Raises DatasetError if it is not valid JSON."""
    text = _EMBEDDED.sub('"imageData": null', files.read_text(file))
    found: list[tuple[Position, object]] = []
    other: dict[str, object] = {}
    for key, line, value in members(text, file.path):
        if key == "shapes":
            found.append((Position(file.path, line), value))
        else:
            other[key] = value
    width, height = whole(other.get("imageWidth")), whole(other.get("imageHeight"))
    size = (width, height) if width and height else (0, 0)
    shapes = [_shape(value, where, size, gathered) for where, value in found]
    usable = [shape for shape in shapes if shape]
    image = _image(files, file, other.get("imagePath"))
    if image is None:
        gathered.no_image_for(file)
        return
    flags = other.get("flags")
    labels = [name for name, is_set in flags.items() if is_set is True] if isinstance(flags, dict) else []
    unusable = len(shapes) - len(usable)
    gathered.add(image, Position(file.path), usable, labels=labels, size=size, unusable=unusable)


def _image(files: Files, file: SourceFile, name: object) -> SourceFile | None:
    folder = file.path.rpartition("/")[0]
    kind = files.kind_of(file.path)
    # The path is often from another machine; a file with the same stem in the folder is reliable.
    beside = best_match([one for one in files.with_stem(stem(file.path)) if one.path.startswith(folder)], folder, kind)
    if beside is not None and beside.path.rpartition("/")[0] == folder:
        return beside
    named = files.find_image(name, folder, kind) if isinstance(name, str) and name else None
    return named or best_match(files.with_stem(stem(file.path)), folder, kind)


def _shape(value: object, where: Position, size: tuple[int, int], gathered: Gathered) -> Shape | None:
    """The object in an image of `size` = (width, height); None, with a fault, if it cannot be used."""
    if not isinstance(value, dict):
        gathered.field_invalid(where, "shapes")
        return None
    kind = value.get("shape_type", "polygon")  # the only type in version 3
    if kind not in _KNOWN:
        gathered.shape_not_read(where, kind, _KNOWN)
        return None
    if not isinstance(label := value.get("label"), str) or not label.strip():
        gathered.field_invalid(where, "label")
        return None
    if kind == "mask":
        if rle := _mask(value.get("mask"), value.get("points"), size):
            return gathered.shape(label, where, rle=rle)
        gathered.field_invalid(where, "mask")
        return None
    found = _outline(kind, value.get("points"))
    if found is None:
        gathered.field_invalid(where, "points")
        return None
    box, outline = found
    return gathered.shape(label, where, box, (outline,) if outline else ())


def _mask(data: object, points: object, size: tuple[int, int]) -> Rle | None:
    """The mask from a base64-encoded PNG, whose corners are the points."""
    corners = polygon([*points, points[0]]) if isinstance(points, list) and len(points) == 2 else None
    crop_HW = crop_of_png(data) if isinstance(data, str) else None
    if corners is None or crop_HW is None or not all(size):
        return None
    return of_crop(crop_HW, int(corners[0]), int(corners[1]), size)


def _outline(kind: object, points: object) -> "tuple[Corners | None, array[float] | None] | None":
    """(box, polygon) from the points; None if their number or type is wrong."""
    if kind in ("polygon", "rotation"):
        outline = polygon(points)
        return (None, outline) if outline else None
    if not isinstance(points, list) or len(points) not in (2, 4):
        return None
    flat = polygon([*points, points[0]] if len(points) == 2 else points)
    if flat is None or (kind == "circle" and len(points) != 2):
        return None
    if kind == "circle":  # center and a point on the circle
        radius = math.dist(flat[0:2], flat[2:4])
        x, y = flat[0], flat[1]
        return (x - radius, y - radius, x + radius, y + radius), ellipse(x, y, radius, radius)
    # AnyLabeling stores all four corners of a rectangle.
    return in_order(min(flat[0::2]), min(flat[1::2]), max(flat[0::2]), max(flat[1::2])), None
