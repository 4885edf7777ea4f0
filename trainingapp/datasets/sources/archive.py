"""Reading files out of an untrusted zip or a server folder.

A zip is judged by its table of contents before anything is read, and again while it is read, since the table can lie.
Refused: what is no zip or is damaged, encrypted entries, links and devices, absolute paths and `..`, two entries of one
name, names that no file can have, and bombs. A bomb is any of

- more than 200,000 entries, or a table of contents of more than 64 MB, which is not even loaded then,
- more than 20 times the largest upload (`MAX_UPLOAD_MB`) when unpacked,
- an entry, or a whole archive, of more than 50 MB that unpacks to more than 200 times its size. Images are compressed
  already: real ones stay below 2, flat bitmaps below 100.

What operating systems leave behind (__MACOSX, .DS_Store, Thumbs.db, hidden files) is passed over.
"""

import lzma
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import override

from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.report import Report

MOST_ENTRIES = 200_000
MOST_TABLE_BYTES = 64 * 1024**2
MOST_RATIO = 200
RATIO_FREE_BYTES = 50 * 1024**2
UNPACKED_TO_UPLOAD = 20
LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 1000
DISK_RESERVE_BYTES = 100 * 1024**2
_CHUNK_BYTES = 1 << 20
_LONGEST_END_BYTES = 65_535 + 22 + 20 + 56
"""The records at the end of a zip, with the longest comment."""
_IN_ZIP64 = 0xFFFFFFFF
"""Stands in the old record when the number is in the new one."""
#: What zipfile raises in the middle of an entry.
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError)
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800
_JUNK_FOLDERS = {"__MACOSX"}
_JUNK_FILES = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class SourceFile:
    """A file of the source. `path` is relative, with forward slashes, in Unicode's composed form (NFC).

    `packed_bytes` is what it takes in the zip, as the zip says.
    """

    path: str
    size_bytes: int
    open: Callable[[], IO[bytes]]
    packed_bytes: int | None = None


@dataclass(frozen=True)
class Source:
    """The files to import and the folders that hold them, as the source names them."""

    files: list[SourceFile]
    folders: set[str]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The files of a zip or a folder. Raises DatasetError when it is neither, unsafe, or holds nothing."""
    if path.is_dir():
        yield _read_folder(path)
        return
    with _open_zip(path) as archive:
        yield _read_zip(path, archive)


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Raises DatasetError when the disk of `folder` would not hold so much more and a reserve."""
    free_bytes = shutil.disk_usage(folder).free
    short_bytes = needed_bytes + DISK_RESERVE_BYTES - free_bytes
    if short_bytes > 0:
        raise DatasetError.one(
            "disk_full",
            f"The disk is too full: the images take {_size(needed_bytes)}, {_size(free_bytes)} are free and "
            f"{_size(DISK_RESERVE_BYTES)} stay in reserve. {_size(short_bytes)} more are needed.",
        )


def copy_limited(file: SourceFile, target: IO[bytes], update: Callable[[bytes], object]) -> int:
    """Copy the bytes of `file`, giving each piece to `update` too. Returns how many.

    Raises DatasetError when the file is damaged or longer than the source said.
    """
    copied = 0
    try:
        with file.open() as reader:
            while piece := reader.read(_CHUNK_BYTES):
                copied += len(piece)
                if copied > file.size_bytes:
                    raise DatasetError.one("size_lies", f"{file.path} is longer than announced.", file.path)
                target.write(piece)
                update(piece)
    except _DAMAGED as error:
        raise DatasetError.one("damaged_entry", f"{file.path} is damaged in the zip: {error}", file.path) from None
    return copied


# Zip


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        _refuse_large_table(path)
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DatasetError.one("source_missing", f"{path.name} is not there (any more).") from None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise DatasetError.one("not_a_zip", f"The file is no zip, or a damaged one: {error}.") from None


def _refuse_large_table(path: Path) -> None:
    """zipfile loads the whole table of contents, ten times as large in memory: look at its length first."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_END_BYTES))
        tail = file.read()
    lengths = [struct.unpack_from("<I", tail, end + 12)[0] for end in _records(tail, b"PK\5\6", 16)]
    lengths += [struct.unpack_from("<Q", tail, end + 40)[0] for end in _records(tail, b"PK\6\6", 48)]
    if any(MOST_TABLE_BYTES < length != _IN_ZIP64 for length in lengths):
        raise DatasetError.one("bomb", f"The zip's table of contents is larger than {_size(MOST_TABLE_BYTES)}.")


def _records(tail: bytes, signature: bytes, length: int) -> list[int]:
    """Where the last record with this signature starts, if it is there whole."""
    start = tail.rfind(signature)
    return [start] if 0 <= start <= len(tail) - length else []


def _read_zip(path: Path, archive: zipfile.ZipFile) -> Source:
    entries = archive.infolist()
    _refuse_bomb(entries, path.stat().st_size)
    report = Report()
    files: list[SourceFile] = []
    folders: set[str] = set()
    for entry in entries:
        name = _entry_name(entry)
        if not _is_safe(entry, name, report):
            continue
        name = name.removeprefix("./")
        if entry.is_dir() or name.endswith("/"):
            folders.add(name.rstrip("/"))
        else:
            files.append(SourceFile(name, entry.file_size, _zip_opener(archive, entry), entry.compress_size))
    return _checked_source(files, folders, report)


def _zip_opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(entry)


def _refuse_bomb(entries: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    if len(entries) > MOST_ENTRIES:
        raise DatasetError.one(
            "bomb",
            f"The zip has {len(entries):,} entries; at most {MOST_ENTRIES:,} are taken. Import a folder instead.",
        )
    unpacked = sum(entry.file_size for entry in entries)
    limit = UNPACKED_TO_UPLOAD * settings.MAX_UPLOAD_BYTES
    if unpacked > limit:
        raise DatasetError.one("bomb", f"The zip unpacks to {_size(unpacked)}; at most {_size(limit)} are taken.")
    _refuse_ratio("The zip", unpacked, archive_bytes)
    for entry in entries:
        _refuse_ratio(entry.filename, entry.file_size, entry.compress_size)


def _refuse_ratio(name: str, unpacked: int, packed: int) -> None:
    if unpacked > RATIO_FREE_BYTES and unpacked > MOST_RATIO * packed:
        message = f"{name} unpacks from {_size(packed)} to {_size(unpacked)}: a zip bomb. Nothing of it was read."
        raise DatasetError.one("bomb", message)


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: Windows writes backslashes, and many programs write no UTF-8 and do not say so."""
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8_NAME and not name.isascii():
        name = _decoded(name.encode("cp437"))
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("cp437")


