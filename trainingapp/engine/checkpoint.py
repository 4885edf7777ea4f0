"""Checkpoints: written in the background, whole or not at all, and verified when they are loaded.

RUN_DIR/checkpoints holds epoch_{n}.pt (the end of an epoch), step_{n}.pt (within one) and index.json, the list of them,
oldest first. A file counts once it is in the index, with its hash. It is either a file that torch.load reads, or, by
default, a manifest whose tensors lie compressed in packs/, where what did not change is stored once (storage/).
"""

import hashlib
import os
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast

import torch

from trainingapp.contract import retention
from trainingapp.contract.errors import DiskFull, NonFiniteLoss, ReadOnly, is_disk_full, is_read_only
from trainingapp.contract.events import EVENTS_FILE, CheckpointSaved, EventLog
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.storage import (
    CHECKPOINT_DISK_FULL,
    CHECKPOINT_READ_ONLY,
    CHECKPOINT_SET_ASIDE,
    FILE_MISSING,
    HASH_MISMATCH,
    INDEX_CORRUPTED,
    NO_VALID_CHECKPOINT,
)
from trainingapp.contract.messages.training import DIVERGED, WEIGHTS_NOT_FINITE
from trainingapp.contract.retention import Policy
from trainingapp.contract.storage.durable import (
    CORRUPTED_SUFFIX,
    TEMPORARY_SUFFIX,
    Bytes,
    CorruptedFile,
    flush_folder,
    write_all,
)
from trainingapp.contract.storage.index import (
    INDEX_FILE,
    Entry,
    entries_by_events,
    prepared_index,
    read_index,
    write_index,
)
from trainingapp.contract.storage.manifest import Content, TensorSpec, leaves, manifest_bytes, mapped
from trainingapp.contract.storage.packs import PACKS_DIR, Packs, PackWriter
from trainingapp.contract.storage.plain import PIECE_BYTES, pt_pieces
from trainingapp.contract.storage.reading import (
    PLAIN_MAGIC,
    check_hash,
    damage,
    is_plain,
    open_checkpoint,
    open_manifest,
)
from trainingapp.contract.storage.sizes import own_bytes, parts_of
from trainingapp.engine.background_save import BackgroundWriter, Pace
from trainingapp.engine.checkpoint_content import CheckpointContent
from trainingapp.engine.stored_tensors import Copied, FlatCopy, is_finite, restored
from trainingapp.engine.waiting import is_alone

Form = Literal["compact", "plain"]
Result = TypeVar("Result")
#: Work that is done a piece at a time, and what comes of it.
Pieces = Generator[None, None, Result]
#: The hash of a file, and those of the records that it needs.
Written = tuple[str, list[str]]

#: The end of the event file in which the event of the newest checkpoint is searched.
EVENTS_TAIL_BYTES = 1 << 20
#: Seconds after which a stored tensor that a new checkpoint shares is read and compared again.
TRUSTED_S = 3600.0


@dataclass(frozen=True)
class Found:
    """A valid checkpoint and its content."""

    entry: Entry
    content: CheckpointContent


@dataclass(frozen=True)
class Keeping:
    """What stays, and by which metric checkpoints are compared."""

    policy: Policy = field(default_factory=Policy)
    metric: str = ""
    higher_is_better: bool = True


def load_checkpoint(path: Path) -> CheckpointContent:
    """What a checkpoint holds, compact or plain, on the CPU.

    Raises OSError, CorruptedFile, and for a file that is not a checkpoint the errors of torch.load.
    """
    return _loaded(path) if is_plain(path) else restored(open_checkpoint(path))


def load_stored(path: Path, sha256: str) -> CheckpointContent:
    """The same of a file that must have this hash. What is hashed is what is read, also when it is replaced meanwhile.

    Raises what `load_checkpoint` raises.
    """
    with path.open("rb") as file:
        check_hash(file, sha256)
        file.seek(0)
        begins_with = file.read(len(PLAIN_MAGIC))
        file.seek(0)
        if begins_with == PLAIN_MAGIC:
            return _loaded(file)
        return restored(open_manifest(file.read(), Packs(path.parent)))


