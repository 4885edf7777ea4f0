"""Label Studio: JSON, JSON-MIN and CSV exports.

project-1.json  images/*.jpg        one task per image, with its annotations
export.json, export.csv             one value per control (JSON-MIN and CSV)

Rectangles, polygons, ellipses and brush masks become objects; choices become image classes if there are no objects.
Coordinates are percentages of the image size: https://labelstud.io/guide/export
"""

import json
import re
from array import array
from collections.abc import Iterator

from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, is_image_name, tidy_path
from trainingapp.datasets.sources.formats.collector import whole
from trainingapp.datasets.sources.formats.gathered import (
    Corners,
    Gathered,
    ellipse,
    ellipse_box,
    number,
    polygon,
    turned_box,
    values,
)
from trainingapp.datasets.sources.formats.run_lengths import brush_alpha, of_crop
from trainingapp.datasets.sources.formats.tables import header_of, rows
from trainingapp.datasets.sources.json_stream import elements
from trainingapp.datasets.sources.layout import Layout, Rle, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "label_studio"
_REGIONS = {
    "rectanglelabels": "rectangle",
    "polygonlabels": "polygon",
    "ellipselabels": "ellipse",
    "brushlabels": "brush",
    "labels": "",
}
"""The form of an object by the type of its result. The control Labels gives classes to objects of any form."""
_FORMS = ("rectangle", "polygon", "ellipse", "brush")
"""Types of objects without a class: it is in another result of the same id, or missing."""
_UNUSABLE = {"keypointlabels", "keypoint", "videorectangle"}
_MARKS = re.compile(
    rb'"(rectanglelabels|polygonlabels|ellipselabels|brushlabels|keypointlabels|from_name|annotation_id)"'
)
_ABOUT_ANNOTATION = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "file_upload", "project"),
}
_LABEL_KEYS = {"choice", "choices", "label", "class", "category", "classification"}
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio adds it to the names of uploaded files."""
_MOST_CELL = 4 * 1024**2


def recognise(files: Files) -> bool:
    """Whether a JSON or CSV file was exported by Label Studio."""
    tables = any(_is_table(files, file) for file in files.first_ending(".csv"))
    return tables or any(_is_json(files, file) for file in files.first_ending(".json"))


def _is_json(files: Files, file: SourceFile) -> bool:
    content = files.peek(file)
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and bool(_MARKS.search(content))


def _is_table(files: Files, file: SourceFile) -> bool:
    header = header_of(files.peek(file))
    return "annotation_id" in header or {"annotator", "lead_time"} <= set(header)


def read(files: Files, report: Report) -> Layout:
    """Read every export. Classes are ordered by name. Of several annotations of one image, only one is used."""
    exports = [file for file in files.ending(".json") if _is_json(files, file)]
    tables = [file for file in files.ending(".csv") if _is_table(files, file)]
    gathered = Gathered(NAME, files, report, [*exports, *tables])
    reader = _Reader(gathered)
    for file in exports:
        with report.collecting():
            for line, value in elements(files.text_pieces(file), file.path):
                reader.task(value, Position(file.path, line))
    for file in tables:
        with report.collecting():
            for where, row in rows(files.read_text(file), file.path):
                reader.minimal({key: _cell(value) for key, value in row.items()}, where)
    return gathered.layout()


def _cell(value: str) -> object:
    """The parsed list or object if the text is JSON of one; else the text."""
    if value[:1] in ("[", "{") and len(value) <= _MOST_CELL:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


class _Reader:
    """Adds tasks; `_seen` are the images that already have an annotation."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered
        self._seen: set[str] = set()

    def task(self, value: object, where: Position) -> None:
        """Add a task of a full export, or an entry of JSON-MIN."""
        if not isinstance(value, dict):
            self._gathered.field_invalid(where, "data")
        elif not isinstance(data := value.get("data"), dict):
            self.minimal(value, where)
        elif image := self._image(data, where):
            annotations = value.get("annotations", value.get("completions"))  # name before version 1.0
            finished = [one for one in _objects(annotations) if not one.get("was_cancelled")]
            if not finished:
                # Not labeled yet, or skipped: this does not mean that the image has no objects.
                self._gathered.leave_out(image, messages.UNFINISHED_TASKS, where)
                return
            if len(finished) > 1:
                self._gathered.count(messages.SECOND_ANNOTATIONS, where)
            self._add(image, list(_objects(finished[0].get("result"))), [], where)

    def minimal(self, entry: dict[str, object], where: Position) -> None:
        """Add an entry whose keys are control names."""
        image = self._image(entry, where)
        if image is None:
            return
        regions: list[dict[str, object]] = []
        labels: list[str] = []
        for key, value in entry.items():
            if key in _ABOUT_ANNOTATION:
                continue
            if isinstance(value, dict) and isinstance(value.get("choices"), list):
                labels += [one for one in value["choices"] if isinstance(one, str)]
            elif isinstance(value, str) and key.lower() in _LABEL_KEYS and value:
                labels.append(value)
            for one in _objects(value):
                kind = next((known for known in (*_REGIONS, *_UNUSABLE) if known in one), "")
                if kind:
                    regions.append({**one, "type": kind, "value": one})
        self._add(image, regions, labels, where)

    def _image(self, data: dict[str, object], where: Position) -> SourceFile | None:
        """The image of a task: from the field image, or from another field that names an image."""
        texts = [data.get("image"), data.get("img"), *data.values()]
        names = [text for text in texts if isinstance(text, str)]
        name = next((text for text in names if is_image_name(text.partition("?")[0]) or "?d=" in text), None)
        if name is None:
            self._gathered.field_invalid(where, "image")
            return None
        last = tidy_path(name).rpartition("/")[2]
        plain = _UPLOAD_PREFIX.sub("", last)
        files = self._gathered.files
        near = where.path.rpartition("/")[0]
        if plain != last and files.find_image(name, near) is None and (found := files.find_image(plain, near)):
            return found
        return self._gathered.find(name, where)

    def _add(self, image: SourceFile, results: list[dict[str, object]], labels: list[str], where: Position) -> None:
        if image.path in self._seen:  # JSON-MIN and CSV have one entry per annotation
            self._gathered.count(messages.SECOND_ANNOTATIONS, where)
            return
        self._seen.add(image.path)
        shapes: list[Shape] = []
        unusable = 0
        labelled = {result.get("id") for result in results if result.get("type") == "labels"}
        for result in results:
            kind = str(result.get("type"))
            value = result.get("value")
            if kind == "choices":
                found = value.get("choices") if isinstance(value, dict) else None
                labels += [one for one in found or [] if isinstance(one, str)] if isinstance(found, list) else []
            elif kind in _FORMS and result.get("id") in labelled:
                continue
            elif (kind in _REGIONS or kind in _FORMS) and isinstance(value, dict):
                shape = self._shape(kind, value, result, where)
                shapes += [shape] if shape else []
                unusable += shape is None
            elif kind in _UNUSABLE:
                unusable += 1
                self._gathered.shape_not_read(where, kind, [*_REGIONS, "choices"])
        self._gathered.add(image, where, shapes, labels=labels, unusable=unusable)

    def _shape(self, kind: str, value: dict[str, object], result: dict[str, object], where: Position) -> Shape | None:
        names = value.get(kind) if kind in _REGIONS else [""]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self._gathered.field_invalid(where, kind)
            return None
        if len(names) > 1:
            self._gathered.fault(where, messages.CLASSES_SEVERAL(where=where.param(), names=names[:5]), "unknown_class")
            return None
        if number(result.get("image_rotation", 0)):
            self._gathered.field_invalid(where, "image_rotation")
            return None
        form = _form(kind, value)
        if form == "brush":
            if rle := _brush(value, result):
                return self._gathered.shape(names[0], where, rle=rle)
            self._gathered.field_invalid(where, "rle")
            return None
        if (found := _outline(form, value, result)) is None:
            self._gathered.field_invalid(where, "value")
            return None
        box, outline = found
        if form == "rectangle" and number(value.get("rotation")):
            self._gathered.count(messages.ROTATED_BOXES, where)
        return self._gathered.shape(names[0], where, box, (outline,) if outline else (), relative=True)