def _is_safe(entry: zipfile.ZipInfo, name: str, report: Report) -> bool:
    """Whether the entry is taken; what is unsafe goes into the report, junk is passed over."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        report.error("path_traversal", f"{name!r} leads out of the dataset.", name)
    elif _is_junk(name):
        pass
    elif kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        report.error("link", f"{name} is a link or a device; only plain files are taken.", name)
    elif entry.flag_bits & _ENCRYPTED:
        report.error("encrypted", f"{name} is encrypted; make the zip without a password.", name)
    elif entry.compress_type not in _COMPRESSIONS:
        report.error("compression", f"{name} is compressed in a way that is not read; use Deflate.", name)
    else:
        return True
    return False


_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


# Server folder


def _read_folder(root: Path) -> Source:
    report = Report()
    files: list[SourceFile] = []
    folders: set[str] = set()
    _walk(root.resolve(), "", files, folders, report)
    return _checked_source(files, folders, report)


def _walk(root: Path, inside: str, files: list[SourceFile], folders: set[str], report: Report) -> None:
    with os.scandir(root / inside) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if _is_junk(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(unicodedata.normalize("NFC", path))
                _walk(root, path, files, folders, report)
            elif entry.is_symlink():
                _add_link(root, path, files, report)
            elif entry.is_file(follow_symlinks=False):
                files.append(_folder_file(root / path, path, entry.stat(follow_symlinks=False).st_size))
            else:
                report.error("link", f"{path} is a device or a pipe; only plain files are taken.", path)


def _add_link(root: Path, path: str, files: list[SourceFile], report: Report) -> None:
    """A link to a plain file within the folder is as good as the file; any other could lead anywhere."""
    target = (root / path).resolve()
    if target.is_relative_to(root) and target.is_file():
        files.append(_folder_file(target, path, target.stat().st_size))
    else:
        report.error("link", f"{path} is a link that leads out of the folder, to a folder or to nothing.", path)


def _folder_file(real_path: Path, path: str, size_bytes: int) -> SourceFile:
    return SourceFile(unicodedata.normalize("NFC", path), size_bytes, lambda: _open_plain(real_path))


def _open_plain(path: Path) -> IO[bytes]:
    """Open without following a link that was put there since the folder was listed."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


# Both


def _checked_source(files: list[SourceFile], folders: set[str], report: Report) -> Source:
    _check_names([*(file.path for file in files), *folders], report)
    _check_collisions(files, folders, report)
    report.raise_errors()
    if not files:
        raise DatasetError.one("empty", "There is no file in it.")
    return Source(files, folders | _parents(file.path for file in files) | _parents(folders))


def _check_names(paths: list[str], report: Report) -> None:
    for path in paths:
        if not path.isprintable() or not all(path.split("/")) or _is_undecodable(path):
            report.error("bad_name", f"{path!r} is a name that cannot be used.", ascii(path)[1:-1])
        elif _is_too_long(path):
            report.error("bad_name", f"The name {path[:80]!r}… is too long.", path[:80])


def _is_too_long(path: str) -> bool:
    longest = max(len(part.encode()) for part in path.split("/"))
    return longest > LONGEST_NAME_BYTES or len(path.encode()) > LONGEST_PATH_BYTES


def _is_undecodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # a file name on disk that is no UTF-8
        return True
    return False


def _check_collisions(files: list[SourceFile], folders: set[str], report: Report) -> None:
    seen: set[str] = set()
    all_folders = folders | _parents(file.path for file in files)
    for file in files:
        if file.path in seen:
            report.error("duplicate_name", f"{file.path} is there twice.", file.path)
        elif file.path in all_folders:
            report.error("duplicate_name", f"{file.path} is both a file and a folder.", file.path)
        seen.add(file.path)


def _parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return found


def _is_junk(path: str) -> bool:
    parts = path.rstrip("/").split("/")
    hidden = any(part.startswith(".") and part != "." for part in parts)
    return hidden or bool(_JUNK_FOLDERS & set(parts)) or parts[-1].lower() in _JUNK_FILES


def _size(size_bytes: int) -> str:
    with override("en"):  # messages are stored in English, whatever language this process or request has
        return str(filesizeformat(size_bytes)).replace("\xa0", " ")
