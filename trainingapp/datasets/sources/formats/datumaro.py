"""Datumaro JSON: one file per split.

annotations/train.json  images/train/*.jpg  annotations/val.json  images/val/*.jpg

Boxes, polygons and masks (run lengths) become objects; labels become image classes if there are no objects.
https://open-edge-platform.github.io/datumaro/latest/docs/data-formats/formats/datumaro.html
"""

from array import array

from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, class_name
from trainingapp.datasets.sources.formats.collector import numbers, whole
from trainingapp.datasets.sources.formats.gathered import Gathered
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Layout, Rle, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "datumaro"
_KNOWN = ("bbox", "polygon", "mask", "label")


def recognise(files: Files) -> bool:
    """Whether a JSON file has Datumaro's items and categories."""
    return any(_is_datumaro(files, file) for file in files.first_ending(".json"))


def _is_datumaro(files: Files, file: SourceFile) -> bool:
    content = files.peek(file)
    return b'"items"' in content and b'"categories"' in content and b'"label"' in content


def read(files: Files, report: Report) -> Layout:
    """Read every file. Classes are in the order of the first file."""
    sources = [file for file in files.ending(".json") if _is_datumaro(files, file)]
    gathered = Gathered(NAME, files, report, sources)
    order: dict[str, None] = {}
    for file in sources:
        with report.collecting():
            names: list[str] = []
            for key, line, value in members(files.text_pieces(file), file.path):
                if key == "categories":
                    names = _names(value)
                    order.update(dict.fromkeys(names))
                elif key == "items":
                    _add(value, names, Position(file.path, line), gathered)
    return gathered.layout(order=list(order))


def _names(categories: object) -> list[str]:
    """The class names; Datumaro writes them before the items."""
    label = categories.get("label") if isinstance(categories, dict) else None
    entries = label.get("labels") if isinstance(label, dict) else None
    if not isinstance(entries, list):
        return []
    return [class_name(entry.get("name") or "") if isinstance(entry, dict) else "" for entry in entries]


def _add(item: object, names: list[str], where: Position, gathered: Gathered) -> None:
    if not isinstance(item, dict):
        gathered.field_invalid(where, "items")
        return
    about = item.get("image")
    about = about if isinstance(about, dict) else {}
    image = gathered.find(about.get("path") or item.get("id"), where)
    entries = item.get("annotations", [])
    if not isinstance(entries, list):
        gathered.field_invalid(where, "annotations")
        return
    if image is None:
        return
    shapes: list[Shape] = []
    labels: list[str] = []
    unusable = 0
    for entry in entries:
        number = entry.get("label_id") if isinstance(entry, dict) else None
        name = names[number] if type(number) is int and 0 <= number < len(names) else ""
        if not isinstance(entry, dict) or entry.get("type") not in _KNOWN:
            gathered.shape_not_read(where, entry.get("type") if isinstance(entry, dict) else "", _KNOWN)
            unusable += 1
        elif not name:
            message = annotation_messages.NO_CATEGORY(where=where.param(), id=str(entry.get("label_id"))[:40])
            gathered.fault(where, message, "unknown_class")
            unusable += 1
        elif entry["type"] == "label":
            labels.append(name)
        elif shape := _shape(entry, name, where, gathered):
            shapes.append(shape)
        else:
            unusable += 1
    size = about.get("size")
    height, width = map(whole, size) if isinstance(size, list) and len(size) == 2 else (0, 0)
    declared = (width, height) if width and height else (0, 0)
    gathered.add(image, where, shapes, labels=labels, size=declared, unusable=unusable)


def _shape(entry: dict[str, object], name: str, where: Position, gathered: Gathered) -> Shape | None:
    """The object; None, with a fault, if its numbers cannot be used."""
    if entry["type"] == "mask":
        if (rle := _rle(entry.get("rle"))) is None:
            gathered.field_invalid(where, "rle")
            return None
        return gathered.shape(name, where, rle=rle)
    key = "bbox" if entry["type"] == "bbox" else "points"
    found = numbers(entry.get(key))
    if found is None or (len(found) != 4 if key == "bbox" else len(found) < 6 or len(found) % 2):
        gathered.field_invalid(where, key)
        return None
    if key == "points":
        return gathered.shape(name, where, None, (array("f", found),))
    return gathered.shape(name, where, (found[0], found[1], found[0] + found[2], found[1] + found[3]))


def _rle(value: object) -> Rle | None:
    if not isinstance(value, dict):
        return None
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(whole, size)) or not isinstance(counts, str):
        return None
    return Rle(whole(size[0]), whole(size[1]), counts)