def _loaded(source: Path | BinaryIO) -> CheckpointContent:
    content: CheckpointContent = torch.load(source, map_location="cpu", weights_only=True)
    return content


class CheckpointFolder:
    """Saves and finds the checkpoints of one run.

    `save` copies the state and returns; a thread writes it, and its failure is raised by the next call of
    `raise_failure`, `save` or `drain`.
    """

    def __init__(
        self, folder: Path, events: EventLog, keeping: Keeping | None = None, *, form: Form = "compact"
    ) -> None:
        self._folder, self._events = folder, events
        self._keeping, self._form = keeping or Keeping(), form
        folder.mkdir(exist_ok=True)
        self.warnings: list[Message] = []
        self._lost: list[str] = []
        self._entries, is_index_whole = self._read_index()
        self._packs = Packs(folder)
        self._parts = {entry.file: parts_of(folder, entry.file, self._packs) for entry in self._entries}
        self._clear_leftovers(unlisted_too=is_index_whole)
        self._reported_bytes: dict[str, int] = {}
        self._trusted_until: dict[str, float] = {}
        self._copy = FlatCopy()
        self._writer = BackgroundWriter()
        self._unsaved = ""

    @property
    def run_dir(self) -> Path:
        return self._folder.parent

    @property
    def unsaved(self) -> str:
        """The file that is being written and is not on the disk yet; empty when there is none."""
        return self._unsaved if self._writer.is_writing else ""

    # Finding

    def newest_valid(self) -> Found | None:
        """The newest checkpoint whose hashes match. Corrupted newer ones are set aside; `warnings` names them."""
        while self._entries:
            entry = self._entries[-1]
            try:
                return Found(entry, self._load(entry))
            except CorruptedFile as wrong:
                self.warnings.append(CHECKPOINT_SET_ASIDE(file=entry.file, damage=wrong.message))
                path = self._folder / entry.file
                if path.exists():
                    path.rename(path.with_name(path.name + CORRUPTED_SUFFIX))
                self._lost.append(entry.file)
                self._entries.remove(entry)
                self._parts.pop(entry.file, None)
                write_index(self._folder, self._entries)
        if self.warnings:
            self.warnings.append(NO_VALID_CHECKPOINT())
        return None

    def announce_newest(self) -> None:
        """Write the event of the newest checkpoint if a kill came between saving it and writing the event."""
        if not self._entries:
            return
        with (self.run_dir / EVENTS_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - EVENTS_TAIL_BYTES))
            tail = file.read()
        if self._entries[-1].sha256.encode() not in tail:
            self._announce(self._entries[-1], removed=[])

    def _load(self, entry: Entry) -> CheckpointContent:
        """Every byte that is used is verified: the file here, records of packs when they are read."""
        path = self._folder / entry.file
        if not path.exists():
            raise CorruptedFile(FILE_MISSING())
        if is_plain(path):
            if wrong := damage(path, entry.sha256):
                raise CorruptedFile(wrong)
            return load_checkpoint(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            raise CorruptedFile(HASH_MISMATCH())
        return restored(open_checkpoint(path, self._packs))

    def _read_index(self) -> tuple[list[Entry], bool]:
        """The entries, and whether the index existed and was valid."""
        path = self._folder / INDEX_FILE
        try:
            return read_index(self._folder), path.exists()
        except (ValueError, TypeError) as error:
            path.rename(path.with_name(path.name + CORRUPTED_SUFFIX))
            entries = entries_by_events(self._folder)
            self.warnings.append(INDEX_CORRUPTED(path=str(path), error=str(error), count=len(entries)))
            write_index(self._folder, entries)
            return entries, False

    def _clear_leftovers(self, *, unlisted_too: bool) -> None:
        """Remove what a kill has left: partial files, files without an entry in the index, and unused packs."""
        for folder in (self._folder, self._folder / PACKS_DIR):
            for leftover in folder.glob(f"*{TEMPORARY_SUFFIX}"):
                leftover.unlink()
        if not unlisted_too:
            return
        listed = {entry.file for entry in self._entries}
        for path in self._folder.glob("*.pt"):
            if path.name not in listed:
                self._events.check()  # it may be new
                path.unlink()
        self._sweep()

    # Saving

    def save(self, content: CheckpointContent, *, file: str, reason: str) -> None:
        """Copy `content` and have it written as `file`. Waits only for the copy and for an earlier save."""
        self.drain()
        began_at = time.monotonic()
        planned = entry_of(content, file=file, reason=reason)
        tree = self._copy.take(content)
        total_bytes = sum(len(copied.raw) for copied in leaves(tree, Copied))
        pace = Pace(total_bytes, alone=is_alone(), began_at=began_at)
        self._unsaved = file
        self._writer.begin(self._checked(self._write(tree, planned, pace)), pace)

    def _checked(self, pieces: Pieces[None]) -> Pieces[None]:
        """The same pieces, none of which begins once a later attempt has the folder: names are used again there.

        Raises Superseded.
        """
        for _piece in pieces:
            yield
            self._events.check()

    def drain(self) -> None:
        """Finish the save in progress; it is on the disk afterwards."""
        self._writer.finish()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error of a save in the background: DiskFull, NonFiniteLoss or another."""
        failure = self._writer.failure
        if failure is None:
            return
        if is_disk_full(failure):
            raise DiskFull(CHECKPOINT_DISK_FULL()) from failure
        if is_read_only(failure):
            raise ReadOnly(CHECKPOINT_READ_ONLY(error=str(failure))) from failure
        raise failure

    def _write(self, tree: Content, planned: Entry, pace: Pace) -> Pieces[None]:
        """All of a save, a piece at a time. `tree` has a `Copied` for each tensor."""
        file = planned.file
        for name, copied in cast(dict[str, Copied], tree["model_state_dict"]).items():
            for start in range(0, len(copied.raw), PIECE_BYTES):
                if not is_finite(copied.raw[start : start + PIECE_BYTES], copied.spec.dtype):
                    raise NonFiniteLoss(DIVERGED(fact=WEIGHTS_NOT_FINITE(tensor=name)))
                yield
        temporary = self._folder / (file + TEMPORARY_SUFFIX)
        try:
            if self._form == "plain":
                sha256, records = yield from self._write_plain(tree, temporary)
            else:
                sha256, records = yield from self._write_compact(tree, temporary, pace)
            found = [record for key in records if (record := self._packs.find(key))]
            parts = {file: temporary.stat().st_size, **{record.sha256: record.size for record in found}}
            entry = replace(planned, size_bytes=sum(parts.values()), sha256=sha256)
            removed = self._take_in(entry, parts, temporary)
        except OSError:
            self._events.check()
            temporary.unlink(missing_ok=True)
            self._sweep()
            raise
        self._unsaved = ""
        self._announce(entry, removed=removed)
        yield
        yield from self._repacked()

    def _write_plain(self, content: Content, path: Path) -> Pieces[Written]:
        """Write a file for torch.load; returns its hash, and no record."""
        numbered = iter(range(sys.maxsize))
        raws: dict[str, memoryview] = {}

        def spec(copied: Copied) -> TensorSpec:
            key = str(next(numbered))
            raws[key] = copied.raw
            return copied.keyed(key)

        tree = cast(Content, mapped(content, Copied, spec))
        return (yield from _written(path, pt_pieces(tree, lambda found: raws[found.key]))), []

    def _write_compact(self, content: Content, path: Path, pace: Pace) -> Pieces[Written]:
        """Write new tensors into a pack, then the manifest; returns its hash and those of the records it needs."""
        keys = []
        writer = self._packs.new_pack()
        try:
            for copied in leaves(content, Copied):
                keys.append((yield from self._store(copied, writer, pace)))
                pace.bytes_left -= len(copied.raw)
            self._events.check()
            self._packs.add(writer)
        finally:
            writer.discard()
        yield
        keyed = iter(keys)
        tree = mapped(content, Copied, lambda copied: copied.keyed(next(keyed)))
        return (yield from _written(path, [manifest_bytes(tree)])), keys

    def _store(self, copied: Copied, writer: PackWriter, pace: Pace) -> Pieces[str]:
        """Write the tensor into the pack unless it is there, or in an earlier pack; returns its SHA-256.

        It is compressed only while there is time for that.
        """
        hashing = hashlib.sha256()
        for start in range(0, len(copied.raw), PIECE_BYTES):
            hashing.update(copied.raw[start : start + PIECE_BYTES])
            yield
        sha256 = hashing.hexdigest()
        now = time.monotonic()
        if sha256 in writer or (now < self._trusted_until.get(sha256, 0.0) and self._packs.is_there(sha256)):
            return sha256
        # A new checkpoint must not depend on an old record that the disk has lost meanwhile: it is read again, and
        # written again where it is corrupted.
        if sha256 in self._packs:
            try:
                self._packs.read(sha256)
            except CorruptedFile:
                self._packs.forget(sha256)
        if sha256 not in self._packs:
            yield from writer.write(copied.raw, copied.spec.width, sha256, compressed=not pace.is_late())
        self._trusted_until[sha256] = now + TRUSTED_S
        return sha256

    def _take_in(self, new: Entry, parts: dict[str, int], temporary: Path) -> list[str]:
        """Rename the file, add it to the index and remove what need not be kept; returns the removed files."""
        entries = [entry.without_best() if new.is_best else entry for entry in self._entries if entry.file != new.file]
        entries.append(new)
        keeping = self._keeping
        with retention.held_pins(self._folder.parent) as pins:
            all_parts = {**self._parts, new.file: parts}
            metric, policy, higher_is_better = keeping.metric, keeping.policy, keeping.higher_is_better
            items = [entry.item(metric, is_pinned=entry.file in pins, parts=all_parts[entry.file]) for entry in entries]
            kept_files = retention.choose(items, policy, now=time.time(), higher_is_better=higher_is_better).kept
            kept = [entry for entry in entries if entry.file in kept_files]
            # The index is already on the disk when the file gets its name, and one flush of the folder covers both
            # renames. A crash between them leaves a file that the index does not list: it is removed at the next start.
            self._events.check()
            index = prepared_index(self._folder, kept)
            temporary.replace(self._folder / new.file)
            index.replace(self._folder / INDEX_FILE)
            flush_folder(self._folder)
            removed = [entry.file for entry in entries if entry.file not in kept_files]
            for name in removed:
                (self._folder / name).unlink(missing_ok=True)
        self._entries = kept
        self._parts = {entry.file: all_parts[entry.file] for entry in kept}
        gone = [name for name in self._lost if name != new.file] + removed
        self._lost = []
        return gone

    def _sweep(self) -> None:
        for _piece in self._repacked():
            pass

    def _repacked(self) -> Pieces[None]:
        """Remove packs that are not needed, and the unused part of others. This can wait where the disk is full."""
        try:
            yield from self._packs.sweep({name for parts in self._parts.values() for name in parts})
        except OSError as error:
            if not is_disk_full(error):
                raise

    def _announce(self, entry: Entry, *, removed: list[str]) -> None:
        own = own_bytes(self._parts)
        event = CheckpointSaved(
            file=entry.file,
            step_in_epoch=entry.step_in_epoch,
            reason=entry.reason,
            size_bytes=entry.size_bytes,
            sha256=entry.sha256,
            metrics=entry.metrics,
            is_best=entry.is_best,
            removed=removed,
            stored_bytes={file: size for file, size in own.items() if self._reported_bytes.get(file) != size},
        )
        self._events.write(event, epoch=entry.epoch, step=entry.step)
        self._reported_bytes = own


def _written(path: Path, pieces: Iterable[Bytes]) -> Pieces[str]:
    """Write and flush to the disk; returns the SHA-256. Raises OSError."""
    hashing = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for piece in pieces:
            hashing.update(piece)
            write_all(descriptor, [piece])
            yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashing.hexdigest()


def entry_of(content: CheckpointContent, *, file: str, reason: str, size_bytes: int = 0) -> Entry:
    """The entry of the index for a checkpoint whose hash is not known yet."""
    return Entry(
        file=file,
        epoch=content["epoch"],
        step=content["step"],
        step_in_epoch=content["step_in_epoch"],
        attempt=content["attempt"],
        reason=reason,
        size_bytes=size_bytes,
        sha256="",
        metrics=content["metrics"],
        is_best=content["is_best"],
        time=content["timestamp"],
    )
