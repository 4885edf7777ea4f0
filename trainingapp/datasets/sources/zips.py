"""Reads files from an untrusted zip.

A zip is checked by its central directory before it is read, and again while it is read, since the directory can be
wrong. Files that are not a zip or damaged, encrypted entries, absolute paths, `..` and bombs are refused. Links,
devices and invalid names are left out. A bomb is any of

- more than 200,000 entries, or a central directory of more than 64 MB, which is then not loaded,
- more than 20 times the largest upload (`MAX_UPLOAD_MB`) when unpacked,
- an entry, or a whole archive, of more than 50 MB that unpacks to more than 200 times its size.

Names without the UTF-8 flag have one encoding for the whole archive, see `encodings.py`.
"""

import os
import stat
import struct
import zipfile
from functools import partial
from typing import IO

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.archive_names import EncodedNames, is_outside, tidy_name
from trainingapp.datasets.sources.limits import UnpackingLimits
from trainingapp.datasets.sources.source import SourceFile, is_junk, size_param

MOST_DIRECTORY_BYTES = 64 * 1024**2
_LONGEST_END_BYTES = 65_535 + 22 + 20 + 56
"""The records at the end of a zip, with the longest comment."""
_IN_ZIP64 = 0xFFFFFFFF
"""The value of the old record when the number is in the ZIP64 record."""
_FIRST_ENTRY = b"PK\3\4"
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800
_UNICODE_PATH = 0x7075
"""The extra field of Info-ZIP that holds the name in UTF-8 (APPNOTE 4.6.9)."""
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip. Raises DatasetError if the file is not a zip, or a bomb by the size of its directory."""
    try:
        _refuse_large_directory(file)
        archive = zipfile.ZipFile(file)
        if any(entry.header_offset < 0 for entry in archive.infolist()):  # the last one of several parts
            raise DatasetError.one("not_a_zip", messages.ZIP_INCOMPLETE())
        return archive
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, DatasetError):
            raise
        file.seek(0)
        is_cut = file.read(4) == _FIRST_ENTRY
        message = messages.ZIP_INCOMPLETE() if is_cut else messages.NOT_A_ZIP(reason=reason(error))
        raise DatasetError.one("not_a_zip", message) from None


def _refuse_large_directory(file: IO[bytes]) -> None:
    # zipfile loads the whole central directory, which takes ten times its size in memory: its length is read first.
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _LONGEST_END_BYTES))
    tail = file.read()
    # Offsets of the directory length in the end record and its ZIP64 form: PKWARE APPNOTE, 4.3.16 and 4.3.14.
    for signature, record_bytes, offset, format_ in ((b"PK\5\6", 16, 12, "<I"), (b"PK\6\6", 48, 40, "<Q")):
        start = tail.rfind(signature)
        if 0 <= start <= len(tail) - record_bytes:
            length = struct.unpack_from(format_, tail, start + offset)[0]
            if MOST_DIRECTORY_BYTES < length != _IN_ZIP64:
                raise DatasetError.one("bomb", messages.DIRECTORY_TOO_LARGE(size=size_param(MOST_DIRECTORY_BYTES)))


def read_zip(
    archive: zipfile.ZipFile, size_bytes: int, limits: UnpackingLimits, names: EncodedNames, report: Report
) -> tuple[list[SourceFile], set[str]]:
    """(files, folders) of a zip of `size_bytes`. Unsafe entries go into the report. Raises DatasetError for a bomb."""
    entries = archive.infolist()
    limits.add_entries(len(entries))
    unpacked_bytes = sum(entry.file_size for entry in entries)
    limits.add_bytes(unpacked_bytes)
    limits.check_ratio(messages.THE_ZIP(), unpacked_bytes, size_bytes)
    for entry in entries:
        limits.check_ratio(entry.filename, entry.file_size, entry.compress_size)
    files: list[SourceFile] = []
    folders: set[str] = set()
    unicode_names = [_unicode_name(entry) for entry in entries]
    names.settle(
        [
            entry.orig_filename.encode("cp437")  # as zipfile has decoded it
            for entry, name in zip(entries, unicode_names, strict=True)
            if name is None
        ]
    )
    for entry, unicode_name in zip(entries, unicode_names, strict=True):
        name = tidy_name(names.decoded(entry.orig_filename.encode("cp437")) if unicode_name is None else unicode_name)
        if not _is_safe(entry, name, report):
            continue
        if name.endswith("/"):
            folders.add(name.rstrip("/"))
        else:
            files.append(SourceFile(name, entry.file_size, partial(archive.open, entry), entry.compress_size))
    return files, folders


def _unicode_name(entry: zipfile.ZipInfo) -> str | None:
    """The name if the entry declares it as UTF-8, in its flags or with Info-ZIP's extra field; else None."""
    if entry.flag_bits & _UTF8_NAME:
        return entry.orig_filename
    extra = entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5:
            try:
                return field[5:].decode("utf-8")  # after a version of one byte and a checksum of four
            except UnicodeDecodeError:
                return None
    return None


def _is_safe(entry: zipfile.ZipInfo, name: str, report: Report) -> bool:
    """Whether the entry is imported. Unsafe entries go into the report; junk is ignored."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if is_outside(name):
        report.error("path_traversal", messages.PATH_TRAVERSAL(path=repr(name)), name)
    elif is_junk(name):
        pass
    elif kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        report.fault("link", messages.LINK_OR_DEVICE(path=name), name)
    elif entry.flag_bits & _ENCRYPTED:
        report.error("encrypted", messages.ENCRYPTED(path=name), name)
    elif entry.compress_type not in _COMPRESSIONS:
        report.error("compression", messages.COMPRESSION(path=name), name)
    else:
        return True
    return False
