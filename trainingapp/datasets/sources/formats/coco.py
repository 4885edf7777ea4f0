"""COCO JSON: boxes, polygons and run lengths of objects, one file a split.

annotations/instances_train2017.json  train2017/*.jpg      as COCO itself
train/_annotations.coco.json  train/*.jpg                  as Roboflow exports it
annotations.json  images/*.jpg                             without splits

https://cocodataset.org/#format-data
"""

import math
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import SourceFile
from trainingapp.datasets.sources.files import Files, class_name, kind_of_name, kind_of_path
from trainingapp.datasets.sources.formats.collector import Collector, numbers, object_layout, whole
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Kind, Layout, Rle, Shape

NAME = "coco"
_NAMES = ("_annotations.coco.json",)
_KEYS = (b'"images"', b'"annotations"', b'"categories"')


@dataclass
class _Content:
    """What one file holds; lists of objects are kept small, with the line that each stands in."""

    images: dict[Any, tuple[str, int, int, int]] = field(default_factory=dict)
    """(file name, width, height, line) by id"""
    names: dict[Any, str] = field(default_factory=dict)
    """Class name by category id."""
    parents: dict[Any, str] = field(default_factory=dict)
    """Supercategory by category id."""
    objects: list[tuple[Any, Any, int, Any]] = field(default_factory=list)
    """(image id, category id, line, Shape of class 0)"""


def recognise(files: Files) -> bool:
    """Whether a JSON file looks like COCO's."""
    return bool(_annotation_files(files))


def _annotation_files(files: Files) -> list[SourceFile]:
    found = [file for file in files.ending(".json") if _looks_like_coco(files, file)]
    instances = [file for file in found if file.path.rpartition("/")[2].startswith("instances")]
    return instances or found


def _looks_like_coco(files: Files, file: SourceFile) -> bool:
    if file.path.lower().endswith(_NAMES) or file.path.rpartition("/")[2].startswith("instances"):
        return True
    content = files.peek(file)
    return sum(key in content for key in _KEYS) >= 2


def read(files: Files, report: Report) -> Layout:
    """Read every annotation file; classes come in the order of the first file that names them."""
    collector = Collector(files, report)
    label_of: dict[str, int] = {}
    sources = _annotation_files(files)
    for file in sources:
        try:
            content = _parse(files.read_text(file), file.path, report)
        except DatasetError as error:
            for item in error.items:
                report.error(item["code"], item["message"], item["file"])
            continue
        _collect(content, file.path, collector, label_of)
    return object_layout(NAME, collector, list(label_of), [file.path for file in sources], report)


def _parse(text: str, path: str, report: Report) -> _Content:
    content = _Content()
    readers = {"images": _read_image, "categories": _read_category, "annotations": _read_object}
    for key, line, value in members(text, path):
        if reader := readers.get(key):
            where = f"{path} line {line}"
            fault = reader(value, line, where, content) if isinstance(value, dict) else ("no JSON object")
            if fault:
                report.fault("bad_annotation", f"{where}: in {key}: {fault}.", path)
    return content


def _read_image(value: dict[str, Any], line: int, where: str, content: _Content) -> str:
    """Each reader returns what is wrong, or nothing."""
    number, name = value.get("id"), value.get("file_name")
    if not _is_id(number) or not isinstance(name, str) or not name:
        return "an image needs an id and a file_name"
    if number in content.images:
        return f"the image id {number} is there twice"
    content.images[number] = (name, whole(value.get("width")), whole(value.get("height")), line)
    return ""


def _read_category(value: dict[str, Any], line: int, where: str, content: _Content) -> str:
    number, name = value.get("id"), class_name(value.get("name") or "")
    if not _is_id(number) or not name:
        return "a category needs an id and a name"
    if number in content.names:
        return f"the category id {number} is there twice"
    content.names[number] = name
    content.parents[number] = class_name(value.get("supercategory") or "")
    return ""


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _read_object(value: dict[str, Any], line: int, where: str, content: _Content) -> str:
    image, category = value.get("image_id"), value.get("category_id")
    if not _is_id(image) or not _is_id(category):
        return "an annotation needs an image_id and a category_id"
    box = value.get("bbox")
    bounds = numbers(box) if box else None
    if box and (bounds is None or len(bounds) != 4):
        return f"bbox must be four numbers: left, top, width, height; not {str(box)[:60]}"
    polygons, rle = _outline(value.get("segmentation"))
    if polygons is None:
        return "segmentation must be lists of x, y, x, y, ... or run lengths with their size"
    if bounds is None and not polygons and rle is None:
        return "an annotation needs a bbox or a segmentation"
    corners = (bounds[0], bounds[1], bounds[0] + bounds[2], bounds[1] + bounds[3]) if bounds else None
    if corners and not all(map(math.isfinite, corners)):
        return "bbox is too large"
    shape = Shape(0, where, corners, polygons, rle, crowd=value.get("iscrowd") == 1)
    content.objects.append((image, category, line, shape))
    return ""


def _outline(value: Any) -> tuple[tuple["array[float]", ...] | None, Rle | None]:
    """(polygons, run lengths); None for polygons where the value is neither."""
    if not value:
        return (), None
    if isinstance(value, dict):
        rle = _rle(value)
        return (() if rle else None), rle
    if not isinstance(value, list):
        return None, None
    polygons = [numbers(polygon) for polygon in value]
    if any(polygon is None or len(polygon) % 2 for polygon in polygons):
        return None, None
    return tuple(array("f", polygon) for polygon in polygons if polygon and len(polygon) >= 6), None


def _rle(value: dict[str, Any]) -> Rle | None:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(whole, size)):
        return None
    if isinstance(counts, str):
        return Rle(whole(size[0]), whole(size[1]), counts)
    runs = numbers(counts)
    if runs is None or any(run < 0 or not run.is_integer() or run > 1 << 48 for run in runs):
        return None
    return Rle(whole(size[0]), whole(size[1]), array("q", map(int, runs)))


def _collect(content: _Content, path: str, collector: Collector, label_of: dict[str, int]) -> None:
    used = {category for _image, category, _line, _shape in content.objects}
    for number, name in content.names.items():
        if number in used or name not in content.parents.values():  # Roboflow lists the set itself as a category
            label_of.setdefault(name, len(label_of))
    shapes = _by_image(content, path, collector.report, label_of)
    name_kind: Kind | None = kind_of_name(path.rpartition("/")[2]) or kind_of_path(path)
    folder = path.rpartition("/")[0]
    for number, (name, width, height, line) in content.images.items():
        where = f"{path} line {line}"
        file = collector.files.find_image(name, folder, name_kind)
        if file is None:
            collector.report.fault("missing_image", f"{where}: there is no image {name[:200]}.", path)
        else:
            kind = name_kind or kind_of_path(file.path)
            size = (width, height) if width and height else (0, 0)
            collector.add(file, where, kind=kind, shapes=shapes.get(number, ()), size=size)


def _by_image(content: _Content, path: str, report: Report, label_of: dict[str, int]) -> dict[Any, list[Shape]]:
    """The objects of each image, with their labels."""
    shapes: dict[Any, list[Shape]] = defaultdict(list)
    for image, category, line, shape in content.objects:
        where = f"{path} line {line}"
        if category not in content.names:
            report.fault("unknown_class", f"{where}: there is no category {category}.", path)
        elif image not in content.images:
            report.fault("unknown_image", f"{where}: there is no image with the id {image}.", path)
        else:
            label = label_of[content.names[category]]
            shapes[image].append(Shape(label, shape.where, shape.box, shape.polygons, shape.rle, shape.crowd))
    content.objects.clear()
    return shapes
