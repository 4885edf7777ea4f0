"""Checkpoints: written beside the loop, whole or not at all, and found sound again.

RUN_DIR/checkpoints holds epoch_{n}.pt (the end of an epoch), step_{n}.pt (within one) and index.json, the list of them,
oldest first. A file counts once it is in the index, with its hash.
"""

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from trainingapp.engine.errors import DiskFull, NonFiniteLoss, is_disk_full
from trainingapp.engine.events import EVENTS_FILE, EventLog, read_events

INDEX_FILE = "index.json"
TEMPORARY_SUFFIX = ".tmp"
DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Entry:
    """One checkpoint in the index. `step` counts optimizer steps of the run, `step_in_epoch` those of its epoch."""

    file: str
    epoch: int
    step: int
    step_in_epoch: int
    attempt: int
    reason: str
    size_bytes: int
    sha256: str
    metrics: dict[str, float]
    is_best: bool
    time: float


@dataclass(frozen=True)
class Found:
    """A sound checkpoint and what is in it."""

    entry: Entry
    content: dict[str, Any]


class CheckpointFolder:
    """Saves and finds the checkpoints of one run.

    `save` copies the state and returns; a thread writes it, and its failure is raised by the next call of
    `raise_failure`, `save` or `drain`.
    """

    def __init__(self, folder: Path, keep: int, events: EventLog) -> None:
        self._folder, self._keep, self._events = folder, keep, events
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
        self.warnings: list[str] = []
        self._entries = self._read_index()
        self._lost: list[str] = []
        self._buffer: Any = None
        self._failure: OSError | NonFiniteLoss | None = None
        self._thread: threading.Thread | None = None

    @property
    def run_dir(self) -> Path:
        return self._folder.parent

    # Finding

    def newest_sound(self) -> Found | None:
        """The newest checkpoint whose hash holds. Others that are newer are set aside, with a line in `warnings`."""
        while self._entries:
            entry = self._entries[-1]
            wrong = self._damage(entry)
            if not wrong:
                content = torch.load(self._folder / entry.file, map_location="cpu", weights_only=True)
                return Found(entry, content)
            self.warnings.append(f"Checkpoint {entry.file} {wrong}; it is set aside and the one before it is used.")
            self._set_aside(entry)
        if self.warnings:
            self.warnings.append("No sound checkpoint is left: the run starts from its beginning.")
        return None

    def announce_newest(self, events_tail: bytes) -> None:
        """Write the event of the newest checkpoint if a kill came between saving and saying so."""
        if self._entries and self._entries[-1].sha256.encode() not in events_tail:
            self._announce(self._entries[-1], removed=[])

    def _damage(self, entry: Entry) -> str:
        path = self._folder / entry.file
        if not path.exists():
            return "is missing"
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        return "" if whole else "is damaged (its hash does not hold)"

    def _set_aside(self, entry: Entry) -> None:
        path = self._folder / entry.file
        if path.exists():
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
        self._lost.append(entry.file)
        self._entries.remove(entry)
        self._write_index(self._entries)

    def _read_index(self) -> list[Entry]:
        path = self._folder / INDEX_FILE
        try:
            return [Entry(**values) for values in json.loads(path.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
            entries = self._entries_by_events()
            self.warnings.append(f"{path} is damaged ({error}); the events of the run name {len(entries)} checkpoints.")
            self._write_index(entries)
            return entries

    def _entries_by_events(self) -> list[Entry]:
        """The checkpoints that are there, by what was said when they were saved, oldest first."""
        found: dict[str, Entry] = {}
        events = (event for event, _end in read_events(self._folder.parent / EVENTS_FILE, 0, max_bytes=-1))
        for event in events:
            if event["type"] == "checkpoint" and (self._folder / event["file"]).exists():
                found.pop(event["file"], None)
                if event["is_best"]:
                    found = {file: _without_best(entry) for file, entry in found.items()}
                found[event["file"]] = Entry(**{item.name: event[item.name] for item in fields(Entry)})
        return list(found.values())

    # Saving

    def save(self, content: dict[str, Any], *, file: str, reason: str) -> None:
        """Copy `content` and have it written as `file`. Waits only for the copy, and for an earlier save still going.

        `content` holds at least epoch, step, step_in_epoch, attempt, metrics, is_best and timestamp.
        """
        self.drain()
        self._buffer = _copied(content, self._buffer)  # the memory of the last copy is used again: fresh pages are slow
        # A thread for each save: one that stays keeps its OpenMP team, and the loop's threads never spin (waiting.py).
        job = (self._buffer, file, reason)
        self._thread = threading.Thread(target=self._write_or_remember, args=job, name="checkpoint", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Wait until everything handed over is on the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what went wrong in the writing thread: DiskFull, NonFiniteLoss or another OSError."""
        failure = self._failure
        if failure is None:
            return
        if is_disk_full(failure):
            free_text = "No checkpoint was lost. Free some space, then resume the run."
            raise DiskFull(f"The disk is full: a checkpoint could not be written. {free_text}") from failure
        raise failure

    def _write_or_remember(self, content: dict[str, Any], file: str, reason: str) -> None:
        try:
            self._write(content, file, reason)
        except (OSError, NonFiniteLoss) as error:
            self._failure = error

    def _write(self, content: dict[str, Any], file: str, reason: str) -> None:
        _check_finite(content["model_state_dict"])
        temporary = self._folder / (file + TEMPORARY_SUFFIX)
        try:
            size_bytes, sha256 = _write_durably(content, temporary)
            temporary.rename(self._folder / file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(self._folder)
        entry = Entry(file=file, reason=reason, size_bytes=size_bytes, sha256=sha256, **_facts(content))
        self._announce(entry, removed=self._take_in(entry))

    def _take_in(self, new: Entry) -> list[str]:
        """Put `new` into the index, remove what need not be kept, and name what is gone."""
        entries = [_without_best(entry) if new.is_best else entry for entry in self._entries if entry.file != new.file]
        entries.append(new)
        kept = [entry for entry in entries[: -self._keep] if entry.is_best] + entries[-self._keep :]
        removed = [entry.file for entry in entries if entry not in kept]
        self._write_index(kept)
        self._entries = kept
        for name in removed:
            (self._folder / name).unlink(missing_ok=True)
        gone = [name for name in self._lost if name != new.file] + removed
        self._lost = []
        return gone

    def _write_index(self, entries: list[Entry]) -> None:
        temporary = self._folder / (INDEX_FILE + TEMPORARY_SUFFIX)
        try:
            with temporary.open("w") as file:
                json.dump([asdict(entry) for entry in entries], file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._folder / INDEX_FILE)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(self._folder)

    def _announce(self, entry: Entry, *, removed: list[str]) -> None:
        self._events.write(
            "checkpoint",
            epoch=entry.epoch,
            step=entry.step,
            step_in_epoch=entry.step_in_epoch,
            file=entry.file,
            reason=entry.reason,
            size_bytes=entry.size_bytes,
            sha256=entry.sha256,
            metrics=entry.metrics,
            is_best=entry.is_best,
            removed=removed,
        )


class _HashingFile:
    """Gives torch.save a file, and remembers the hash, the size and the error that torch would hide in another."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        try:
            written = 0
            while written < len(view):
                written += self._file.write(view[written:])
        except OSError as error:
            self.error = error
            raise
        self.hash.update(view)
        self.size_bytes += len(view)
        return len(view)

    def flush(self) -> None:
        self._file.flush()


def _write_durably(content: dict[str, Any], path: Path) -> tuple[int, str]:
    """Write and flush to the disk; returns the size in bytes and the SHA-256. Raises OSError."""
    with path.open("wb", buffering=0) as file:
        hashing = _HashingFile(file)
        try:
            torch.save(content, hashing)  # type: ignore[arg-type]
        except (RuntimeError, OSError):
            if hashing.error is not None:
                raise hashing.error from None
            raise
        os.fsync(file.fileno())
    return hashing.size_bytes, hashing.hash.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk: it is a change of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copied(value: Any, buffer: Any) -> Any:
    """`value` with every tensor copied to the CPU, into the tensors of `buffer` where they fit."""
    if isinstance(value, torch.Tensor):
        fits = isinstance(buffer, torch.Tensor) and (buffer.shape, buffer.dtype, buffer.stride()) == (
            value.shape,
            value.dtype,
            value.stride(),
        )
        return buffer.copy_(value.detach()) if fits else value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        old = buffer if isinstance(buffer, dict) else {}
        return {key: _copied(item, old.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        old_items = buffer if isinstance(buffer, list) and len(buffer) == len(value) else [None] * len(value)
        return [_copied(item, old) for item, old in zip(value, old_items, strict=True)]
    return value


def _check_finite(state: dict[str, Any]) -> None:
    """A sum shows NaN and infinity as well as a look at each number does, and takes a fifth of the time."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            raise NonFiniteLoss(non_finite_message(f"The weights {name} are not finite any more"))


def non_finite_message(what: str) -> str:
    return f"{what}: training has diverged. Lower learning_rate, lengthen warmup_epochs, or turn off amp."


def _facts(content: dict[str, Any]) -> dict[str, Any]:
    names = ("epoch", "step", "step_in_epoch", "attempt", "metrics", "is_best")
    return {**{name: content[name] for name in names}, "time": content["timestamp"]}


def _without_best(entry: Entry) -> Entry:
    return Entry(**{**asdict(entry), "is_best": False})
