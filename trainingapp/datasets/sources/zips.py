"""Reading files out of an untrusted zip.

A zip is checked by its central directory before anything is read, and again while it is read, since the directory can
lie. Refused are files that are not a zip or are damaged, encrypted entries, links and devices, absolute paths and `..`,
two entries of one name, names that no file can have, and bombs. A bomb is any of

- more than 200,000 entries, or a central directory of more than 64 MB, which is not even loaded then,
- more than 20 times the largest upload (`MAX_UPLOAD_MB`) when unpacked,
- an entry, or a whole archive, of more than 50 MB that unpacks to more than 200 times its size. Images are compressed
  already: real ones stay below 2, flat bitmaps below 100.
"""

import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from django.conf import settings

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.source import Source, SourceFile, checked_source, is_junk, size_param

MOST_ENTRIES = 200_000
MOST_DIRECTORY_BYTES = 64 * 1024**2
MOST_RATIO = 200
RATIO_FREE_BYTES = 50 * 1024**2
UNPACKED_TO_UPLOAD = 20
_LONGEST_END_BYTES = 65_535 + 22 + 20 + 56
"""The records at the end of a zip, with the longest comment."""
_IN_ZIP64 = 0xFFFFFFFF
"""The value of the old record when the number is in the ZIP64 record."""
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def open_zip(path: Path) -> zipfile.ZipFile:
    """Raises DatasetError when the file is missing, not a zip, or a bomb by the size of its directory."""
    try:
        _refuse_large_directory(path)
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DatasetError.one("source_missing", messages.SOURCE_MISSING(source=path.name)) from None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError.one("not_a_zip", messages.NOT_A_ZIP(reason=reason(error))) from None


def _refuse_large_directory(path: Path) -> None:
    # zipfile loads the whole central directory, ten times as large in memory: its length is read first.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_END_BYTES))
        tail = file.read()
    # Offsets of the directory's length in the end record and in its ZIP64 form: PKWARE's APPNOTE, 4.3.16 and 4.3.14.
    for signature, record_bytes, offset, format_ in ((b"PK\5\6", 16, 12, "<I"), (b"PK\6\6", 48, 40, "<Q")):
        start = tail.rfind(signature)
        if 0 <= start <= len(tail) - record_bytes:
            length = struct.unpack_from(format_, tail, start + offset)[0]
            if MOST_DIRECTORY_BYTES < length != _IN_ZIP64:
                raise DatasetError.one("bomb", messages.DIRECTORY_TOO_LARGE(size=size_param(MOST_DIRECTORY_BYTES)))


def read_zip(path: Path, archive: zipfile.ZipFile) -> Source:
    """The files of the zip. Raises DatasetError when an entry is unsafe, or nothing is in it."""
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
            files.append(SourceFile(name, entry.file_size, _opener(archive, entry), entry.compress_size))
    return checked_source(files, folders, report)


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    """A function of its own, since a lambda within the loop would open the loop's last entry."""
    return lambda: archive.open(entry)


def _refuse_bomb(entries: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    if len(entries) > MOST_ENTRIES:
        raise DatasetError.one("bomb", messages.TOO_MANY_ENTRIES(count=len(entries), most=MOST_ENTRIES))
    unpacked = sum(entry.file_size for entry in entries)
    limit = UNPACKED_TO_UPLOAD * settings.MAX_UPLOAD_BYTES
    if unpacked > limit:
        message = messages.UNPACKED_TOO_LARGE(size=size_param(unpacked), limit=size_param(limit))
        raise DatasetError.one("bomb", message)
    _refuse_ratio(messages.THE_ZIP(), unpacked, archive_bytes)
    for entry in entries:
        _refuse_ratio(entry.filename, entry.file_size, entry.compress_size)


def _refuse_ratio(source: Param, unpacked: int, packed: int) -> None:
    if unpacked > RATIO_FREE_BYTES and unpacked > MOST_RATIO * packed:
        message = messages.ZIP_BOMB(source=source, packed=size_param(packed), size=size_param(unpacked))
        raise DatasetError.one("bomb", message)


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """The intended name: Windows writes backslashes, and many programs write UTF-8 or GB 18030 without a flag."""
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8_NAME and not name.isascii():
        raw = name.encode("cp437")  # as zipfile has decoded it
        for encoding in ("utf-8", "gb18030"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _is_safe(entry: zipfile.ZipInfo, name: str, report: Report) -> bool:
    """Whether the entry is imported; an unsafe one goes into the report, junk is passed over."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        report.error("path_traversal", messages.PATH_TRAVERSAL(path=repr(name)), name)
    elif is_junk(name):
        pass
    elif kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        report.error("link", messages.LINK_OR_DEVICE(path=name), name)
    elif entry.flag_bits & _ENCRYPTED:
        report.error("encrypted", messages.ENCRYPTED(path=name), name)
    elif entry.compress_type not in _COMPRESSIONS:
        report.error("compression", messages.COMPRESSION(path=name), name)
    else:
        return True
    return False
