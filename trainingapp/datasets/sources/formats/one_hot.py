"""CSV files with a column of zeros and ones per class, the Roboflow export of image labels.

train/_classes.csv  train/*.jpg  valid/_classes.csv ...     filename, cat, dog, ...
                                                            a.jpg, 1, 0, ...

If each image has exactly one class, the dataset has one label per image.
"""

import csv
from dataclasses import dataclass

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.contract.tasks.descriptor import Annotation
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, class_name, kind_of_cell, kind_of_name
from trainingapp.datasets.sources.formats.collector import Collector
from trainingapp.datasets.sources.formats.csv_columns import LABEL_NAMES
from trainingapp.datasets.sources.formats.csv_labels import FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS
from trainingapp.datasets.sources.formats.label_lists import offer_label_mode
from trainingapp.datasets.sources.formats.tables import cells, delimiter_of
from trainingapp.datasets.sources.layout import Kind, Layout
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "one_hot"
_ZERO, _ONE = frozenset({"0", "0.0", "false"}), frozenset({"1", "1.0", "true"})
_MINUS = frozenset({"-1", "-1.0"})
"""In place of zeros, as in CelebA; beside zeros they would mean something else."""
_LINES_PEEKED = 20


@dataclass(frozen=True)
class _Row:
    """An image and the names of its classes."""

    image: SourceFile
    names: tuple[str, ...]
    kind: Kind | None
    where: Position


@dataclass(frozen=True)
class _Table:
    """A file: its delimiter, its image column, its split column (-1 if there is none) and its class columns."""

    file: SourceFile
    delimiter: str
    image: int
    split: int
    classes: dict[int, str]
    split_name: str
    zeros: frozenset[str]


def recognise(files: Files) -> bool:
    """Whether a CSV file has an image column and at least two other columns of zeros and ones."""
    return bool(_tables(files))


def _tables(files: Files) -> list[_Table]:
    tables = (_table(file, files.peek(file)) for file in files.ending(".csv", ".tsv"))
    return [table for table in tables if table]


def _table(file: SourceFile, content: bytes) -> _Table | None:
    # The sample may end within a line, which is ignored.
    lines = content.decode("utf-8-sig", errors="replace").splitlines()[: _LINES_PEEKED + 1]
    if len(lines) < 2:
        return None
    delimiter = delimiter_of(lines[0])
    try:
        parsed = [[cell.strip() for cell in parts] for parts in csv.reader(lines, delimiter=delimiter) if any(parts)]
    except csv.Error:  # for example an unterminated field
        return None
    if len(parsed) < 2:
        return None
    header, *rows = parsed
    names = [name.lower() for name in header]
    image = next((names.index(name) for name in FILE_COLUMNS if name in names), -1)
    split = next((names.index(name) for name in SPLIT_COLUMNS if name in names), -1)
    if image < 0 or set(names) & {*LABEL_COLUMNS, *LABEL_NAMES}:
        return None
    classes = {place: class_name(name) for place, name in enumerate(header) if place not in (image, split) and name}
    whole = [row for row in rows if len(row) == len(header)]
    cells = {row[place].lower() for row in whole for place in classes}
    if len(classes) < 2 or len(set(classes.values())) < len(classes) or not cells:
        return None
    zeros = _MINUS if cells & _MINUS else _ZERO
    if cells - zeros - _ONE:
        return None
    return _Table(file, delimiter, image, split, classes, names[split] if split >= 0 else "", zeros)


def read(files: Files, report: Report) -> Layout:
    """Read every table. Classes are in the column order of the first table."""
    tables = _tables(files)
    rows: list[_Row] = []
    for table in tables:
        with report.collecting():
            lines = cells(files.read_text(table.file), table.file.path, table.delimiter, skip_header=True)
            # A list, so that no row of a table with a broken later line is used.
            rows += [row for where, parts in lines for row in _row(files, table, parts, where, report)]
    classes = list(dict.fromkeys(name for table in tables for name in table.classes.values()))
    label_of = {name: label for label, name in enumerate(classes)}
    is_one_each = bool(rows) and all(len(row.names) == 1 for row in rows)
    mode = files.reading.label_mode
    is_single = mode == "single" or (mode == "auto" and is_one_each)
    if is_one_each:
        offer_label_mode(files, "single" if is_single else "multi", reading_messages.ONE_LABEL_EACH())
    collector = Collector(files, report)
    for row in rows:
        labels = [label_of[name] for name in row.names]
        if is_single and len(labels) != 1:
            message = messages.NOT_ONE_LABEL(where=row.where.param(), path=row.image.path, count=len(labels))
            report.fault("several_labels", message, row.where.path)
        elif is_single:
            collector.add(row.image, row.where, kind=row.kind, label=labels[0])
        else:
            collector.add(row.image, row.where, kind=row.kind, labels=labels)
    collector.warn_of_others()
    annotations: list[Annotation] = ["labels"] if is_single else ["multi_labels"]
    return Layout(NAME, annotations, classes, collector.images(), [table.file.path for table in tables])


def _row(files: Files, table: _Table, parts: list[str], position: Position, report: Report) -> list[_Row]:
    """The row as a list, which is empty if the row has a fault."""
    parts = [part.strip() for part in parts]
    where, path = position.param(), position.path
    if len(parts) <= max(table.image, table.split, *table.classes):
        report.fault("bad_annotation", messages.TOO_FEW_COLUMNS(where=where, count=len(parts)), path)
        return []
    wrong = next((parts[place] for place in table.classes if parts[place].lower() not in table.zeros | _ONE), None)
    if wrong is not None:
        report.fault("bad_annotation", messages.NOT_ZERO_OR_ONE(where=where, text=repr(wrong[:60])), path)
        return []
    split = parts[table.split] if table.split >= 0 else ""
    kind = kind_of_cell(table.split_name, split)
    if split and kind is None:
        report.fault("bad_annotation", messages.NOT_A_SPLIT(where=where, text=repr(split[:60])), path)
        return []
    name = parts[table.image]
    image = files.find_image(name, path.rpartition("/")[0], kind) if name else None
    if image is None:
        report.fault("missing_image", messages.NO_IMAGE_NAMED(where=where, path=name[:200]), path)
        return []
    if kind is None and table.split < 0:
        kind = files.kind_of(image.path) or kind_of_name(path.rpartition("/")[2])
    names = tuple(name for place, name in table.classes.items() if parts[place].lower() in _ONE)
    return [_Row(image, names, kind, position)]