def _objects(value: object) -> Iterator[dict[str, object]]:
    """The JSON objects in a list; empty for any other value."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def _form(kind: str, value: dict[str, object]) -> str:
    """The form of an object, by its type or, if that does not name it, by the fields of its value."""
    if form := _REGIONS.get(kind, kind):
        return form
    keys = {"rle": "brush", "points": "polygon", "radiusX": "ellipse"}
    return next((form for key, form in keys.items() if key in value), "rectangle")


def _brush(value: dict[str, object], result: dict[str, object]) -> Rle | None:
    size, packed = values(result, "original_width", "original_height"), value.get("rle")
    if size is None or not all(map(whole, size)) or not isinstance(packed, list):
        return None
    width, height = map(whole, size)
    mask_HW = brush_alpha(packed, width, height)
    return of_crop(mask_HW, 0, 0, (width, height)) if mask_HW is not None else None


def _outline(
    form: str, value: dict[str, object], result: dict[str, object]
) -> "tuple[Corners | None, array[float] | None] | None":
    """(box, polygon), normalized to the image size; None if a number is missing.

    Rotations are applied in pixels and need the image size; without it a square is assumed.
    """
    if form == "polygon":
        outline = polygon(value.get("points"))
        return (None, array("f", (one / 100 for one in outline))) if outline else None
    size = values(result, "original_width", "original_height")
    width, height = size if size and min(size) > 0 else (1.0, 1.0)
    degrees = number(value.get("rotation", 0)) or 0.0
    if form == "rectangle":
        if (found := values(value, "x", "y", "width", "height")) is None:
            return None
        left, top, right, bottom = found[0], found[1], found[0] + found[2], found[1] + found[3]
        box = (left * width / 100, top * height / 100, right * width / 100, bottom * height / 100)
        turned = turned_box(box, degrees, (box[0], box[1])) if degrees else box
        return (turned[0] / width, turned[1] / height, turned[2] / width, turned[3] / height), None
    found = values(value, "x", "y", "radiusX", "radiusY")
    if found is None or min(found[2:]) <= 0:
        return None
    x, y, x_radius, y_radius = (share / 100 * side for share, side in zip(found, (width, height) * 2, strict=True))
    left, top, right, bottom = ellipse_box(x, y, x_radius, y_radius, degrees)
    outline = ellipse(x, y, x_radius, y_radius, degrees)
    shares = array("f", (one / (height if place % 2 else width) for place, one in enumerate(outline)))
    return (left / width, top / height, right / width, bottom / height), shares
