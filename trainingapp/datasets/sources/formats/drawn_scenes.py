"""Scenes drawn by `manage.py demo`: annotations.json, images/ and masks/, for all built-in tasks.

The pixels of a mask are 0 for the background and i + 1 for object i of its image.
"""

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.tasks.descriptor import Annotation
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, class_name, kind_of_path
from trainingapp.datasets.sources.formats.collector import Collector, numbers
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import BACKGROUND, Layout, MaskCoding, MaskFile, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "scenes"
ANNOTATIONS_FILE = "annotations.json"
_ANNOTATIONS: tuple[Annotation, ...] = ("boxes", "masks", "labels", "outlines")
#: Keys of the list of images; version 0.1 used the second one.
_IMAGE_KEYS = ("images", "pictures")


def recognise(files: Files) -> bool:
    """Whether annotations.json contains boxes of drawn scenes."""
    return any(b'"boxes_xyxy"' in files.peek(file) for file in _annotation_files(files))


def _annotation_files(files: Files) -> list[SourceFile]:
    return [file for file in files.ending(ANNOTATIONS_FILE) if file.path.rpartition("/")[2] == ANNOTATIONS_FILE][:1]


def read(files: Files, report: Report) -> Layout:
    """Read the annotations. The class of an image is that of its large object."""
    collector = Collector(files, report)
    found = _annotation_files(files)
    if not found:  # the format was chosen in the review
        collector.warn_of_others()
        return Layout(NAME, list(_ANNOTATIONS), [], [])
    (file,) = found
    classes: list[str] = []
    records: list[tuple[int, object]] = []
    for key, line, value in members(files.read_text(file), file.path):
        if key == "classes":
            classes.append(class_name(value))
        elif key in _IMAGE_KEYS:
            records.append((line, value))
    if not all(classes) or len(set(classes)) < len(classes):
        message = messages.CLASS_NAMES_NOT_UNIQUE(path=file.path)
        raise DatasetError.one("bad_annotation", message, file.path)
    for line, record in records:
        where = Position(file.path, line)
        if problem := _add(record, where, file, len(classes), collector):
            code, fault = problem
            report.fault(code, messages.INVALID_ENTRY(where=where.param(), fault=fault), file.path)
    collector.warn_of_others()
    images = collector.images()
    return Layout(NAME, list(_ANNOTATIONS), classes, images, [file.path])


def _add(
    record: object, where: Position, annotations: SourceFile, class_count: int, collector: Collector
) -> tuple[str, Message] | None:
    """Add an image. Returns category and fault if it cannot be used, else None."""
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("path", "mask")):
        return "bad_annotation", messages.IMAGE_NEEDS_PATH_AND_MASK()
    labels, boxes = record.get("labels"), record.get("boxes_xyxy")
    if not isinstance(labels, list) or not isinstance(boxes, list) or len(labels) != len(boxes) or not labels:
        return "bad_annotation", messages.LABELS_AND_BOXES_DIFFER()
    if not all(type(label) is int and 0 <= label < class_count for label in labels):
        return "unknown_class", messages.LABEL_NOT_A_CLASS()
    corners = [numbers(box) for box in boxes]
    if any(box is None or len(box) != 4 for box in corners):
        return "bad_annotation", messages.BOX_INVALID()
    folder = annotations.path.rpartition("/")[0]
    image, mask = (collector.files.find_image(record[key], folder) for key in ("path", "mask"))
    if image is None or mask is None:
        missing = record["path" if image is None else "mask"]
        return "missing_image", messages.NO_SUCH_IMAGE(path=missing[:200])
    shapes = [
        Shape(label, where, (box[0], box[1], box[2], box[3]), mask_value=value)
        for value, (label, box) in enumerate(zip(labels, corners, strict=True), start=1)
        if box
    ]
    coding = MaskCoding.of({0: BACKGROUND} | dict(enumerate(labels, start=1)))
    kind = kind_of_path(image.path.removeprefix(folder))
    collector.add(
        image,
        where,
        kind=kind,
        label=labels[0],
        shapes=shapes,
        mask=MaskFile(mask, coding, tuple(sorted(set(labels))), has_objects=True),
    )
    return None
