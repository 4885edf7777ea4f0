"""Files that are whole or not there: temporary, flushed, renamed, and the folder flushed after (no torch)."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from trainingapp.contract.messages import MessageError

#: A save is promised to be on the disk within so many seconds, or that multiple of the time that a plain synchronous
#: save of the same content takes, whichever is more.
DURABLE_WITHIN_S = 5.0
DURABLE_RATIO = 3.0
TEMPORARY_SUFFIX = ".tmp"
CORRUPTED_SUFFIX = ".damaged"

Bytes = bytes | bytearray | memoryview


class CorruptedFile(MessageError, ValueError):
    """A stored file is not what was written. The message completes a sentence that begins with the file's name."""


def write_all(descriptor: int, parts: Iterable[Bytes]) -> int:
    """Write all of `parts`, however little the system takes at a time; returns the number of bytes. Raises OSError.

    os.write is called without Python's own buffering: it leaves the interpreter to the other threads meanwhile.
    """
    total = 0
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            written = os.write(descriptor, view)
            view, total = view[written:], total + written
    return total


def write_durably(path: Path, parts: Iterable[Bytes]) -> None:
    """Write the file so that it is whole under its name after any crash, or not there. Raises OSError."""
    prepared(path, parts).replace(path)
    flush_folder(path.parent)


def prepared(path: Path, parts: Iterable[Bytes]) -> Path:
    """Write and flush the content to a temporary file beside it: renaming it needs no further space. Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_all(descriptor, parts)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, CorruptedFile):  # parts may be read from what is damaged
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def flush_folder(folder: Path) -> None:
    """Bring a rename to the disk: it is a change of the folder, not of the file."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Bring a written file, and its name, to the disk."""
    _sync(path)
    _sync(path.parent)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_writable(folder: Path) -> bool:
    """Whether `folder`, or the nearest folder above it that exists, can be written to."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
