"""A backup of the whole studio in one file, made while runs go on, and its return onto an empty installation.

The file is a tar, compressed with Zstandard:

    studio.json            {"format", "created", "migrations": [...], "rows": {model: count}}
    database/{model}.jsonl one row a line, as Django serialises it: it goes back into any database that Django knows
    files/...              secret_key, datasets, runs, weights, uploads
    hashes.json            {member: SHA-256}; the last, so that a file that was cut short is seen to be

The rows come first and are of one moment. Checkpoints are linked aside and event files copied after it: a run that was
in work is later in its files than in its row, and its worker stores the rest of its events as after any restart.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.migrations.recorder import MigrationRecorder

FORMAT = 1
#: What is made anew by `migrate`, or belongs to a browser or a moment.
LEFT_OUT = frozenset({"contenttypes.contenttype", "auth.permission", "sessions.session", "admin.logentry"})
BATCH_ROWS = 1000

#: Told what is at work and how many bytes were done.
Tell = Callable[[str, int], object]


class BackupError(ValueError):
    """The backup cannot be made or used; the message is for people."""


def folders() -> dict[str, Path]:
    """Where each part of the files lies here."""
    return {
        "datasets": Path(settings.DATASETS_DIR),
        "runs": Path(settings.RUNS_DIR),
        "weights": Path(settings.WEIGHTS_DIR),
        "uploads": Path(settings.UPLOADS_DIR),
    }


def kept_models() -> list[type[models.Model]]:
    """The models whose rows are kept, what others refer to first."""
    configs = [(config, None) for config in apps.get_app_configs()]
    found = serializers.sort_dependencies(configs, allow_cycles=True)
    return [model for model in found if model._meta.label_lower not in LEFT_OUT and model._meta.managed]


def migrations() -> Iterable[tuple[str, str]]:
    return MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations()


def files(root: Path) -> list[Path]:
    """The regular files below a folder, but for what is on its way in or out."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files) if not name.endswith(".tmp")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
