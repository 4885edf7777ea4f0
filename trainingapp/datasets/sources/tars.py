"""Reads files from an untrusted tar, plain or compressed with gzip, bzip2 or xz.

A tar has no directory: a first pass reads the headers, which limits the number of entries before any is used. A
compressed tar is first unpacked to a temporary file, so that its entries can be read in any order; its unpacked size
has the same limits as for zips. Links that lead out of the archive, devices and sparse files are left out; links to
another entry are read as that entry.
"""

import bz2
import gzip
import io
import lzma
import os
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.archive_names import EncodedNames, is_outside, tidy_name
from trainingapp.datasets.sources.limits import UnpackingLimits, check_disk_space
from trainingapp.datasets.sources.source import SourceFile, is_junk

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
"""The compression by the first bytes of a file."""
_PIECE_BYTES = 1 << 20
_HEADER_BYTES = 1 << 20
"""Names and attributes of one entry; longer ones fill the memory."""
_XZ_MEMORY_BYTES = 256 * 1024**2
"""What a decoder of xz may take; `xz -9` needs 65 MB."""
_SPACE_CHECK_BYTES = 256 * 1024**2
_BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, zlib.error, lzma.LZMAError)


class _Decompressor(Protocol):
    def read(self, size: int, /) -> bytes: ...


