"""CSV files with one run-length mask per line, as in Kaggle competitions.

ImageId,EncodedPixels                        one class; several lines for the objects of an image
ImageId,ClassId,EncodedPixels                one class per line (Severstal)
Image_Label,EncodedPixels                    class after the last _ of the name (a.jpg_Fish, a.jpg_3)
id,rle_mask    id,encoding                   other names of the columns
img,rle_mask   id,annotation,...,cell_type   runs along the rows (Carvana, Sartorius)

A mask is a list of pairs of start and length, counted from 1, in column-major order. An image without a mask has no
objects.
"""

import re
from dataclasses import dataclass, field

from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats.gathered import Gathered
from trainingapp.datasets.sources.formats.run_lengths import counts_of_pairs
from trainingapp.datasets.sources.formats.tables import header_of, rows
from trainingapp.datasets.sources.layout import Layout, Rle, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "csv_runs"
_IMAGE = ("imageid", "image_id", "image", "id", "img", "filename", "file_name")
_NAME_AND_CLASS = ("imageid_classid", "image_label", "image_class", "imageid_label")
_CLASS = ("classid", "class_id", "class", "label", "category", "cell_type")
_PIXELS = ("encodedpixels", "encoded_pixels", "rle_mask", "encoding", "rle", "annotation")
_BY_ROWS = {("img", "rle_mask"), ("id", "annotation")}
_RUNS = re.compile(r"\d+ \d+( \d+ \d+)*")
_LINES_PEEKED = 50


@dataclass(frozen=True)
class _Columns:
    """Column names; `label` is empty if there is no such column. `is_joined`: the class is part of the image name."""

    image: str
    label: str
    pixels: str
    is_joined: bool


@dataclass
class _Image:
    file: SourceFile
    where: Position
    shapes: list[Shape] = field(default_factory=list)
    unusable: int = 0


def recognise(files: Files) -> bool:
    """Whether a CSV file has an image column and a run-length column."""
    return bool(_tables(files))


def _tables(files: Files) -> list[tuple[SourceFile, _Columns]]:
    found = ((file, _columns(files.peek(file), file.path)) for file in files.ending(".csv"))
    return [(file, columns) for file, columns in found if columns and "submission" not in file.path.lower()]


def _columns(content: bytes, path: str) -> _Columns | None:
    header = header_of(content)
    pixels = next((name for name in _PIXELS if name in header), "")
    joined = next((name for name in _NAME_AND_CLASS if name in header), "")
    image = joined or next((name for name in _IMAGE if name in header), "")
    if not pixels or not image:
        return None
    lines = content.decode("utf-8", errors="replace").split("\n")[:_LINES_PEEKED]
    cells = [row.get(pixels, "") for _where, row in rows("\n".join(lines), path)]
    if not any(map(_RUNS.match, cells)):
        return None
    return _Columns(image, next((name for name in _CLASS if name in header), ""), pixels, bool(joined))


def read(files: Files, report: Report) -> Layout:
    """Read every table; classes are ordered by name."""
    tables = _tables(files)
    gathered = Gathered(NAME, files, report, [file for file, _columns in tables])
    found: dict[str, _Image] = {}
    for file, columns in tables:
        with report.collecting():
            for where, row in rows(files.read_text(file), file.path):
                _read_line(row, columns, where, gathered, found)
    for image in found.values():
        gathered.add(image.file, image.where, image.shapes, unusable=image.unusable)
    return gathered.layout()


def _read_line(
    row: dict[str, str], columns: _Columns, where: Position, gathered: Gathered, found: dict[str, _Image]
) -> None:
    name, label = row.get(columns.image, ""), row.get(columns.label, "") if columns.label else ""
    if columns.is_joined:
        name, _, label = name.rpartition("_")
    image = gathered.find(name, where)
    if image is None:
        return
    entry = found.setdefault(image.path, _Image(image, where))
    text = row.get(columns.pixels, "")
    if text in ("", "-1", "nan", "1 0"):  # no object of this class
        return
    counts = counts_of_pairs(text)
    if counts is None:
        message = messages.RUNS_OF_LINE(where=where.param(), column=columns.pixels, text=text[:40])
        gathered.fault(where, message)
        entry.unusable += 1
    elif columns.label and not label:
        gathered.fault(where, annotation_messages.CLASS_MISSING(where=where.param()), "unknown_class")
        entry.unusable += 1
    else:
        by_rows = (columns.image, columns.pixels) in _BY_ROWS
        entry.shapes.append(gathered.shape(label, where, rle=Rle(0, 0, counts, by_rows)))
