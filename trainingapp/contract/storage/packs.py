"""Packs: files with the tensors of checkpoints, found by the hash of what they hold (no torch).

checkpoints/packs/{number}.pack holds one record after another: a header with the hash of the numbers, then their chunks
(planes.py). A checkpoint names its tensors by hash alone, so one that did not change is stored once, and a pack can be
rewritten with what is still needed without a change in any checkpoint. A record is self-contained.
"""

import hashlib
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainingapp.contract.messages.storage import (
    PACK_HASH_MISMATCH,
    PACK_MISSING,
    PACK_TRUNCATED,
    TENSOR_MISSING,
)
from trainingapp.contract.storage.durable import TEMPORARY_SUFFIX, Bytes, CorruptedFile, flush_folder, write_all
from trainingapp.contract.storage.planes import decoded, encoded_chunks, plain_chunks

PACKS_DIR = "packs"
PACK_SUFFIX = ".pack"
#: Magic number, bytes of a number, bytes of all numbers, stored bytes after the header, SHA-256 of the numbers.
HEADER = struct.Struct("<4sIQQ32s")
MAGIC = b"CVS1"
MAX_WIDTH = 16


@dataclass(frozen=True)
class Record:
    """Where a tensor is stored. `size` includes the header."""

    sha256: str
    width: int
    raw_bytes: int
    pack: str
    offset: int
    size: int


@dataclass(frozen=True)
class Sweep:
    """What can be removed: unused packs, and those worth rewriting, by name with their sizes before and after."""

    removed: dict[str, int]
    repacked: dict[str, tuple[int, int]]

    @property
    def freed_bytes(self) -> int:
        return sum(self.removed.values()) + sum(before - after for before, after in self.repacked.values())