def is_tar(start: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is a tar."""
    try:
        tarfile.TarInfo.frombuf(start[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def compression(start: bytes) -> str:
    """The name of the compression, "" if there is none."""
    return next((name for mark, name in COMPRESSIONS.items() if start.startswith(mark)), "")


def first_block(file: IO[bytes], compressed_by: str) -> bytes:
    """The first 512 unpacked bytes of the file; fewer if it is damaged or empty."""
    with suppress(*_BROKEN):
        return _decompressor(file, compressed_by).read(512)
    return b""


def unpack(file: IO[bytes], compressed_by: str, target: Path, limits: UnpackingLimits) -> IO[bytes]:
    """Unpack the tar in `file` to the new file `target`. Returns it opened for reading.

    Raises DatasetError if it is damaged, a bomb, or too large for the disk.
    """
    packed_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    reader = _decompressor(file, compressed_by)
    unpacked, checked = 0, 0
    result = target.open("x+b")
    try:
        while piece := _piece(reader):
            if unpacked >= checked:
                check_disk_space(target.parent, _SPACE_CHECK_BYTES)
                checked = unpacked + _SPACE_CHECK_BYTES
            unpacked += len(piece)
            limits.add_bytes(len(piece))
            limits.check_ratio(messages.THE_ARCHIVE(), unpacked, packed_bytes)
            result.write(piece)
        result.seek(0)
    except BaseException:
        result.close()
        raise
    return result


def _piece(reader: _Decompressor) -> bytes:
    """The next MB, complete except at the end. Only decoding happens here: disk errors are raised before."""
    try:
        return reader.read(_PIECE_BYTES)
    except _BROKEN as error:
        raise DatasetError.one("not_a_zip", messages.NOT_A_TAR(reason=reason(error))) from None


def _decompressor(file: IO[bytes], compressed_by: str) -> _Decompressor:
    file.seek(0)
    if compressed_by == "gzip":
        return io.BufferedReader(gzip.GzipFile(fileobj=file), _PIECE_BYTES)
    if compressed_by == "bzip2":
        return io.BufferedReader(bz2.BZ2File(file), _PIECE_BYTES)
    return _Xz(file)


class _Xz:
    """A reader for xz with bounded memory, which lzma.LZMAFile does not offer."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pieces = self._unpacked()

    def read(self, size: int, /) -> bytes:
        """At most 1 MB, regardless of `size`."""
        return next(self._pieces, b"")[:size] if size < _PIECE_BYTES else next(self._pieces, b"")

    def _unpacked(self) -> Iterator[bytes]:
        piece = self._file.read(_PIECE_BYTES)
        while piece:
            decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
            while not decoder.eof:
                if decoder.needs_input and not piece and not (piece := self._file.read(_PIECE_BYTES)):
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
                if unpacked := decoder.decompress(piece, _PIECE_BYTES):
                    yield unpacked
                piece = b""
            # Several streams may be concatenated, with zero bytes in between.
            piece = (decoder.unused_data or self._file.read(_PIECE_BYTES)).lstrip(b"\0")


def read_tar(
    file: IO[bytes], packed_bytes: int, limits: UnpackingLimits, names: EncodedNames, report: Report
) -> tuple[list[SourceFile], set[str]]:
    """(files, folders) of a plain tar, which has to remain open. Unsafe entries go into the report.

    `packed_bytes` is the compressed size of the tar, an upper bound for that of each entry. Raises DatasetError if it
    is damaged or has too many entries.
    """
    entries = _entries(file, limits)
    names.settle([entry[0] for entry in entries])
    files: dict[str, SourceFile] = {}
    folders: set[str] = set()
    repeated: list[SourceFile] = []
    links: list[tuple[str, str]] = []
    for raw, kind, offset, size_bytes, raw_target in entries:
        name = tidy_name(names.decoded(raw))
        if is_outside(name):
            report.error("path_traversal", messages.PATH_TRAVERSAL(path=repr(name)), name)
        elif is_junk(name) or name in ("", "."):
            continue
        elif kind == "folder":
            folders.add(name.rstrip("/"))
        elif kind == "file":
            found = SourceFile(name, size_bytes, _opener(file, offset, size_bytes), min(size_bytes, packed_bytes))
            if name in files:
                repeated.append(found)
            else:
                files[name] = found
        elif kind in ("hard link", "link"):
            inner = tidy_name(names.decoded(raw_target))
            if kind == "link":
                inner = posixpath.join(posixpath.dirname(name), inner)
            links.append((name, posixpath.normpath(inner)))
        else:
            report.fault("link", messages.LINK_OR_DEVICE(path=name), name)
    for name, inner in links:
        if inner in files and name not in files:
            files[name] = replace(files[inner], path=name)
        else:
            report.fault("link", messages.LINK_OR_DEVICE(path=name), name)
    return [*files.values(), *repeated], folders


def _entries(file: IO[bytes], limits: UnpackingLimits) -> list[tuple[bytes, str, int, int, bytes]]:
    """Yield (raw name, kind, offset, size, raw name of the target) for every entry."""
    entries: list[tuple[bytes, str, int, int, bytes]] = []
    file.seek(0)
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep the headers of all entries
                limits.add_entries(1)
                kind, target = "file" if member.isreg() else "device", b""
                if member.issparse():
                    kind = "sparse"
                elif member.isdir():
                    kind = "folder"
                elif member.islnk() or member.issym():
                    kind = "hard link" if member.islnk() else "link"
                    target = member.linkname.encode("utf-8", "surrogateescape")
                raw = member.name.encode("utf-8", "surrogateescape")
                entries.append((raw, kind, member.offset_data, member.size, target))
    except DatasetError:
        raise
    except _BROKEN as error:
        raise DatasetError.one("not_a_zip", messages.NOT_A_TAR(reason=reason(error))) from None
    return entries


class _Headers(io.RawIOBase):
    """The file from which tarfile reads headers; refuses a header that declares more than a megabyte of names."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise DatasetError.one("bomb", messages.TAR_HEADER_TOO_LARGE(most=_HEADER_BYTES >> 20))
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _opener(file: IO[bytes], offset: int, size_bytes: int) -> Callable[[], IO[bytes]]:
    return lambda: io.BufferedReader(_Part(file.fileno(), offset, size_bytes))


class _Part(io.RawIOBase):
    """A range of an open file. The file position is not used, so several threads can read at the same time."""

    def __init__(self, descriptor: int, offset: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size_bytes
        self._at = 0

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._at)
        piece = os.pread(self._descriptor, wanted, self._offset + self._at) if wanted > 0 else b""
        if wanted > 0 and not piece:
            raise EOFError("the archive ends within this file")
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
