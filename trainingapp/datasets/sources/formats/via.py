"""VGG Image Annotator: projects and exports of VIA 1 and 2 as JSON or CSV, and projects of VIA 3 (`via3.py`).

train/via_region_data.json  train/*.jpg  val/via_region_data.json  val/*.jpg

Rectangles, circles, ellipses and polygons become objects. The class is the region attribute with such a name; without
any attributes there is one class. https://www.robots.ox.ac.uk/~vgg/software/via/docs/user_guide.html
"""

import json
import re
from array import array

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats.gathered import (
    Corners,
    Gathered,
    ellipse,
    ellipse_box,
    number,
    polygon,
    values,
)
from trainingapp.datasets.sources.formats.tables import header_of, rows
from trainingapp.datasets.sources.formats.via3 import read_version_3
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "via"
_PROJECT = "_via_img_metadata"
_KNOWN = ("rect", "circle", "ellipse", "polygon")
_CLASS_KEYS = ("class", "label", "name", "type", "category", "object", "classname", "class_name")
_VERSION_3 = re.compile(rb'"(vid_list|data_format_version)"')
_MOST_CELL = 4 * 1024**2


def recognise(files: Files) -> bool:
    """Whether a JSON or CSV file comes from VIA."""
    tables = any(_is_table(files, file) for file in files.first_ending(".csv"))
    return tables or any(_is_json(files, file) for file in files.first_ending(".json"))


def _is_json(files: Files, file: SourceFile) -> bool:
    content = files.peek(file)
    is_project = b'"_via_img_metadata"' in content or (b'"vid_list"' in content and b'"metadata"' in content)
    return is_project or (b'"shape_attributes"' in content and b'"regions"' in content)


def _is_table(files: Files, file: SourceFile) -> bool:
    return "region_shape_attributes" in header_of(files.peek(file))


def read(files: Files, report: Report) -> Layout:
    """Read every export. Classes are ordered by name."""
    exports = [file for file in files.ending(".json") if _is_json(files, file)]
    tables = [file for file in files.ending(".csv") if _is_table(files, file)]
    gathered = Gathered(NAME, files, report, [*exports, *tables])
    for file in exports:
        is_version_3 = _VERSION_3.search(files.peek(file)) and b'"shape_attributes"' not in files.peek(file)
        with report.collecting():
            (read_version_3 if is_version_3 else _read_json)(files, file, gathered)
    for file in tables:
        with report.collecting():
            _read_table(files, file, gathered)
    return gathered.layout()


def _read_json(files: Files, file: SourceFile, gathered: Gathered) -> None:
    is_project = b'"_via_img_metadata"' in files.peek(file)
    for key, line, value in members(files.text_pieces(file), file.path, {_PROJECT}):
        if is_project and key != _PROJECT:
            continue
        where = Position(file.path, line)
        if not isinstance(value, dict):
            gathered.field_invalid(where, key[:60])
            continue
        image = gathered.find(value.get("filename"), where)
        regions = value.get("regions", [])
        if isinstance(regions, dict):  # version 1
            regions = list(regions.values())
        if not isinstance(regions, list):
            gathered.field_invalid(where, "regions")
        elif image is not None:
            shapes = [_shape(region, where, gathered) for region in regions]
            usable = [shape for shape in shapes if shape]
            gathered.add(image, where, usable, unusable=len(shapes) - len(usable))


def _read_table(files: Files, file: SourceFile, gathered: Gathered) -> None:
    """Read a table: each line is a region or an image without regions; lines of an image need not be adjacent."""
    found: dict[str, tuple[SourceFile, Position, list[Shape | None]]] = {}
    for where, row in rows(files.read_text(file), file.path):
        image = gathered.find(row.get("filename") or row.get("#filename"), where)
        if image is None:
            continue
        _image, _where, shapes = found.setdefault(image.path, (image, where, []))
        outline = _cell(row.get("region_shape_attributes", ""))
        if outline != {}:
            attributes = _cell(row.get("region_attributes", ""))
            shapes.append(_shape({"shape_attributes": outline, "region_attributes": attributes}, where, gathered))
    for image, where, shapes in found.values():
        usable = [shape for shape in shapes if shape]
        gathered.add(image, where, usable, unusable=len(shapes) - len(usable))


def _cell(text: str) -> object:
    """The parsed JSON of a cell; None if it is not valid."""
    try:
        return json.loads(text or "{}") if len(text) <= _MOST_CELL else None
    except (ValueError, RecursionError):
        return None


def _shape(region: object, where: Position, gathered: Gathered) -> Shape | None:
    """The object; None, with a fault, if it cannot be used."""
    outline = region.get("shape_attributes") if isinstance(region, dict) else None
    attributes = region.get("region_attributes", {}) if isinstance(region, dict) else None
    if not isinstance(outline, dict):
        gathered.field_invalid(where, "shape_attributes")
        return None
    if outline.get("name") not in _KNOWN:
        gathered.shape_not_read(where, outline.get("name"), _KNOWN)
        return None
    if not isinstance(attributes, dict) or (name := _class(attributes)) is None:
        gathered.field_invalid(where, "region_attributes")
        return None
    if (found := _outline(outline)) is None:
        gathered.field_invalid(where, "shape_attributes")
        return None
    box, points = found
    return gathered.shape(name, where, box, (points,) if points else ())


def _class(attributes: dict[str, object]) -> str | None:
    """The value of the class attribute; "" if there are no attributes, None if the class attribute is ambiguous."""
    named = {key: _text(value) for key, value in attributes.items()}
    present = {key: value for key, value in named.items() if value}
    for known in _CLASS_KEYS:
        for key, value in present.items():
            if key.lower().strip().replace(" ", "_") == known:
                return value
    if len(attributes) > 1 and present:
        return None
    return next(iter(present.values()), "")


def _text(value: object) -> str:
    if isinstance(value, dict):  # a checkbox
        chosen = [key for key, is_set in value.items() if is_set]
        return chosen[0] if len(chosen) == 1 else ""
    return value.strip() if isinstance(value, str) else ""


def _outline(outline: dict[str, object]) -> "tuple[Corners | None, array[float] | None] | None":
    """(box, polygon) in pixels; None if a number is missing."""
    kind = outline["name"]
    if kind == "polygon":
        xs, ys = outline.get("all_points_x"), outline.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            return None
        points = polygon(list(zip(xs, ys, strict=True)))
        return (None, points) if points else None
    if kind == "rect":
        found = values(outline, "x", "y", "width", "height")
        return ((found[0], found[1], found[0] + found[2], found[1] + found[3]), None) if found else None
    found = values(outline, "cx", "cy", "r", "r") if kind == "circle" else values(outline, "cx", "cy", "rx", "ry")
    if found is None or min(found[2:]) <= 0:
        return None
    # VIA stores the rotation of an ellipse in radians.
    degrees = (number(outline.get("theta", 0)) or 0.0) * 57.29577951308232
    x, y, x_radius, y_radius = found
    return ellipse_box(x, y, x_radius, y_radius, degrees), ellipse(x, y, x_radius, y_radius, degrees)
