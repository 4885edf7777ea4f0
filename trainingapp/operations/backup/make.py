"""Making a backup."""

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
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
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
    Tell,
    batches,
    files,
    folders,
    kept_models,
    migrations,
)
from trainingapp.supervision.trainers import PID_FILE

LINK_TRIES = 10


def make_backup(target: Path, tell: Tell = lambda name, size: None) -> int:
    """Write the backup to `target` (whole or not at all); returns its size in bytes. Raises BackupError and OSError."""
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
                _fill(_Writer(tar, tell))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    size = target.stat().st_size
    audit.record("backup", details={"file": str(target), "bytes": size})
    return size


def size_to_back_up() -> int:
    """About the bytes that a backup reads, for a progress bar."""
    return sum(path.stat().st_size for root in folders().values() for path in files(root))


@dataclass
class _Writer:
    """Adds members to the tar and remembers their hashes."""

    tar: tarfile.TarFile
    tell: Tell
    hashes: dict[str, str] = field(default_factory=dict)
    #: Files that were seen under another name already, by device and inode.
    seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def add_bytes(self, name: str, content: bytes) -> None:
        self.add_stream(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path, size: int | None = None) -> None:
        """A file as long as it is now, or its first `size` bytes; one that went meanwhile is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            first = self.seen.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
            if first != name:
                self._link(name, first)
                return
            self.add_stream(name, file, status.st_size if size is None else size, status.st_mtime)

    def _link(self, name: str, first: str) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.LNKTYPE, first
        self.tar.addfile(member)
        self.hashes[name] = self.hashes[first]

    def add_stream(self, name: str, file: IO[bytes], size: int, mtime: float = 0) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, mtime or time.time()
        hashing = _Hashing(file, size)
        self.tar.addfile(member, hashing)
        self.hashes[name] = hashing.hash.hexdigest()
        self.tell(name, size)


class _Hashing:
    """A reader that hashes, and that gives zeros where a log was cut shorter while it was read."""

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
    with _snapshot():
        in_work = set(_unfinished_runs())
        _add_rows(writer)
    writer.add_file("files/secret_key", Path(settings.DATA_DIR) / "secret_key")
    for part, root in folders().items():
        for path in files(root):
            inside = path.relative_to(root)
            if part == "runs" and inside.parts[0] in in_work:
                continue
            writer.add_file(f"files/{part}/{inside.as_posix()}", path)
    for name in sorted(in_work):
        _add_living_run(writer, folders()["runs"] / name)
    writer.add_bytes("hashes.json", json.dumps(writer.hashes).encode())


def _unfinished_runs() -> Iterator[str]:
    statuses = (TrainingRun.Status.RUNNING, TrainingRun.Status.QUEUED)
    runs = TrainingRun.objects.filter(status__in=statuses)
    yield from (str(pk) for pk in runs.values_list("pk", flat=True))


def _add_rows(writer: _Writer) -> None:
    counts: dict[str, int] = {}
    for model in kept_models():
        with tempfile.TemporaryFile() as file:
            counts[model._meta.label_lower] = _write_rows(model, file)
            size = file.tell()
            file.seek(0)
            writer.add_stream(f"database/{model._meta.label_lower}.jsonl", file, size)
    about = {
        "format": FORMAT,
        "created": timezone.now().isoformat(),
        "migrations": sorted(f"{app}.{name}" for app, name in migrations()),
        "rows": counts,
    }
    writer.add_bytes("studio.json", json.dumps(about, indent=1).encode())


class _Exact(DjangoJSONEncoder):
    """Django's own cuts times to milliseconds."""

    def default(self, o: object) -> object:
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def _write_rows(model: type[models.Model], file: IO[bytes]) -> int:
    count = 0
    rows = model._default_manager.order_by("pk").iterator(chunk_size=BATCH_ROWS)
    for batch in batches(rows):
        text = serializers.serialize("jsonl", batch, cls=_Exact, use_natural_foreign_keys=True, ensure_ascii=False)
        file.write(text.encode())
        count += len(batch)
    return count


@contextmanager
def _snapshot() -> Iterator[None]:
    """Within: this thread reads the database as it is at this moment, while the studio goes on writing."""
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
        source.backup(target)  # in one go: a reader of the write-ahead log keeps nobody waiting
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
    """A run that a trainer may be at: its checkpoints of one moment, and the events that belong to them."""
    if not folder.is_dir():
        return
    events, place = folder / EVENTS_FILE, f"files/runs/{folder.name}"
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".backup-") as aside:
        start = _size(events)
        linked = _linked(folder / "checkpoints", Path(aside))
        end = _matching_end(events, start, _size(events), linked / INDEX_FILE)
        for path in files(linked):
            writer.seen.pop(_place(path), None)  # the extra name made it look shared
            writer.add_file(f"{place}/checkpoints/{path.relative_to(linked).as_posix()}", path)
    writer.add_file(f"{place}/{EVENTS_FILE}", events, end)
    for path in files(folder):
        inside = path.relative_to(folder)
        if inside.parts[0] not in ("checkpoints", EVENTS_FILE, PID_FILE, LOCK_FILE):
            writer.add_file(f"{place}/{inside.as_posix()}", path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _matching_end(events: Path, start: int, end: int, index: Path) -> int:
    """Up to which byte the events belong to the checkpoints taken while their file grew from `start` to `end`.

    What a taken checkpoint holds must have been told, and nothing may be told as saved that was not taken: a run would
    be complete without its last epoch.
    """
    taken = {entry["sha256"] for entry in json.loads(index.read_text())} if index.exists() else set()
    told = {
        event.sha256: offset
        for event, offset in read_events(events, 0, max_bytes=-1)
        if isinstance(event, CheckpointSaved) and offset <= end
    }
    if not taken <= told.keys():  # the newest is saved but not told yet: its trainer has not gone on to any end
        return end
    return max([start, *(told[sha256] for sha256 in taken)])


def _place(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _linked(folder: Path, aside: Path) -> Path:
    """Links to all files of a folder at one moment: again from the start when a name came or went meanwhile."""
    for attempt in range(LINK_TRIES):
        target = aside / str(attempt)
        target.mkdir()
        before = {path: _place(path) for path in files(folder)}
        try:
            for path in before:
                (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target / path.relative_to(folder))
            if before == {path: _place(path) for path in files(folder)}:
                return target
        except FileNotFoundError:
            continue
        except OSError:  # no links on this file system
            shutil.copytree(folder, target, dirs_exist_ok=True)
            return target
    raise BackupError(_("The checkpoints in %(path)s change too quickly to be backed up.") % {"path": folder})
