"""CSV files with columns identified by name."""

import csv
import io
from collections.abc import Iterator

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.datasets.report import DatasetError, reason
from trainingapp.datasets.sources.position import Position

DELIMITERS = ",;\t"


def header_of(content: bytes) -> list[str]:
    """The column names in lower case, from the beginning of a file."""
    first = content.decode("utf-8-sig", errors="replace").partition("\n")[0].rstrip("\r")
    return [name.strip().strip('"').lower() for name in first.split(delimiter_of(first))]


def delimiter_of(line: str) -> str:
    """The most frequent delimiter in the line; | only if there is no other, since it also separates labels."""
    found = max(DELIMITERS, key=line.count)
    return found if found in line or "|" not in line else "|"


def cells(
    text: str, path: str, delimiter: str = "", *, skip_header: bool = False
) -> Iterator[tuple[Position, list[str]]]:
    """Yield (where, cells) for every non-empty line. Raises DatasetError if the text is not valid CSV.

    The default `delimiter` is the most frequent one in the first line. `skip_header` skips that line.
    """
    delimiter = delimiter or delimiter_of(text[: text.find("\n") + 1] or text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        if skip_header:
            next(reader, None)
        for parts in reader:
            if any(part.strip() for part in parts):
                yield Position(path, reader.line_num), parts
    except csv.Error as error:
        where = Position(path, reader.line_num).param()
        raise DatasetError.one(
            "annotations_broken", messages.INVALID_CSV(where=where, reason=reason(error)), path
        ) from None


def rows(text: str, path: str) -> Iterator[tuple[Position, dict[str, str]]]:
    """Yield (where, cells by lower-case column name) for every line below the header."""
    found = cells(text, path)
    header = [name.strip().lower() for name in next(found, (None, []))[1]]
    for where, parts in found:
        yield where, dict(zip(header, map(str.strip, parts), strict=False))
