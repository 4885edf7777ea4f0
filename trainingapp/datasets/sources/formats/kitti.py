"""KITTI object detection: one text file per image with 15 values per line.

training/image_2/*.png  training/label_2/*.txt

A line is type, truncation, occlusion, angle, left, top, right, bottom and seven 3D values; results also have a score.
DontCare marks regions that are not evaluated: https://www.cvlibs.net/datasets/kitti/eval_object.php
"""

import re

from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import MOST_RECOGNISED, Files, best_match, stem
from trainingapp.datasets.sources.formats.gathered import Gathered, in_order, number
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "kitti"
_LINE = re.compile(rb"[A-Za-z]\S*( -?[\d.]+(e-?\d+)?){14,15}\s*")
_DONT_CARE = "dontcare"
_LABEL_FOLDER = re.compile(r"(?i)(^|/)labels?(_\d)?(?=/|$)")


def recognise(files: Files) -> bool:
    """Whether text files with the stem of an image have lines with a type and 14 numbers."""
    found = _text_files(files)[:MOST_RECOGNISED]
    lines = [line for file in found for line in files.peek(file).splitlines()[:20] if line.strip()]
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def _text_files(files: Files) -> list[SourceFile]:
    return [file for file in files.ending(".txt") if files.with_stem(stem(file.path))]


def read(files: Files, report: Report) -> Layout:
    """Read every text file. Classes are ordered by name."""
    sources = _text_files(files)
    gathered = Gathered(NAME, files, report, sources)
    for file in sources:
        folder = file.path.rpartition("/")[0]
        same = files.with_stem(stem(file.path))
        # label_2 belongs to image_2 (left camera), not to image_3.
        beside = _LABEL_FOLDER.sub(lambda match: f"{match[1]}image{match[2] or 's'}", folder)
        image = best_match([one for one in same if one.path.rpartition("/")[0] == beside], beside)
        image = image or best_match(same, folder, files.kind_of(file.path))
        if image is None:
            gathered.no_image_for(file)
            continue
        with report.leaving_out():
            shapes, unusable = _shapes(files.read_text(file), file.path, gathered)
            gathered.add(image, Position(file.path), shapes, unusable=unusable)
    return gathered.layout()


def _shapes(text: str, path: str, gathered: Gathered) -> tuple[list[Shape], int]:
    """(objects, number of unusable lines)"""
    shapes: list[Shape] = []
    unusable = 0
    for line, content in enumerate(text.splitlines(), start=1):
        where, parts = Position(path, line), content.split()
        if not parts:
            continue
        corners = [value for value in map(number, parts[4:8]) if value is not None]
        # Control characters indicate a damaged file; they are not part of a name.
        if len(parts) not in (15, 16) or len(corners) != 4 or not parts[0].isprintable():
            message = messages.NOT_KITTI(where=where.param(), text=content[:60])
            gathered.fault(where, message)
            unusable += 1
        elif parts[0].lower() == _DONT_CARE:
            gathered.count(messages.DONT_CARE_REGIONS, where)
        else:
            left, top, right, bottom = corners
            shapes.append(gathered.shape(parts[0], where, in_order(left, top, right, bottom)))
    return shapes, unusable
