"""VisDrone-DET: one text file per image with eight numbers per line.

VisDrone2019-DET-train/images/*.jpg  VisDrone2019-DET-train/annotations/*.txt  VisDrone2019-DET-val/...

A line is left, top, width, height, score, category, truncation, occlusion. Lines with the score 0 and the category 0,
"ignored regions", are not evaluated and left out. The categories are those of the toolkit's README:
https://github.com/VisDrone/VisDrone2018-DET-toolkit
"""

import re

from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import MOST_RECOGNISED, Files, best_match, stem
from trainingapp.datasets.sources.formats.gathered import Gathered, number
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "visdrone"
CATEGORIES = (
    *("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle"),
    *("bus", "motor", "others"),
)
_LINE = re.compile(rb"-?\d+,-?\d+,\d+,\d+,[01],\d{1,2},-?\d,-?\d,?\s*")


def recognise(files: Files) -> bool:
    """Whether text files in a folder `annotations` have eight numbers per line."""
    found = [file for file in _text_files(files)[:MOST_RECOGNISED] if files.with_stem(stem(file.path))]
    lines = [line for file in found for line in _first_lines(files, file)]
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def _text_files(files: Files) -> list[SourceFile]:
    """Label files in a folder `annotations`; a file with other lines and no image of the same name is not one."""
    return [
        file
        for file in files.ending(".txt")
        if "annotations" in file.path.lower().split("/")[:-1]
        and (files.with_stem(stem(file.path)) or not (lines := _first_lines(files, file)) or _LINE.fullmatch(lines[0]))
    ]


def _first_lines(files: Files, file: SourceFile) -> list[bytes]:
    return [line for line in files.peek(file).splitlines()[:20] if line.strip()]


def read(files: Files, report: Report) -> Layout:
    """Read every text file. Classes are those that occur, in category order."""
    sources = _text_files(files)
    gathered = Gathered(NAME, files, report, sources)
    for file in sources:
        beside = re.sub(r"(?i)(^|/)annotations$", r"\1images", file.path.rpartition("/")[0])
        image = best_match(files.with_stem(stem(file.path)), beside, files.kind_of(file.path))
        if image is None:
            gathered.no_image_for(file)
            continue
        with report.leaving_out():
            shapes, unusable = _shapes(files.read_text(file), file.path, gathered)
            gathered.add(image, Position(file.path), shapes, unusable=unusable)
    return gathered.layout(order=CATEGORIES)


def _shapes(text: str, path: str, gathered: Gathered) -> tuple[list[Shape], int]:
    """(objects, number of unusable lines)"""
    shapes: list[Shape] = []
    unusable = 0
    for line, content in enumerate(text.splitlines(), start=1):
        where = Position(path, line)
        parts = [part for part in content.strip().split(",") if part.strip()]
        if not parts:
            continue
        found = [value for value in map(number, parts) if value is not None]
        if len(parts) != 8 or len(found) != 8:
            message = messages.NOT_EIGHT_NUMBERS(where=where.param(), text=content[:60])
            gathered.fault(where, message)
            unusable += 1
            continue
        left, top, width, height, score, category = found[:6]
        if not category or not score:
            gathered.count(messages.IGNORED_REGIONS, where)
        elif category not in range(len(CATEGORIES)):
            message = annotation_messages.NO_CLASS(where=where.param(), text=parts[5][:20])
            gathered.fault(where, message, "unknown_class")
            unusable += 1
        else:
            shapes.append(gathered.shape(CATEGORIES[int(category)], where, (left, top, left + width, top + height)))
    return shapes, unusable
