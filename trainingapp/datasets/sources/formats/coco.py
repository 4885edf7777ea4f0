"""COCO JSON: boxes, polygons and run-length masks of objects, one file per split.

annotations/instances_train2017.json  train2017/*.jpg      original layout
train/_annotations.coco.json  train/*.jpg                  Roboflow export
annotations.json  images/*.jpg                             without splits

If no annotation has a box or an outline, annotations are labels of whole images, one or several per image.

https://cocodataset.org/#format-data
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from django.conf import settings

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.dataset_reading import (
    IMAGES_WITH_SEVERAL_CATEGORIES,
    ONE_LABEL_EACH,
    SPLIT_FROM_ANNOTATION_FILES,
)
from trainingapp.contract.messages.dataset_sources import CONVERT_ANNOTATIONS, FAMILY_NOT_READ
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, class_name, kind_of_name
from trainingapp.datasets.sources.formats.collector import Collector, numbers, object_layout, whole
from trainingapp.datasets.sources.formats.label_lists import offer_label_mode
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Kind, Layout, Rle, Shape, SourceImage, labels_of
from trainingapp.datasets.sources.packed_shapes import OutlineStore, PackedShapes
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "coco"
MOST_FILES_NAMED = 6
_NAMES = ("_annotations.coco.json",)
Id = int | str
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_NAME_KEYS = ("file_name", "filename", "name", "path", "coco_url", "url", "flickr_url")
"""Where an image names its file; the first is that of the format."""
_WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0+)?")
MOST_NAMED = 3


@dataclass
class _Content:
    """The content of one file. Objects are stored in compact form, since there can be millions."""

    path: str
    images: dict[Id, tuple[str, int, int, int]] = field(default_factory=dict)
    """(file name, width, height, line) by id"""
    names: dict[Id, str] = field(default_factory=dict)
    """Class name by category id."""
    parents: dict[Id, str] = field(default_factory=dict)
    """Supercategory by category id."""
    objects: dict[Id, PackedShapes] = field(default_factory=dict)
    """The objects by image id; their labels are indices of `categories` until `_label_objects`."""
    categories: dict[Id, int] = field(default_factory=dict)
    """The category ids of the objects, numbered as they came."""
    outlines: OutlineStore = field(default_factory=lambda: OutlineStore(Path(settings.DATA_DIR)))
    unusable: Counter[Id] = field(default_factory=Counter)
    """Objects that cannot be used, by image id."""
    keypoints: int = 0
    """Objects with key points."""


def recognise(files: Files) -> bool:
    """Whether a JSON file has the structure of COCO."""
    return bool(_annotation_files(files))


def _annotation_files(files: Files) -> list[SourceFile]:
    found = [file for file in files.ending(".json") if _may_be_coco(files, file)]
    instances = [file for file in found if file.path.rpartition("/")[2].startswith("instances")]
    if instances:
        return instances
    # Captions are sentences about images and have no categories; panoptic objects are stored in separate images.
    categorised = [
        file for file in found for content in [files.peek(file)] if b'"caption"' not in content or _KEYS[2] in content
    ]
    return [file for file in categorised if not _is_panoptic(files, file)] or categorised


def _is_panoptic(files: Files, file: SourceFile) -> bool:
    return b'"segments_info"' in files.peek(file)


def _may_be_coco(files: Files, file: SourceFile) -> bool:
    name = file.path.lower()
    is_named = name.endswith(_NAMES) or name.rpartition("/")[2].startswith("instances")
    return is_named or sum(key in files.peek(file) for key in _KEYS) >= 2


def read(files: Files, report: Report) -> Layout:
    """Read every annotation file. Classes are in the order of the first file that names them."""
    collector = Collector(files, report)
    label_of: dict[str, int] = {}
    sources = _annotation_files(files)
    has_keypoints = False
    for file in sources:
        if _is_panoptic(files, file):
            message = FAMILY_NOT_READ(path=file.path, family="COCO Panoptic", advice=CONVERT_ANNOTATIONS())
            raise DatasetError.one("unread_annotations", message, file.path)
        try:
            content = _parse(files.text_pieces(file), file.path, report)
        except DatasetError as error:
            report.errors(error)
            continue
        has_keypoints |= content.keypoints > 0
        if content.keypoints:
            message = messages.COCO_KEYPOINTS(count=content.keypoints, path=file.path)
            report.warn("columns_ignored", message, file.path, count=content.keypoints)
        if not content.objects and kind_of_name(file.path.rpartition("/")[2]) == "test":
            message = messages.TEST_NOT_ANNOTATED(count=len(content.images), path=file.path)
            report.warn("test_left_out", message, file.path, count=len(content.images))
            continue
        _collect(content, file.path, collector, label_of)
    collector.warn_of_merged()
    paths = [file.path for file in sources]
    named = [path for path in paths if kind_of_name(path.rpartition("/")[2])]
    origin = SPLIT_FROM_ANNOTATION_FILES(paths=named[:MOST_FILES_NAMED]) if named else None
    # Most files have a box in their first annotation, so few shapes are examined.
    has_objects = has_keypoints or any(shape.has_place for shape in collector.shapes())
    if not has_objects and any(True for _shape in collector.shapes()):
        return _label_layout(collector, list(label_of), paths, origin)
    collector.keep_placed(_report_without_place)
    return object_layout(NAME, collector, list(label_of), paths, report, split_origin=origin)


def _report_without_place(shape: Shape, report: Report) -> None:
    fault = messages.BOX_AND_OUTLINE_MISSING()
    message = messages.INVALID_ENTRY_OF_LIST(where=shape.where.param(), key="annotations", fault=fault)
    report.fault("bad_annotation", message, shape.where.path)


def _label_layout(collector: Collector, classes: list[str], paths: list[str], origin: Message | None) -> Layout:
    """The layout of a source whose annotations are labels of whole images."""
    files, report = collector.files, collector.report
    images = [replace(image, labels=tuple(sorted(labels_of(image.shapes))), shapes=()) for image in collector.images()]
    several = sum(len(image.labels) > 1 for image in images)
    mode = files.reading.label_mode
    is_single = mode == "single" or (mode == "auto" and not several)
    reason = IMAGES_WITH_SEVERAL_CATEGORIES(count=several) if several else ONE_LABEL_EACH()
    offer_label_mode(files, "single" if is_single else "multi", reason)
    collector.warn_of_others()
    if is_single:
        images = list(_with_one_label(images, report))
    return Layout(NAME, ["labels"] if is_single else ["multi_labels"], classes, images, paths, origin)


def _with_one_label(images: list[SourceImage], report: Report) -> Iterator[SourceImage]:
    """Images with their label. Several labels are a fault; images without a label are left out with a warning."""
    bare = [image.file.path for image in images if not image.labels]
    if bare:
        report.warn("not_annotated", messages.NOT_ANNOTATED(count=len(bare)), bare[0], count=len(bare))
    for image in images:
        if len(image.labels) > 1:
            where, count = image.where.param(), len(image.labels)
            message = messages.NOT_ONE_LABEL(where=where, path=image.file.path, count=count)
            report.fault("several_labels", message, image.where.path)
        elif image.labels:
            yield replace(image, label=image.labels[0], labels=())


def _parse(text: Iterable[str], path: str, report: Report) -> _Content:
    content = _Content(path)
    readers = {"images": _read_image, "categories": _read_category, "annotations": _read_object}
    for key, line, value in members(text, path):
        if reader := readers.get(key):
            where = Position(path, line)
            fault = reader(value, where, content) if isinstance(value, dict) else messages.NOT_AN_OBJECT()
            if fault:
                message = messages.INVALID_ENTRY_OF_LIST(where=where.param(), key=key, fault=fault)
                report.fault("bad_annotation", message, path)
                if (
                    key == "annotations"
                    and isinstance(value, dict)
                    and (image := _id(value.get("image_id"))) is not None
                ):
                    content.unusable[image] += 1
    return content


# Each reader returns the fault that makes an entry unusable, or None.


def _read_image(value: dict[str, object], where: Position, content: _Content) -> Message | None:
    number = _id(value.get("id"))
    name = next((str(value[key]) for key in _NAME_KEYS if isinstance(value.get(key), str | int) and value[key]), "")
    if number is None or not name:
        return messages.IMAGE_NEEDS_ID_AND_NAME()
    if number in content.images:
        return None if content.images[number][0] == name else messages.IMAGE_ID_TWICE(id=number)
    content.images[number] = (name, whole(value.get("width")), whole(value.get("height")), where.line)
    return None


def _read_category(value: dict[str, object], where: Position, content: _Content) -> Message | None:
    number, name = _id(value.get("id")), class_name("" if value.get("name") is None else value["name"])
    if number is None or not name:
        return messages.CATEGORY_NEEDS_ID_AND_NAME()
    if content.names.get(number, name) != name:
        return messages.CATEGORY_ID_TWICE(id=number)
    content.names[number] = name
    content.parents[number] = class_name(value.get("supercategory") or "")
    return None


def _id(value: object) -> Id | None:
    """An id converted to one type, since programs write 1, 1.0 or "1", some of them mixed; None if it is not an id."""
    if type(value) is int:  # True is an int to isinstance()
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else text or None


def _read_object(value: dict[str, object], where: Position, content: _Content) -> Message | None:
    image, category = _id(value.get("image_id")), _id(value.get("category_id"))
    if image is None or category is None:
        return messages.ANNOTATION_NEEDS_IDS()
    box = value.get("bbox")
    bounds = numbers(box) if box else None
    if box and (bounds is None or len(bounds) != 4):
        return messages.BBOX_INVALID(text=str(box)[:60])
    polygons, rle = _outline(value.get("segmentation"))
    if polygons is None:
        return messages.SEGMENTATION_INVALID()
    corners = (bounds[0], bounds[1], bounds[0] + bounds[2], bounds[1] + bounds[3]) if bounds else None
    if corners and not all(map(math.isfinite, corners)):
        return messages.BBOX_TOO_LARGE()
    content.keypoints += bool(value.get("keypoints"))
    objects = content.objects.get(image)
    if objects is None:
        objects = content.objects[image] = PackedShapes(where.path, content.outlines, [])
    number = content.categories.setdefault(category, len(content.categories))
    objects.add(number, where.line, corners, polygons, rle, crowd=value.get("iscrowd") in (1, "1"))
    return None


def _outline(value: object) -> tuple[tuple["array[float]", ...] | None, Rle | None]:
    """(polygons, run lengths); polygons is None if the value is neither."""
    if not value:
        return (), None
    if isinstance(value, dict):
        rle = _rle(value)
        return (() if rle else None), rle
    if not isinstance(value, list):
        return None, None
    polygons = [numbers(polygon) for polygon in _nested(value) if polygon]
    if any(polygon is None or len(polygon) % 2 for polygon in polygons):
        return None, None
    return tuple(array("f", polygon) for polygon in polygons if polygon and len(polygon) >= 6), None


def _nested(value: list[object]) -> list[object]:
    """A list of polygons, each x, y, x, y, ... Also accepts a single flat polygon and points as pairs."""
    if not isinstance(value[0], list):
        return [value]
    if len(value) > 2 and _has_pairs(value):
        return [_flat(value)]
    return [_flat(polygon) if isinstance(polygon, list) and _has_pairs(polygon) else polygon for polygon in value]


def _has_pairs(polygon: list[object]) -> bool:
    return all(isinstance(point, list) and len(point) == 2 for point in polygon)


def _flat(points: list[object]) -> list[object]:
    return [number for point in points if isinstance(point, list) for number in point]


def _rle(value: dict[str, object]) -> Rle | None:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(whole, size)):
        return None
    if isinstance(counts, str):
        if counts[:2] in ("b'", 'b"'):  # the text form of Python bytes
            counts = counts[2:-1].replace("\\\\", "\\")
        return Rle(whole(size[0]), whole(size[1]), counts)
    runs = numbers(counts)
    if runs is None or any(run < 0 or not run.is_integer() or run > 1 << 48 for run in runs):
        return None
    return Rle(whole(size[0]), whole(size[1]), array("q", map(int, runs)))


def _collect(content: _Content, path: str, collector: Collector, label_of: dict[str, int]) -> None:
    for number, name in content.names.items():
        # Roboflow exports list the dataset itself as a category.
        if number in content.categories or name not in content.parents.values():
            label_of.setdefault(name, len(label_of))
    _label_objects(content, collector.report, label_of)
    name_kind: Kind | None = kind_of_name(path.rpartition("/")[2]) or collector.files.kind_of(path)
    folder = path.rpartition("/")[0]
    for number, (name, width, height, line) in content.images.items():
        where = Position(path, line)
        file = collector.files.find_image(name, folder, name_kind)
        if file is None:
            collector.report.fault("missing_image", messages.NO_IMAGE_NAMED(where=where.param(), path=name[:200]), path)
        else:
            kind = name_kind or collector.files.kind_of(file.path)
            size = (width, height) if width and height else (0, 0)
            unusable, objects = content.unusable[number], content.objects.get(number, ())
            collector.add_or_merge(file, where, kind=kind, shapes=objects, size=size, unusable=unusable)


def _label_objects(content: _Content, report: Report, label_of: dict[str, int]) -> None:
    """Assign labels to the objects; an unknown category or image is a fault."""
    unknown = [category for category in content.categories if category not in content.names]
    labels = [label_of[content.names[category]] if category in content.names else -1 for category in content.categories]
    ids = list(content.categories)
    for image, objects in content.objects.items():
        if unknown or image not in content.images:
            objects.labels = list(range(len(ids)))
            for shape in objects:
                where = shape.where.param()
                if labels[shape.label] < 0:
                    message = messages.NO_CATEGORY(where=where, id=ids[shape.label])
                    report.fault("unknown_class", message, content.path)
                    content.unusable[image] += 1
                elif image not in content.images:
                    report.fault("unknown_image", messages.NO_IMAGE_WITH_ID(where=where, id=image), content.path)
            content.objects[image] = objects.relabelled(labels)
        else:
            objects.labels = labels
