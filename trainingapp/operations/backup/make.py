"""Creating a backup."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import zstandard
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract.events import EVENTS_FILE, CheckpointSaved, read_events
from trainingapp.contract.run_directory import LOCK_FILE
from trainingapp.contract.storage.index import INDEX_FILE
from trainingapp.models import TrainingRun
from trainingapp.operations.backup import postgres, sqlite
from trainingapp.operations.backup.parts import (
    NATIVE_FORMAT,
    PIECE_BYTES,
    PORTABLE_FORMAT,
    POSTGRES_FILE,
    SQLITE_FILE,
    About,
    BackupError,
    ReportProgress,
    applied_migrations,
    files,
    folders,
)
from trainingapp.operations.backup.rows import kept_models, rows_of
from trainingapp.operations.backup.scratch import BACKUP_PREFIX, require_space, scratch
from trainingapp.supervision.trainers import PID_FILE

LINK_TRIES = 10
#: Threads that compress; the studio continues to run beside them.
MOST_THREADS = 4
#: Files of text, and the database, are compressed to about a fifth. Images and tensors stay as large as they are.
TEXT_SUFFIXES = frozenset({".jsonl", ".json", ".log", ".txt", ".csv"})
TEXT_SHARE = 5
#: Of tarfile, which reads 16 KiB at a time otherwise. A dictionary, since typeshed does not know the argument.
READ_SIZE: dict[str, Any] = {"copybufsize": PIECE_BYTES}


def make_backup(target: Path, report: ReportProgress = lambda name, size: None, *, portable: bool = False) -> int:
    """Write the backup to `target`, completely or not at all; returns its bytes. Raises BackupError and OSError.

    The database is stored in its own form, or row by row with `portable`, for another kind of database.
    """
    if target.exists():
        raise BackupError(_("%(path)s exists already.") % {"path": target})
    size = measure()
    data_dir = Path(settings.DATA_DIR)
    require_space([(data_dir, size.database), (target.parent, size.database // TEXT_SHARE + size.compressed_files)])
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with scratch(data_dir, BACKUP_PREFIX) as folder, temporary.open("wb") as file:
            compressor = zstandard.ZstdCompressor(level=1, threads=min(MOST_THREADS, len(os.sched_getaffinity(0))))
            with (
                compressor.stream_writer(file, closefd=False) as stream,
                tarfile.open(fileobj=stream, mode="w|", bufsize=PIECE_BYTES, **READ_SIZE) as tar,
            ):
                _fill(_Writer(tar, report), folder, size, portable=portable)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    written = target.stat().st_size
    audit.record("backup", details={"file": str(target), "bytes": written})
    return written


@dataclass(frozen=True)
class Size:
    """Bytes of the database, of each part of the files, and of all files when compressed; the last are estimates."""

    database: int
    files: dict[str, int]
    compressed_files: int

    def processed(self, *, portable: bool) -> int:
        """Bytes that a backup reports to `report`: its own form of the database is copied, then added."""
        return sum(self.files.values()) + self.database * (1 if portable else 2)


def measure() -> Size:
    """The approximate size of a backup. A file with several names counts once."""
    database = sqlite.live_bytes() if connection.vendor == "sqlite" else postgres.live_bytes()
    found, compressed, seen = dict.fromkeys(folders(), 0), 0, set()
    for part, root in folders().items():
        for path in files(root):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            if (key := (status.st_dev, status.st_ino)) not in seen:
                seen.add(key)
                found[part] += status.st_size
                compressed += status.st_size // (TEXT_SHARE if path.suffix in TEXT_SUFFIXES else 1)
    return Size(database, found, compressed)


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
        hashing = _Hashing(file, size, lambda count: self.report(name, count))
        self.tar.addfile(member, hashing)
        self.hashes[name] = hashing.hash.hexdigest()


class _Hashing:
    """A reader that computes the hash.

    It pads with zeros where a log was truncated while it was read: the header of the member already states its size.
    """

    def __init__(self, file: IO[bytes], size: int, advance: Callable[[int], object]) -> None:
        self.hash = hashlib.sha256()
        self._file, self._left, self._advance = file, size, advance

    def read(self, count: int = -1, /) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        data = self._file.read(count)
        data += b"\0" * (count - len(data))
        self._left -= len(data)
        self.hash.update(data)
        self._advance(len(data))
        return data


def _fill(writer: _Writer, folder: Path, size: Size, *, portable: bool) -> None:
    unfinished = TrainingRun.objects.filter(status__in=(TrainingRun.Status.RUNNING, TrainingRun.Status.QUEUED))
    about: About = {"format": PORTABLE_FORMAT, "created": timezone.now().isoformat(), "migrations": []}
    if not portable:
        about |= {"format": NATIVE_FORMAT, "bytes": {**size.files}}
    is_sqlite = connection.vendor == "sqlite"
    stored = folder / (SQLITE_FILE if is_sqlite else POSTGRES_FILE)
    with _one_moment(stored, writer.report if not portable else lambda name, count: None):
        about["migrations"] = applied_migrations()
        living = {str(pk) for pk in unfinished.values_list("pk", flat=True)}
        if portable:
            about["rows"] = _add_rows(writer)
        elif is_sqlite:
            about["database"] = "sqlite"
        else:
            server = postgres.server_version()
            program, version = postgres.find_tool("pg_dump", server)
            postgres.dump(stored, program, writer.report)
            about |= {"database": "postgresql", "postgresql": {"server": server, "dump": version}}
    if portable:
        writer.add_bytes("studio.json", json.dumps(about, indent=1).encode())
    else:  # first, so that a restore knows at once whether it can use the rest
        about["bytes"]["database"] = stored.stat().st_size
        writer.add_bytes("studio.json", json.dumps(about, indent=1).encode())
        writer.add_file(f"database/{stored.name}", stored)
    stored.unlink(missing_ok=True)
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


def _add_rows(writer: _Writer) -> dict[str, int]:
    """Add the rows of every model; returns their number by model."""
    counts: dict[str, int] = {}
    for model in kept_models():
        label = model._meta.label_lower
        counts[label] = 0
        # The header of a member states its size, which is known when all rows are serialized.
        with tempfile.TemporaryFile() as file:
            for count, text in rows_of(model):
                file.write(text)
                counts[label] += count
            size = file.tell()
            file.seek(0)
            writer.add_stream(f"database/{label}.jsonl", file, size)
    return counts


@contextmanager
def _one_moment(copy: Path, report: ReportProgress) -> Iterator[None]:
    """Within it, this thread sees the database as of this moment, while other processes write.

    With SQLite it sees a copy, which is left in `copy`.
    """
    if connection.vendor == "sqlite":
        sqlite.copy_live(copy, report)
        with sqlite.connected_to(copy):
            yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _add_living_run(writer: _Writer, folder: Path) -> None:
    """Add a run that may be training: its checkpoints as of one moment, and the events that belong to them."""
    if not folder.is_dir():
        return
    events, prefix = folder / EVENTS_FILE, f"files/runs/{folder.name}"
    with scratch(folder.parent, BACKUP_PREFIX) as aside:
        start = _size(events)
        linked = _linked(folder / "checkpoints", aside)
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
