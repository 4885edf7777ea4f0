"""The scenes that `manage.py demo` draws: annotations.json, images/ and masks/, with annotations of all three kinds.

A mask holds 0 for the background and i + 1 for object i of its image.
"""

from typing import Any

from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import SourceFile
from trainingapp.datasets.sources.files import Files, class_name, kind_of_path
from trainingapp.datasets.sources.formats.collector import Collector, numbers
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import BACKGROUND, Layout, MaskCoding, MaskFile, Shape

NAME = "scenes"
ANNOTATIONS_FILE = "annotations.json"


def recognise(files: Files) -> bool:
    """Whether annotations.json is of this kind."""
    return any(b'"boxes_xyxy"' in files.peek(file) for file in _annotation_files(files))


def _annotation_files(files: Files) -> list[SourceFile]:
    return [file for file in files.ending(ANNOTATIONS_FILE) if file.path.rpartition("/")[2] == ANNOTATIONS_FILE][:1]


def read(files: Files, report: Report) -> Layout:
    """Read the annotations; the large object gives an image its class."""
    (file,) = _annotation_files(files)
    collector = Collector(files, report)
    classes: list[str] = []
    records: list[tuple[int, Any]] = []
    for key, line, value in members(files.read_text(file), file.path):
        if key == "classes":
            classes.append(class_name(value))
        elif key in ("images", "pictures"):  # "pictures" in scenes that version 0.1 drew
            records.append((line, value))
    if not all(classes) or len(set(classes)) < len(classes):
        raise DatasetError.one("bad_annotation", f"{file.path}: the classes need names, each another one.", file.path)
    for line, record in records:
        where = f"{file.path} line {line}"
        if fault := _add(record, where, file, len(classes), collector):
            report.fault(fault[0], f"{where}: {fault[1]}.", file.path)
    images = collector.images()
    return Layout(NAME, ["boxes", "masks", "labels"], classes, images, [file.path])


def _add(
    record: Any, where: str, annotations: SourceFile, class_count: int, collector: Collector
) -> tuple[str, str] | None:
    """Take an image; returns code and reason when it cannot be taken."""
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("path", "mask")):
        return "bad_annotation", "an image needs a path and a mask"
    labels, boxes = record.get("labels"), record.get("boxes_xyxy")
    if not isinstance(labels, list) or not isinstance(boxes, list) or len(labels) != len(boxes) or not labels:
        return "bad_annotation", "an image needs as many labels as boxes, and at least one"
    if not all(type(label) is int and 0 <= label < class_count for label in labels):
        return "unknown_class", "a label is no number of a class"
    corners = [numbers(box) for box in boxes]
    if any(box is None or len(box) != 4 for box in corners):
        return "bad_annotation", "a box must be four numbers"
    folder = annotations.path.rpartition("/")[0]
    image, mask = (collector.files.find_image(record[key], folder) for key in ("path", "mask"))
    if image is None or mask is None:
        return "missing_image", f"there is no image {record['path' if image is None else 'mask'][:200]}"
    shapes = [
        Shape(label, where, (box[0], box[1], box[2], box[3])) for label, box in zip(labels, corners, strict=True) if box
    ]
    coding = MaskCoding.of({0: BACKGROUND} | dict(enumerate(labels, start=1)))
    kind = kind_of_path(image.path.removeprefix(folder))
    collector.add(
        image,
        where,
        kind=kind,
        label=labels[0],
        shapes=shapes,
        mask=MaskFile(mask, coding, tuple(sorted(set(labels)))),
    )
    return None
