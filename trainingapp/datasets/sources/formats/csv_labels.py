"""A CSV file with a line for each image: its file, its class and, where there is such a column, its split.

labels.csv with a header: file | filename | image | path ..., label | class | target ..., split | set | subset
other headers, or none: by what stands in the columns (`csv_columns.py`)
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import Files, class_name, kind_of_name, kind_of_path, natural_key
from trainingapp.datasets.sources.formats.collector import Collector
from trainingapp.datasets.sources.formats.csv_columns import find_columns
from trainingapp.datasets.sources.layout import Kind, Layout
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "csv"
_FILE_COLUMNS = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "image",
    "image_path",
    "path",
    "img",
    "picture",
    "image_id",
)
_LABEL_COLUMNS = ("label", "class", "target", "class_name", "label_name", "category")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_BOX_COLUMNS = {"xmin", "x_min", "bbox", "x1"}


@dataclass(frozen=True)
class _Columns:
    """Indices of the columns; split is -1 without such a column."""

    delimiter: str
    file: int
    label: int
    split: int
    split_name: str = ""
    has_header: bool = True


def recognise(files: Files) -> bool:
    """Whether a CSV file has a column for the image and one for its class."""
    return bool(_tables(files))


def _tables(files: Files) -> list[tuple[SourceFile, _Columns]]:
    found = (
        (file, _columns(files.peek(file)) or _columns_by_content(files, file)) for file in files.ending(".csv", ".tsv")
    )
    # Sample submissions of competitions name images of the test split with the same class for all.
    return [(file, columns) for file, columns in found if columns and "submission" not in file.path.lower()]


def _columns_by_content(files: Files, file: SourceFile) -> _Columns | None:
    found = find_columns(files, file)
    if found is None:
        return None
    return _Columns(
        found.delimiter, found.file, found.label, found.split, found.split_name, has_header=found.has_header
    )


def _columns(content: bytes) -> _Columns | None:
    header = content.decode("utf-8-sig", errors="replace").partition("\n")[0].rstrip("\r")
    delimiter = max(",;\t", key=header.count)
    names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
    file, label, split = (
        next((names.index(name) for name in known if name in names), -1)
        for known in (_FILE_COLUMNS, _LABEL_COLUMNS, _SPLIT_COLUMNS)
    )
    if file < 0 or label < 0 or _BOX_COLUMNS & set(names):
        return None
    return _Columns(delimiter, file, label, split, names[split] if split >= 0 else "")


def read(files: Files, report: Report) -> Layout:
    """Read every table; classes are ordered by name."""
    rows: list[tuple[SourceFile, str, Kind | None, Position]] = []
    tables = _tables(files)
    for file, columns in tables:
        rows += _rows(files, file, columns, report)
    classes = sorted({name for _image, name, _kind, _where in rows}, key=natural_key)
    label_of = {name: label for label, name in enumerate(classes)}
    collector = Collector(files, report)
    for image, name, kind, where in rows:
        collector.add(image, where, kind=kind, label=label_of[name])
    collector.warn_of_others()
    return Layout(
        NAME,
        ["labels"],
        classes,
        collector.images(),
        [file.path for file, _columns in tables],
        _split_origin(tables),
    )


def _split_origin(tables: list[tuple[SourceFile, _Columns]]) -> Message | None:
    """The column with the splits, or the tables that are named for one; None without either."""
    for file, columns in tables:
        if columns.split_name:
            return reading_messages.SPLIT_FROM_COLUMN(column=columns.split_name, path=file.path)
    named = [file.path for file, _columns in tables if kind_of_name(file.path.rpartition("/")[2])]
    return reading_messages.SPLIT_FROM_ANNOTATION_FILES(paths=named) if named else None


def _rows(
    files: Files, file: SourceFile, columns: _Columns, report: Report
) -> Iterator[tuple[SourceFile, str, Kind | None, Position]]:
    """(image, class, split, where) of each valid line."""
    try:
        for where, parts in _lines(files.read_text(file), columns, file.path):
            if row := _row(files, parts, columns, where, report):
                yield *row, where
    except DatasetError as error:
        report.errors(error)


def _lines(text: str, columns: _Columns, path: str) -> Iterator[tuple[Position, list[str]]]:
    """(where, parts) of the lines below the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter)
    try:
        if columns.has_header:
            next(reader, None)
        for parts in reader:
            if any(part.strip() for part in parts):
                yield Position(path, reader.line_num), parts
    except csv.Error as error:
        where = Position(path, reader.line_num).param()
        message = messages.INVALID_CSV(where=where, reason=reason(error))
        raise DatasetError.one("annotations_broken", message, path) from None


def _row(
    files: Files, parts: list[str], columns: _Columns, position: Position, report: Report
) -> tuple[SourceFile, str, Kind | None] | None:
    path, where = position.path, position.param()
    if len(parts) <= max(columns.file, columns.label, columns.split):
        report.fault("bad_annotation", messages.TOO_FEW_COLUMNS(where=where, count=len(parts)), path)
        return None
    name, label = parts[columns.file].strip(), class_name(parts[columns.label])
    if not label:
        report.fault("unknown_class", messages.CLASS_MISSING(where=where), path)
        return None
    split = parts[columns.split].strip() if columns.split >= 0 else ""
    kind = kind_of_name(split)
    if split and kind is None:
        report.fault("bad_annotation", messages.NOT_A_SPLIT(where=where, text=repr(split[:60])), path)
        return None
    image = files.find_image(name, path.rpartition("/")[0], kind) if name else None
    if image is None:
        report.fault("missing_image", messages.NO_IMAGE_NAMED(where=where, path=name[:200]), path)
        return None
    if kind is None and columns.split < 0:
        kind = kind_of_path(image.path) or kind_of_name(path.rpartition("/")[2])
    return image, label, kind
