"""CSV files with one line per image: its file, its class and optionally its split.

labels.csv with a header: file | filename | image | path ..., label | class | target ..., split | set | subset
other headers, or none: detected by the content of the columns (`csv_columns.py`)

A label can be a list, such as cat|dog, "cat,dog" or, in a column with a plural name, cat dog: the dataset then has
several labels per image.
"""

import re
from dataclasses import dataclass

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, kind_of_cell, kind_of_name, natural_key
from trainingapp.datasets.sources.formats.collector import Collector
from trainingapp.datasets.sources.formats.csv_columns import find_columns
from trainingapp.datasets.sources.formats.label_lists import (
    found_separator,
    likely_separator,
    looks_like_lists,
    offer_label_mode,
    separated,
    split_labels,
)
from trainingapp.datasets.sources.formats.tables import cells, delimiter_of
from trainingapp.datasets.sources.layout import Kind, Layout
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "csv"
FILE_COLUMNS = (
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
PLURAL_COLUMNS = ("labels", "classes", "tags", "targets", "categories", "class_names", "attributes")
LABEL_COLUMNS = ("label", "class", "target", "class_name", "label_name", "category", *PLURAL_COLUMNS)
SPLIT_COLUMNS = (
    *("split", "set", "subset", "partition", "data_set"),
    *("is_test", "is_valid", "is_val", "is_validation", "is_train"),
)
_JSON_CELL = re.compile(r"""\[\s*\{\s*["']""")
_BOX_COLUMNS = {"xmin", "x_min", "bbox", "x1"}


@dataclass(frozen=True)
class _Columns:
    """Column indices; split is -1 if there is no such column."""

    delimiter: str
    file: int
    label: int
    split: int
    split_name: str = ""
    has_header: bool = True
    is_plural: bool = False


def recognise(files: Files) -> bool:
    """Whether a CSV file has an image column and a class column."""
    return bool(_tables(files))


def _tables(files: Files) -> list[tuple[SourceFile, _Columns]]:
    found = (
        (file, _columns(files.peek(file)) or _columns_by_content(files, file)) for file in files.ending(".csv", ".tsv")
    )
    # Sample submissions of competitions list images of the test split, all with the same class.
    return [(file, columns) for file, columns in found if columns and "submission" not in file.path.lower()]


def _columns_by_content(files: Files, file: SourceFile) -> _Columns | None:
    found = find_columns(files, file)
    if found is None:
        return None
    return _Columns(
        found.delimiter,
        found.file,
        found.label,
        found.split,
        found.split_name,
        has_header=found.has_header,
        is_plural=found.label_name in PLURAL_COLUMNS,
    )


def _columns(content: bytes) -> _Columns | None:
    header, _, rows = content.decode("utf-8-sig", errors="replace").partition("\n")
    if _JSON_CELL.search(rows):  # objects, as in Label Studio exports
        return None
    header = header.rstrip("\r")
    delimiter = delimiter_of(header)
    names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
    file, label, split = (
        next((names.index(name) for name in known if name in names), -1)
        for known in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if file < 0 or label < 0 or _BOX_COLUMNS & set(names):
        return None
    is_plural = names[label] in PLURAL_COLUMNS
    return _Columns(delimiter, file, label, split, names[split] if split >= 0 else "", is_plural=is_plural)


@dataclass(frozen=True, slots=True)
class _Row:
    """A valid line; `text` is the content of the label column."""

    image: SourceFile
    text: str
    kind: Kind | None
    where: Position


def read(files: Files, report: Report) -> Layout:
    """Read every table; classes are ordered by name."""
    rows: list[_Row] = []
    tables = _tables(files)
    for file, columns in tables:
        with report.collecting():
            text = files.read_text(file)
            for where, parts in cells(text, file.path, columns.delimiter, skip_header=columns.has_header):
                if row := _row(files, parts, columns, where, report):
                    rows.append(row)
    texts = {row.text for row in rows}
    separator = _separator(files, texts, is_plural=any(columns.is_plural for _file, columns in tables))
    mode = files.reading.label_mode
    is_multi = mode == "multi" or (mode == "auto" and separator is not None)
    if not is_multi and (doubtful := looks_like_lists(texts)):
        report.warn("several_labels", messages.LABELS_MAY_BE_LISTS(count=len(doubtful), example=doubtful[0][:60]))
        offer_label_mode(files, "single")
    names = {text: split_labels(text, separator if is_multi else None) for text in texts}
    classes = sorted({name for found in names.values() for name in found}, key=natural_key)
    collector = Collector(files, report)
    if is_multi:
        _collect_lists(rows, names, classes, collector)
    else:
        _collect_single(rows, names, classes, collector, files)
    collector.warn_of_others()
    return Layout(
        NAME,
        ["multi_labels"] if is_multi else ["labels"],
        classes,
        collector.images(),
        [file.path for file, _columns in tables],
        _split_origin(tables),
    )


def _separator(files: Files, texts: set[str], *, is_plural: bool) -> str | None:
    """The separator of an image's labels, None without one; offers the choice if it is ambiguous."""
    separator = found_separator(texts, is_plural=is_plural)
    if separator is not None:
        reason = separated(separator, texts)
        offer_label_mode(files, "single" if files.reading.label_mode == "single" else "multi", reason)
    if separator is None and files.reading.label_mode == "multi":
        separator = likely_separator(texts)
        offer_label_mode(files, "multi")
    return separator


def _collect_lists(rows: list[_Row], names: dict[str, list[str]], classes: list[str], collector: Collector) -> None:
    """Images with the labels of all their lines; an empty text has no labels."""
    label_of = {name: label for label, name in enumerate(classes)}
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.image.path, []).append(row)
    for lines in found.values():
        labels = [label_of[name] for line in lines for name in names[line.text]]
        kind = next((line.kind for line in lines if line.kind), None)
        collector.add(lines[0].image, lines[0].where, kind=kind, labels=labels)


def _collect_single(
    rows: list[_Row], names: dict[str, list[str]], classes: list[str], collector: Collector, files: Files
) -> None:
    """Images with their only label. A second line with another label is a fault, since the correct one is unknown."""
    label_of = {name: label for label, name in enumerate(classes)}
    first: dict[str, _Row] = {}
    for row in rows:
        where, own = row.where.param(), names[row.text]
        earlier = first.setdefault(row.image.path, row)
        if not own:
            collector.report.fault("unknown_class", messages.CLASS_MISSING(where=where), row.where.path)
        elif names[earlier.text] != own:
            elsewhere, other = earlier.where.param(), names[earlier.text][0] if names[earlier.text] else ""
            message = messages.SECOND_CLASS(
                where=where, path=row.image.path, name=own[0], other=other, elsewhere=elsewhere
            )
            collector.report.fault("several_labels", message, row.where.path)
            offer_label_mode(files, "single")
        else:
            collector.add(row.image, row.where, kind=row.kind, label=label_of[own[0]])


def _split_origin(tables: list[tuple[SourceFile, _Columns]]) -> Message | None:
    """The column with the splits, or the tables that are named after a split; None if there is neither."""
    for file, columns in tables:
        if columns.split_name:
            return reading_messages.SPLIT_FROM_COLUMN(column=columns.split_name, path=file.path)
    named = [file.path for file, _columns in tables if kind_of_name(file.path.rpartition("/")[2])]
    return reading_messages.SPLIT_FROM_ANNOTATION_FILES(paths=named) if named else None


def _row(files: Files, parts: list[str], columns: _Columns, position: Position, report: Report) -> _Row | None:
    path, where = position.path, position.param()
    if len(parts) <= max(columns.file, columns.label, columns.split):
        report.fault("bad_annotation", messages.TOO_FEW_COLUMNS(where=where, count=len(parts)), path)
        return None
    name = parts[columns.file].strip()
    split = parts[columns.split].strip() if columns.split >= 0 else ""
    kind = kind_of_cell(columns.split_name, split)
    if split and kind is None:
        report.fault("bad_annotation", messages.NOT_A_SPLIT(where=where, text=repr(split[:60])), path)
        return None
    image = files.find_image(name, path.rpartition("/")[0], kind) if name else None
    if image is None:
        report.fault("missing_image", messages.NO_IMAGE_NAMED(where=where, path=name[:200]), path)
        return None
    if kind is None and columns.split < 0:
        kind = files.kind_of(image.path) or kind_of_name(path.rpartition("/")[2])
    return _Row(image, parts[columns.label].strip(), kind, position)