class Packs:
    """The packs of one folder, as they were when it was opened and as this object has changed them since.

    Several packs may hold the same record: the newest is taken.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.folder = checkpoints / PACKS_DIR
        self._sizes: dict[str, int] = {}
        self._records: dict[str, dict[str, Record]] = {}
        for path in sorted(self.folder.glob(f"*{PACK_SUFFIX}")):
            self._take_in(path.name)

    def __contains__(self, sha256: str) -> bool:
        return self.find(sha256) is not None

    def find(self, sha256: str) -> Record | None:
        """The newest record of these numbers."""
        tables = reversed(self._records.values())
        return next((table[sha256] for table in tables if sha256 in table), None)

    def forget(self, sha256: str) -> None:
        """Stop using the stored copies of these numbers: the next save stores them again."""
        for table in self._records.values():
            table.pop(sha256, None)

    def read(self, sha256: str) -> bytearray:
        """The numbers with this hash, from the first copy that is valid. Raises CorruptedFile."""
        problem = CorruptedFile(TENSOR_MISSING())
        for table in reversed(self._records.values()):
            if sha256 in table:
                try:
                    return read_record(self.folder, table[sha256])
                except CorruptedFile as error:
                    problem = error
        raise problem

    def is_there(self, sha256: str) -> bool:
        """Whether the pack that should hold these numbers still has its size; quick, and no proof."""
        record = self.find(sha256)
        if record is None:
            return False
        path = self.folder / record.pack
        return path.exists() and path.stat().st_size == self._sizes[record.pack]

    def without(self, needed: Collection[str]) -> list[Path]:
        """The packs that hold none of these numbers, not even an older copy of them."""
        hashes = set(needed)
        return [self.folder / name for name, table in self._records.items() if hashes.isdisjoint(table)]

    def new_pack(self) -> "PackWriter":
        self.folder.mkdir(exist_ok=True)
        newest = max((int(Path(name).stem) for name in self._records), default=0)
        return PackWriter(self.folder, f"{newest + 1:06d}{PACK_SUFFIX}")

    def add(self, writer: "PackWriter") -> None:
        """Finish the pack and take it in; one without records is not kept. Raises OSError."""
        if writer.finish():
            self._take_in(writer.name)

    def plan(self, needed: Collection[str]) -> Sweep:
        """What can be removed if only these hashes are needed: whole packs, and the unused part of some."""
        live = dict.fromkeys(self._records, 0)
        for sha256 in set(needed):
            record = self.find(sha256)
            if record is not None:
                live[record.pack] += record.size
        removed = {name: self._sizes[name] for name, size in live.items() if not size}
        half_unused = {
            name: (self._sizes[name], size) for name, size in live.items() if 0 < 2 * size < self._sizes[name]
        }
        return Sweep(removed, half_unused)

    def sweep(self, needed: Collection[str]) -> Iterator[None]:
        """Carry out `plan`, piece by piece. A crash in between leaves a record twice, never none. Raises OSError."""
        plan = self.plan(needed)
        for name in plan.removed:
            self._drop(name)
        yield
        for name in plan.repacked:
            records = [record for record in self._records[name].values() if self.find(record.sha256) == record]
            yield from self._repack(name, [record for record in records if record.sha256 in needed])
        if plan.removed or plan.repacked:
            flush_folder(self.folder)

    def _repack(self, name: str, records: list[Record]) -> Iterator[None]:
        """Copy the records into a new pack as they are stored; a pack that cannot be read is not changed."""
        writer = self.new_pack()
        try:
            for record in records:
                writer.copy(read_stored(self.folder, record))
                yield
            self.add(writer)
            self._drop(name)
        except CorruptedFile:
            return
        finally:
            writer.discard()

    def _drop(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        del self._records[name], self._sizes[name]

    def _take_in(self, name: str) -> None:
        path = self.folder / name
        self._sizes[name] = path.stat().st_size
        self._records[name] = {record.sha256: record for record in read_table(path)}


class PackWriter:
    """Writes one pack under a temporary name until `finish`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path, self._temporary = folder / name, folder / (name + TEMPORARY_SUFFIX)
        self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._size = 0
        self._written: set[str] = set()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._written

    def write(self, raw: Bytes, width: int, sha256: str, *, compressed: bool = True) -> Iterator[None]:
        """Add a record, a chunk at a time. Raises OSError.

        One that is not `compressed` has numbers of one byte: a single plane, the numbers as they are.
        """
        start, width = self._size, width if compressed else 1
        self._size += write_all(self._descriptor, [bytes(HEADER.size)])
        for parts in encoded_chunks(raw, width) if compressed else plain_chunks(raw):
            self._size += write_all(self._descriptor, parts)
            yield
        stored = self._size - start - HEADER.size
        os.pwrite(self._descriptor, HEADER.pack(MAGIC, width, len(raw), stored, bytes.fromhex(sha256)), start)
        self._written.add(sha256)

    def copy(self, stored: Bytes) -> None:
        """Add a record as another pack holds it."""
        self._size += write_all(self._descriptor, [stored])

    def finish(self) -> bool:
        """Bring the pack to the disk under its name; whether there is anything in it. Raises OSError."""
        if not self._size:
            return False
        os.fsync(self._descriptor)
        self._temporary.rename(self._path)
        os.close(self._descriptor)
        self._descriptor = -1
        flush_folder(self._path.parent)
        return True

    def discard(self) -> None:
        """Leave nothing behind of a pack that is not finished."""
        if self._descriptor >= 0:
            is_there = os.fstat(self._descriptor).st_nlink > 0  # else the name may be that of a later attempt's pack
            os.close(self._descriptor)
            self._descriptor = -1
            if is_there:
                self._temporary.unlink(missing_ok=True)


def read_table(path: Path) -> Iterator[Record]:
    """The records of a pack, as far as their headers make sense: what comes after a torn place is not found."""
    with path.open("rb", buffering=0) as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while len(header := os.pread(file.fileno(), HEADER.size, offset)) == HEADER.size:
            magic, width, raw_bytes, stored, digest = HEADER.unpack(header)
            whole = HEADER.size + stored
            if magic != MAGIC or not 0 < width <= MAX_WIDTH or raw_bytes % width or offset + whole > size:
                return
            yield Record(digest.hex(), width, raw_bytes, path.name, offset, whole)
            offset += whole


def read_stored(folder: Path, record: Record) -> bytearray:
    """The bytes of a record with its header. Raises CorruptedFile where the pack is gone or cut short."""
    stored = bytearray(record.size)
    try:
        with (folder / record.pack).open("rb", buffering=0) as file:
            file.seek(record.offset)
            view = memoryview(stored)
            while view and (count := file.readinto(view)):
                view = view[count:]
    except FileNotFoundError:
        raise CorruptedFile(PACK_MISSING(pack=record.pack)) from None
    if view:
        raise CorruptedFile(PACK_TRUNCATED(pack=record.pack))
    return stored


def read_record(folder: Path, record: Record) -> bytearray:
    """The numbers of a record. Raises CorruptedFile where they are not those that were written."""
    stored = read_stored(folder, record)
    raw = decoded(memoryview(stored)[HEADER.size :], record.width, record.raw_bytes)
    if hashlib.sha256(raw).hexdigest() != record.sha256:
        raise CorruptedFile(PACK_HASH_MISMATCH(pack=record.pack))
    return raw
