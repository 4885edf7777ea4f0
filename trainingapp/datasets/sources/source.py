"""The files of a source, and the rules that apply to both archives and folders.

Files left by operating systems (__MACOSX, .DS_Store, Thumbs.db, hidden files) are ignored.
"""

import lzma
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from trainingapp.contract.messages import Message, Param
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report, ReportItem, reason
from trainingapp.datasets.sources.offers import Offer

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 1000
_CHUNK_BYTES = 1 << 20
#: Exceptions that zipfile raises while reading an entry.
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError)
_JUNK_FOLDERS = {"__MACOSX"}
_JUNK_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


@dataclass(frozen=True)
class SourceFile:
    """A file of the source. `path` is relative, with forward slashes, in Unicode's composed form (NFC).

    `packed_bytes` is its declared compressed size in a zip; None in a folder and in a tar.
    """

    path: str
    size_bytes: int
    open: Callable[[], IO[bytes]]
    packed_bytes: int | None = None


@dataclass(frozen=True)
class Source:
    """The files to import and the folders that contain them, with their names in the source."""

    files: list[SourceFile]
    folders: set[str]
    offers: tuple[Offer, ...] = ()
    """Choices in reading the source itself, such as the encoding of the names in an archive."""
    faults: list[ReportItem] = field(default_factory=list)
    """Files that were left out of it, each with the reason."""


def pieces_of(file: SourceFile) -> Iterator[bytes]:
    """Yield the bytes of `file` in pieces.

    Raises DatasetError if the file is damaged or longer than declared, since a zip directory can be wrong.
    """
    read = 0
    try:
        with file.open() as reader:
            while piece := reader.read(_CHUNK_BYTES):
                read += len(piece)
                if read > file.size_bytes:
                    raise DatasetError.one("size_lies", messages.LARGER_THAN_DECLARED(path=file.path), file.path)
                yield piece
    except _DAMAGED as error:
        message = messages.DAMAGED_ENTRY(path=file.path, reason=reason(error))
        raise DatasetError.one("damaged_entry", message, file.path) from None


def copy_limited(file: SourceFile, target: IO[bytes], update: Callable[[bytes], object]) -> int:
    """Copy the bytes of `file` and pass each piece to `update`. Returns their number. Raises like `pieces_of`."""
    copied = 0
    for piece in pieces_of(file):
        copied += len(piece)
        target.write(piece)
        update(piece)
    return copied


def checked_source(files: list[SourceFile], folders: set[str], report: Report) -> Source:
    """The source with all parent folders of its files. Files with invalid or repeated names are left out.

    Raises DatasetError for errors in `report` that make the whole source unusable, and if there are no files.
    """
    usable_folders = {folder for folder in folders if not name_fault(folder)}
    for folder in sorted(folders - usable_folders):
        if fault := name_fault(folder):
            report.fault("bad_name", fault, shown_name(folder))
    all_folders = usable_folders | _parents(usable_folders) | _parents(file.path for file in files)
    kept: list[SourceFile] = []
    seen: set[str] = set()
    for file in files:
        if fault := name_fault(file.path):
            report.fault("bad_name", fault, shown_name(file.path))
        elif file.path in seen:
            report.fault("duplicate_name", messages.NAME_DUPLICATE(path=file.path), file.path)
        elif file.path in all_folders:
            report.fault("duplicate_name", messages.FILE_AND_FOLDER(path=file.path), file.path)
        else:
            kept.append(file)
            seen.add(file.path)
    report.raise_fatal()
    if not kept:
        report.raise_errors()
        raise DatasetError.one("empty", messages.NO_FILES())
    return Source(kept, {folder for folder in all_folders if not name_fault(folder)}, faults=report.items())


def name_fault(path: str) -> Message | None:
    """The reason why no file can have this path; None for every path that a file system accepts."""
    # Control characters, and the two Unicode separators that also end a line.
    has_controls = not path.isprintable() and any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in path)
    if has_controls or not all(path.split("/")) or is_undecodable(path):
        return messages.NAME_UNUSABLE(path=repr(path))
    longest = max(len(name.encode()) for name in path.split("/"))
    if len(path.encode()) > LONGEST_PATH_BYTES or longest > LONGEST_NAME_BYTES:
        return messages.NAME_TOO_LONG(path=repr(path[:80]))
    return None


def shown_name(path: str) -> str:
    """The path as printable ASCII, for names that cannot be used."""
    return ascii(path[:80])[1:-1]


def is_undecodable(path: str) -> bool:
    """Whether the path is not valid UTF-8 on disk; Python represents such bytes as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return False


def _parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return found


def is_junk(path: str) -> bool:
    """Whether the path is a leftover of an operating system or hidden by its name."""
    parts = path.rstrip("/").split("/")
    hidden = any(part.startswith(".") and part != "." for part in parts)
    return hidden or bool(_JUNK_FOLDERS & set(parts)) or parts[-1].lower() in _JUNK_FILES


def size_param(size_bytes: int) -> Param:
    """A size as a message parameter; the units above bytes are the same in every language."""
    size = float(size_bytes)
    if size_bytes < 1024:
        return messages.BYTES(count=size_bytes)
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} PB"
