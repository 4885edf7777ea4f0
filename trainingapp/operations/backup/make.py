"""Creating a backup."""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

import zstandard
from django.conf import settings
from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract.events import EVENTS_FILE, CheckpointSaved, read_events
from trainingapp.contract.run_directory import LOCK_FILE
from trainingapp.contract.storage.index import INDEX_FILE
from trainingapp.models import TrainingRun
from trainingapp.operations.backup.parts import (
    BATCH_ROWS,
    FORMAT,
    BackupError,
    ReportProgress,
    batches,
    files,
    folders,
    kept_models,
    migrations,
)
from trainingapp.supervision.trainers import PID_FILE

LINK_TRIES = 10


def make_backup(target: Path, report: ReportProgress = lambda name, size: None) -> int:
    """Write the backup to `target`, completely or not at all; returns its bytes. Raises BackupError and OSError."""
    if target.exists():
        raise BackupError(_("%(path)s exists already.") % {"path": target})
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("wb") as file:
            compressor = zstandard.ZstdCompressor(level=1)
            with (
                compressor.stream_writer(file, closefd=False) as stream,
                tarfile.open(fileobj=stream, mode="w|") as tar,
            ):
                _fill(_Writer(tar, report))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    size = target.stat().st_size
    audit.record("backup", details={"file": str(target), "bytes": size})
    return size


def size_to_back_up() -> int:
    """The approximate number of bytes that a backup reads, for a progress bar."""
    return sum(path.stat().st_size for root in folders().values() for path in files(root))


@dataclass
class _Writer:
    """Adds members to the tar archive and records their hashes."""

    tar: tarfile.TarFile
    report: ReportProgress
    hashes: dict[str, str] = field(default_factory=dict)
    #: The first member name of each file with several names, by device and inode.
    seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def add_bytes(self, name: str, content: bytes) -> None:
        self.add_stream(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path, size: int | None = None) -> None:
        """Add a file with its present length, or its first `size` bytes. A file that no longer exists is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            first = self.seen.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
            if first == name:
                self.add_stream(name, file, status.st_size if size is None else size, status.st_mtime)
                return
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.LNKTYPE, first
        self.tar.addfile(link)
        self.hashes[name] = self.hashes[first]

    def add_stream(self, name: str, file: IO[bytes], size: int, mtime: float = 0) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, mtime or time.time()
        hashing = _Hashing(file, size)
        self.tar.addfile(member, hashing)
        self.hashes[name] = hashing.hash.hexdigest()
        self.report(name, size)


class _Hashing:
    """A reader that computes the hash.

    It pads with zeros where a log was truncated while it was read: the header of the member already states its size.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.hash = hashlib.sha256()
        self._file, self._left = file, size

    def read(self, count: int = -1, /) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        data = self._file.read(count)
        data += b"\0" * (count - len(data))
        self._left -= len(data)
        self.hash.update(data)
        return data


def _fill(writer: _Writer) -> None:
    unfinished = TrainingRun.objects.filter(status__in=(TrainingRun.Status.RUNNING, TrainingRun.Status.QUEUED))
    with _snapshot():
        living = {str(pk) for pk in unfinished.values_list("pk", flat=True)}
        _add_rows(writer)
    writer.add_file("files/secret_key", Path(settings.DATA_DIR) / "secret_key")
    for part, root in folders().items():
        for path in files(root):
            inside = path.relative_to(root)
            if part == "runs" and inside.parts[0] in living:
                continue
            writer.add_file(f"files/{part}/{inside.as_posix()}", path)
    for name in sorted(living):
        _add_living_run(writer, folders()["runs"] / name)
    writer.add_bytes("hashes.json", json.dumps(writer.hashes).encode())


