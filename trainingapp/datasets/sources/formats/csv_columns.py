"""Detection of table columns by their content, for tables with unusual headers or without a header.

The image column is the one whose cells name images of the source, such as `id` with names without a suffix. The class
column has one of the usual names, or is the only other column.
"""

import csv
import io
from collections import Counter
from dataclasses import dataclass

from trainingapp.datasets.sources.files import Files, kind_of_cell
from trainingapp.datasets.sources.formats.tables import delimiter_of
from trainingapp.datasets.sources.source import SourceFile

LABEL_NAMES = (
    *("label", "labels", "class", "classes", "target", "category", "class_name", "label_name", "category_name", "name"),
    *("breed", "species", "type", "kind", "diagnosis", "dx", "tag", "tags", "y", "emotion", "level", "finding"),
    *(
        "class_id",
        "classid",
        "label_id",
        "labelid",
        "category_id",
        "target_name",
        "finding_labels",
        "findings",
        "pathology",
    ),
)
BOX_NAMES = {"xmin", "x_min", "bbox", "x1", "left", "x", "polygon", "region_shape_attributes"}
_MOST_BYTES = 1 << 16
_MOST_ROWS = 200
_MOST_COLUMNS = 40
_ENOUGH_ROWS = 10
"""From so many rows on, classes that are all different are taken for texts such as captions."""


@dataclass(frozen=True)
class FoundColumns:
    """Column indices; split is -1 if there is no such column."""

    delimiter: str
    file: int
    label: int
    split: int
    has_header: bool
    split_name: str = ""
    label_name: str = ""


def find_columns(files: Files, file: SourceFile) -> FoundColumns | None:
    """The columns, from the first rows; None if no column names images or the class column is ambiguous."""
    rows, delimiter = _rows(files, file)
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    if not 2 <= width <= _MOST_COLUMNS:
        return None
    rows = [row for row in rows if len(row) == width]
    body = rows[1:] or rows
    hits = [sum(files.find_image(row[column]) is not None for row in body) for column in range(width)]
    image = hits.index(max(hits))
    if 2 * hits[image] < len(body):
        return None
    has_header = files.find_image(rows[0][image]) is None
    names = [""] * width
    if has_header:
        names = ["_".join(name.lower().replace("-", " ").replace("_", " ").split()) for name in rows[0]]
    if BOX_NAMES & set(names):
        return None
    body = body if has_header else rows
    others = [column for column in range(width) if column != image]
    split = next((place for place in others if all(kind_of_cell(names[place], row[place]) for row in body)), -1)
    others = [column for column in others if column != split]
    label = next((names.index(name) for name in LABEL_NAMES if name in names and names.index(name) in others), -1)
    if label < 0 and len(others) == 1:
        label = others[0]
    if label < 0 or not _are_classes([row[label] for row in body]):
        return None
    return FoundColumns(delimiter, image, label, split, has_header, names[split] if split >= 0 else "", names[label])


def _rows(files: Files, file: SourceFile) -> tuple[list[list[str]], str]:
    """(first rows, delimiter) of the table."""
    content = files.peek(file)[:_MOST_BYTES].decode("utf-8-sig", errors="replace")
    lines = content.splitlines()[: _MOST_ROWS + 1]
    delimiter = delimiter_of(lines[0] if lines else "")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    except csv.Error:
        return [], delimiter
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)], delimiter


def _are_classes(values: list[str]) -> bool:
    """Whether the values can be class names: not measurements, JSON, or a different text for every image."""
    different = set(values)
    if any(value.startswith(("[{", '{"')) for value in different):
        return False
    if len(values) >= _ENOUGH_ROWS and len(different) == len(values):
        return False
    return bool(different - {""}) and 2 * sum(map(_is_fraction, different)) <= len(different)


def _is_fraction(value: str) -> bool:
    try:
        return not float(value).is_integer()
    except (ValueError, OverflowError):
        return False
