"""Restoring a backup."""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Container
from pathlib import Path, PurePosixPath
from typing import TypedDict

import zstandard
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.models import Dataset, TrainingRun
from trainingapp.operations.backup.parts import (
    FORMAT,
    BackupError,
    ReportProgress,
    batches,
    files,
    folders,
    kept_models,
    migrations,
)


def restore_backup(source: Path, report: ReportProgress = lambda name, size: None) -> dict[str, int]:
    """Restore a backup into this empty installation; returns the number of rows by model. Raises BackupError.

    All members are read and compared with their hashes before the first row or file is written.
    """
    if any(model._default_manager.exists() for model in (get_user_model(), TrainingRun, Dataset)):
        raise BackupError(_("This installation is not empty. Restore into a new DATA_DIR and an empty database."))
    for root in folders().values():
        if files(root):
            raise BackupError(_("%(path)s already contains files.") % {"path": root})
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=".restore-") as name:
        folder = Path(name)
        about = _read_about(folder, _extract(source, folder, report))
        moved: list[Path] = []
        try:
            with transaction.atomic():
                _load_rows(folder / "database")
                _move_files(folder / "files", moved)
                audit.record("restore", details={"file": str(source)})
        except BaseException:
            for path in moved:
                shutil.rmtree(path, ignore_errors=True)
            raise
        key = folder / "files" / "secret_key"
        if key.exists():  # sessions and signed links remain valid
            key.chmod(0o600)
            key.replace(Path(settings.DATA_DIR) / "secret_key")
    return about["rows"]


def _extract(source: Path, folder: Path, report: ReportProgress) -> dict[str, str]:
    """Unpack into `folder`; returns the hashes of what was unpacked."""
    hashes: dict[str, str] = {}
    try:
        with (
            source.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                _check_member(member, hashes)
                if member.islnk():
                    (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                    os.link(folder / member.linkname, folder / member.name)
                    hashes[member.name] = hashes[member.linkname]
                else:
                    hashes[member.name] = _unpack(tar, member, folder / member.name)
                report(member.name, member.size)
    except FileNotFoundError as error:
        raise BackupError(_("%(path)s does not exist.") % {"path": error.filename or source}) from None
    except (tarfile.TarError, zstandard.ZstdError, EOFError, KeyError) as error:
        raise BackupError(
            _("%(path)s is not a complete backup: %(error)s") % {"path": source, "error": error}
        ) from None
    return hashes


def _check_member(member: tarfile.TarInfo, unpacked: Container[str]) -> None:
    """Raise BackupError unless it is a file of a known folder, or a link to one of the `unpacked` files before it."""
    parts = PurePosixPath(member.name).parts
    is_known = parts and parts[0] in ("database", "files", "studio.json", "hashes.json") and ".." not in parts
    if not is_known or not (member.isreg() or (member.islnk() and member.linkname in unpacked)):
        raise BackupError(_("The backup contains an unexpected member: %(name)s") % {"name": member.name})


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Write the file and return its SHA-256. Not `tar.extract`: its filter is missing from Python before 3.11.4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    content = tar.extractfile(member)
    assert content is not None, "a regular file has content"
    with content, path.open("xb") as file:
        while piece := content.read(1 << 20):
            file.write(piece)
            digest.update(piece)
    path.chmod(0o600)
    os.utime(path, (member.mtime, member.mtime))
    return digest.hexdigest()


class _About(TypedDict):
    """studio.json."""

    format: int
    created: str
    migrations: list[str]
    rows: dict[str, int]


def _read_about(folder: Path, found: dict[str, str]) -> _About:
    """Read studio.json, after comparing the hashes. Raises BackupError also where the backup has newer tables."""
    if not (folder / "hashes.json").exists() or not (folder / "studio.json").exists():
        raise BackupError(_("The backup is truncated: its end is missing."))
    promised: dict[str, str] = json.loads((folder / "hashes.json").read_text())
    damaged = [name for name, digest in promised.items() if found.get(name) != digest]
    if damaged:
        raise BackupError(_("The backup is corrupted: %(name)s has changed.") % {"name": damaged[0]})
    about: _About = json.loads((folder / "studio.json").read_text())
    known = {f"{app}.{name}" for app, name in migrations()}
    ours = {config.label for config in apps.get_app_configs()}
    unknown = [name for name in about["migrations"] if name not in known and name.partition(".")[0] in ours]
    if about["format"] != FORMAT or unknown:
        raise BackupError(_("The backup was made by a newer version of CV Studio. Update this one first."))
    return about


def _load_rows(folder: Path) -> None:
    """Replace all rows of this database by those of the backup."""
    kept = kept_models()
    for model in reversed(kept):  # rows that migrations created are in the backup too
        model._base_manager.all().delete()
    for model in kept:
        path = folder / f"{model._meta.label_lower}.jsonl"
        if not path.exists():  # a table that the older version did not have
            continue
        fields = [field for field in model._meta.concrete_fields if isinstance(field, models.DateTimeField)]
        # bulk_create would set automatic times to now and leave out many-to-many rows; a raw save does neither.
        saves_each = model._meta.many_to_many or any(field.auto_now or field.auto_now_add for field in fields)
        with path.open(encoding="utf-8") as lines:
            for batch in batches(serializers.deserialize("jsonl", lines, ignorenonexistent=True)):
                if saves_each:
                    for row in batch:
                        row.save()
                else:
                    model._default_manager.bulk_create([row.object for row in batch])
    # Rows were inserted with their numbers: the sequences of PostgreSQL must continue after them.
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kept):
            cursor.execute(statement)


def _move_files(source: Path, moved: list[Path]) -> None:
    """Move the files of each part to its directory. `moved` receives each new path at once, to undo a failure."""
    for part, root in folders().items():
        root.mkdir(parents=True, exist_ok=True)
        for path in (source / part).iterdir() if (source / part).is_dir() else ():
            shutil.move(path, root / path.name)  # a rename, or a copy if the runs are on another disk
            moved.append(root / path.name)
