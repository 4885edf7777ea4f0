"""The format of a backup: the complete studio in one file, made while runs continue, for an empty installation.

The file is a tar archive, compressed with Zstandard:

    studio.json            {"format", "created", "migrations": [...], "rows": {model: count}}
    database/{model}.jsonl one row per line, in Django's serialization format, so that any database backend can load it
    files/...              secret_key, datasets, runs, weights, uploads
    hashes.json            {member: SHA-256}; it comes last, so that a truncated file is detected

The rows are a snapshot of one moment. Checkpoints are linked and event files copied after it, so the files of a run
that was training are newer than its row. Its worker stores the remaining events, as after any restart.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.migrations.recorder import MigrationRecorder

Row = TypeVar("Row")

FORMAT = 1
#: Models whose rows `migrate` creates again, or that are temporary.
LEFT_OUT = frozenset({"contenttypes.contenttype", "auth.permission", "sessions.session", "admin.logentry"})
BATCH_ROWS = 1000

#: Called with the name and the bytes of each part that was processed.
ReportProgress = Callable[[str, int], object]


class BackupError(ValueError):
    """The backup cannot be made or used; the message is shown to the user."""


def folders() -> dict[str, Path]:
    """The directory of each part of the files in this installation."""
    return {
        "datasets": Path(settings.DATASETS_DIR),
        "runs": Path(settings.RUNS_DIR),
        "weights": Path(settings.WEIGHTS_DIR),
        "uploads": Path(settings.UPLOADS_DIR),
    }


def kept_models() -> list[type[models.Model]]:
    """The models whose rows are stored; a model comes after those that it refers to."""
    configs = [(config, None) for config in apps.get_app_configs()]
    found = serializers.sort_dependencies(configs, allow_cycles=True)
    return [model for model in found if model._meta.label_lower not in LEFT_OUT and model._meta.managed]


def migrations() -> Iterable[tuple[str, str]]:
    return MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations()


def files(root: Path) -> list[Path]:
    """The regular files below a folder, without hidden folders (the trash) and files that are still being written."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files) if not name.endswith(".tmp")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


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