class _Exact(DjangoJSONEncoder):
    """Keeps microseconds; Django's own encoder rounds times to milliseconds."""

    def default(self, o: object) -> object:
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def _add_rows(writer: _Writer) -> None:
    counts: dict[str, int] = {}
    for model in kept_models():
        label = model._meta.label_lower
        counts[label] = 0
        # The header of a member states its size, which is known when all rows are serialized.
        with tempfile.TemporaryFile() as file:
            for batch in batches(model._default_manager.order_by("pk").iterator(chunk_size=BATCH_ROWS)):
                text = serializers.serialize(
                    "jsonl", batch, cls=_Exact, use_natural_foreign_keys=True, ensure_ascii=False
                )
                file.write(text.encode())
                counts[label] += len(batch)
            size = file.tell()
            file.seek(0)
            writer.add_stream(f"database/{label}.jsonl", file, size)
    about = {
        "format": FORMAT,
        "created": timezone.now().isoformat(),
        "migrations": sorted(f"{app}.{name}" for app, name in migrations()),
        "rows": counts,
    }
    writer.add_bytes("studio.json", json.dumps(about, indent=1).encode())


@contextmanager
def _snapshot() -> Iterator[None]:
    """Within it, this thread reads the database as of this moment, while other processes continue to write."""
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor != "sqlite":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
        return
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=".backup-") as folder:
        copy = Path(folder) / "studio.sqlite3"
        source = sqlite3.connect(connection.settings_dict["NAME"], timeout=60)
        target = sqlite3.connect(copy)
        source.backup(target)  # in one step: a reader of the write-ahead log does not block writers
        source.close()
        target.close()
        snapshot = connections.create_connection(DEFAULT_DB_ALIAS)
        snapshot.settings_dict = {**connection.settings_dict, "NAME": str(copy)}
        connections[DEFAULT_DB_ALIAS] = snapshot  # of this thread alone
        try:
            yield
        finally:
            snapshot.close()
            connections[DEFAULT_DB_ALIAS] = connection


def _add_living_run(writer: _Writer, folder: Path) -> None:
    """Add a run that may be training: its checkpoints as of one moment, and the events that belong to them."""
    if not folder.is_dir():
        return
    events, prefix = folder / EVENTS_FILE, f"files/runs/{folder.name}"
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".backup-") as aside:
        start = _size(events)
        linked = _linked(folder / "checkpoints", Path(aside))
        end = _matching_end(events, start, _size(events), linked / INDEX_FILE)
        for path in files(linked):
            writer.seen.pop(_inode(path), None)  # its link in `aside` made it look shared
            writer.add_file(f"{prefix}/checkpoints/{path.relative_to(linked).as_posix()}", path)
    writer.add_file(f"{prefix}/{EVENTS_FILE}", events, end)
    for path in files(folder):
        inside = path.relative_to(folder)
        if inside.parts[0] not in ("checkpoints", EVENTS_FILE, PID_FILE, LOCK_FILE):
            writer.add_file(f"{prefix}/{inside.as_posix()}", path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _matching_end(events: Path, start: int, end: int, index: Path) -> int:
    """The bytes of events that belong to the checkpoints, linked while the file grew from `start` to `end` bytes.

    The events must report every checkpoint of the backup, and none that is not part of it: a restored run would count
    as complete without its last epoch.
    """
    taken = {entry["sha256"] for entry in json.loads(index.read_text())} if index.exists() else set()
    reported = {
        event.sha256: offset
        for event, offset in read_events(events, 0, max_bytes=-1)
        if isinstance(event, CheckpointSaved) and offset <= end
    }
    if not taken <= reported.keys():  # the newest is not reported yet, so its trainer did nothing after saving it
        return end
    return max([start, *(reported[sha256] for sha256 in taken)])


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _linked(folder: Path, aside: Path) -> Path:
    """Link all files of a folder as of one moment; starts again where a file was added or removed meanwhile."""
    for attempt in range(LINK_TRIES):
        target = aside / str(attempt)
        target.mkdir()
        before = {path: _inode(path) for path in files(folder)}
        try:
            for path in before:
                (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target / path.relative_to(folder))
            if before == {path: _inode(path) for path in files(folder)}:
                return target
        except FileNotFoundError:
            continue
        except OSError:  # the file system does not support links
            shutil.copytree(folder, target, dirs_exist_ok=True)
            return target
    raise BackupError(_("The checkpoints in %(path)s change too quickly to be backed up.") % {"path": folder})
