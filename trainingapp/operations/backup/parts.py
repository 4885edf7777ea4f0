"""The format of a backup: the complete studio in one file, made while runs continue, for an empty installation.

The file is a tar archive, compressed with Zstandard:

    studio.json              {"format", "created", "migrations": [...]} and, by kind of database, what `About` lists
    database/...             the database as of one moment, in one of three forms (see below)
    files/...                secret_key, datasets, runs, weights, uploads
    hashes.json              {member: SHA-256}; it comes last, so that a truncated file is detected

The database is stored as

    database/studio.sqlite3   a copy by SQLite's online backup (format 2)
    database/studio.pgdump    a dump by pg_dump in its custom format, not compressed a second time (format 2)
    database/{model}.jsonl    `--portable`: one row per line, in Django's serialization format, which any kind of
                              database loads (format 1, the only form that versions before 0.2 write and read)

Sessions are not stored. Checkpoints are linked and event files copied after the moment of the database, so the files of
a run that was training are newer than its row. Its worker stores the remaining events, as after any restart.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.recorder import MigrationRecorder

from trainingapp.supervision.identity import DIRECTORY_ID_FILE

Row = TypeVar("Row")

PORTABLE_FORMAT, NATIVE_FORMAT = 1, 2
SQLITE_FILE, POSTGRES_FILE = "studio.sqlite3", "studio.pgdump"
SESSION_TABLE = "django_session"
BATCH_ROWS = 1000
#: Bytes read and written at a time.
PIECE_BYTES = 1 << 20

#: Called with the name and the number of bytes of each piece that was processed.
ReportProgress = Callable[[str, int], object]


class BackupError(ValueError):
    """The backup cannot be made or used; the message is shown to the user."""


class PostgresVersions(TypedDict):
    """Major versions of the server and of the pg_dump that read it."""

    server: int
    dump: int


class About(TypedDict):
    """studio.json."""

    format: int
    created: str
    #: Names of the applied migrations, such as trainingapp.0001_initial.
    migrations: list[str]
    #: Format 1 alone: rows by model.
    rows: NotRequired[dict[str, int]]
    #: Format 2 alone.
    database: NotRequired[Literal["sqlite", "postgresql"]]
    #: Format 2 alone: bytes of the database and, approximately, of each part of the files.
    bytes: NotRequired[dict[str, int]]
    postgresql: NotRequired[PostgresVersions]


def folders() -> dict[str, Path]:
    """The directory of each part of the files in this installation."""
    return {
        "datasets": Path(settings.DATASETS_DIR),
        "runs": Path(settings.RUNS_DIR),
        "weights": Path(settings.WEIGHTS_DIR),
        "uploads": Path(settings.UPLOADS_DIR),
    }


def applied_migrations() -> list[str]:
    recorder = MigrationRecorder(connections[DEFAULT_DB_ALIAS])
    return sorted(f"{app}.{name}" for app, name in recorder.applied_migrations())


def files(root: Path) -> list[Path]:
    """The regular files below a folder, without hidden folders (the trash), files that are still being written, and the
    id of the folder, which would not be that of a copy."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files) if not _is_left_out(name)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _is_left_out(name: str) -> bool:
    return name.endswith(".tmp") or name == DIRECTORY_ID_FILE


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Lists of at most BATCH_ROWS rows."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
