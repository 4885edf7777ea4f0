"""Hugging Face imagefolder: metadata.jsonl with one line per image.

train/metadata.jsonl  train/*.jpg  test/metadata.jsonl  test/*.jpg

{"file_name": "a.jpg", "label": "cat"}, or "objects": {"bbox": [[left, top, width, height]], "categories": [0]}. A list
of labels means several labels per image. metadata.csv with such columns is read as a CSV label list.
https://huggingface.co/docs/datasets/image_dataset
"""

import json
from collections.abc import Iterator

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import Files, kind_of_name
from trainingapp.datasets.sources.formats.collector import numbers
from trainingapp.datasets.sources.formats.gathered import Gathered
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "imagefolder"
_FILE_KEYS = ("file_name", "file", "image")
_LABEL_KEYS = ("label", "labels", "class", "category", "target", "class_name", "label_name")
_CATEGORY_KEYS = ("categories", "category", "labels", "label", "category_id")
_MOST_LINE = 4 * 1024**2


def recognise(files: Files) -> bool:
    """Whether the source has a metadata.jsonl."""
    return bool(_metadata(files))


def _metadata(files: Files) -> list[SourceFile]:
    found = files.ending("metadata.jsonl")
    return [file for file in found if b'"file_name"' in files.peek(file) and file.path.lower().endswith(".jsonl")]


def read(files: Files, report: Report) -> Layout:
    """Read every file. Classes are ordered by name; numbers are used as names."""
    sources = _metadata(files)
    gathered = Gathered(NAME, files, report, sources)
    for file in sources:
        with report.collecting():
            for where, entry in _entries(files.read_text(file), file.path):
                _add(entry, where, gathered)
    return gathered.layout()


def _entries(text: str, path: str) -> Iterator[tuple[Position, object]]:
    """Yield (where, value) for each line. Raises DatasetError for a line that is not valid JSON."""
    start, line = 0, 0
    while start < len(text):
        line += 1
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        where = Position(path, line)
        if end - start > _MOST_LINE:
            message = annotation_messages.VALUE_TOO_LARGE(most=_MOST_LINE >> 20)
            raise _broken(where, message)
        content = text[start:end].strip()
        start = end + 1
        if content:
            try:
                yield where, json.loads(content)
            except json.JSONDecodeError as error:
                raise _broken(where, library_reason(error.msg)) from None
            except (ValueError, RecursionError) as error:
                raise _broken(where, reason(error)) from None


def _broken(where: Position, why: Param) -> DatasetError:
    message = annotation_messages.INVALID_JSON(where=where.param(), reason=why)
    return DatasetError.one("annotations_broken", message, where.path)


def _add(entry: object, where: Position, gathered: Gathered) -> None:
    if not isinstance(entry, dict):
        gathered.field_invalid(where, "file_name")
        return
    image = gathered.find(next((entry[key] for key in _FILE_KEYS if key in entry), None), where)
    kind = kind_of_name(entry["split"]) if isinstance(entry.get("split"), str) else None
    key = next((key for key in _LABEL_KEYS if key in entry), "")
    if "objects" in entry:
        shapes, unusable = _objects(entry["objects"], where, gathered)
        if image is not None:
            gathered.add(image, where, shapes, unusable=unusable, kind=kind)
        return
    if not key:
        message = messages.NO_LABEL_IN_METADATA(where=where.param(), fields=list(map(str, entry))[:8])
        gathered.fault(where, message)
        return
    labels = entry[key] if isinstance(entry[key], list) else [entry[key]]
    if any(type(label) not in (int, str) or label == "" for label in labels):
        gathered.field_invalid(where, key)
    elif image is not None:
        gathered.add(image, where, labels=map(str, labels), kind=kind)


def _objects(value: object, where: Position, gathered: Gathered) -> tuple[list[Shape], int]:
    """(objects, number of unusable objects)"""
    boxes: object
    classes: object
    if isinstance(value, list):  # one JSON object per annotated object
        entries = [one for one in value if isinstance(one, dict)]
        boxes = [one.get("bbox") for one in entries]
        classes = [next((one[key] for key in _CATEGORY_KEYS if key in one), None) for one in entries]
    elif isinstance(value, dict):
        boxes = value.get("bbox", value.get("bboxes", []))
        classes = next((value[key] for key in _CATEGORY_KEYS if key in value), [])
    else:
        boxes = classes = None
    if not isinstance(boxes, list) or not isinstance(classes, list) or len(boxes) != len(classes):
        gathered.field_invalid(where, "objects")
        return [], 1
    shapes: list[Shape] = []
    for box, label in zip(boxes, classes, strict=True):
        corners = numbers(box)
        if corners is None or len(corners) != 4:
            gathered.field_invalid(where, "bbox")
        elif type(label) not in (int, str) or label == "":
            gathered.field_invalid(where, "categories")
        else:
            left, top, width, height = corners
            shapes.append(gathered.shape(label, where, (left, top, left + width, top + height)))
    return shapes, len(boxes) - len(shapes)
