"""Restoring a backup."""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import zstandard
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract.storage.durable import write_durably
from trainingapp.models import Dataset, Job, TrainingRun, Weights
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
from trainingapp.operations.backup.rows import load_rows, write_rows
from trainingapp.operations.backup.scratch import RESTORE_PREFIX, abandoned, require_space, scratch

ABOUT, HASHES = "studio.json", "hashes.json"
#: In a scratch folder: paths of the files that were moved into the installation, to undo it after a kill.
MOVED_FILE = "moved.json"


def restore_backup(source: Path, report: ReportProgress = lambda name, size: None) -> dict[str, int]:
    """Restore a backup into this empty installation; returns the number of rows by model. Raises BackupError.

    All members are read and compared with their hashes before the first row or file is written. The database is
    replaced last, in one transaction of SQLite: before that, the installation is still empty after any failure.
    """
    if any(model._default_manager.exists() for model in (get_user_model(), TrainingRun, Dataset, Weights)):
        raise BackupError(_("This installation is not empty. Restore into a new DATA_DIR and an empty database."))
    data_dir = Path(settings.DATA_DIR)
    for folder in abandoned(data_dir, RESTORE_PREFIX):
        _undo_moves(folder)
    for root in folders().values():
        if files(root):
            raise BackupError(_("%(path)s already contains files.") % {"path": root})
    with scratch(data_dir, RESTORE_PREFIX) as folder:
        _extract(source, folder, report)
        about = _read_about(folder / ABOUT)
        if connection.vendor == "sqlite":
            _restore_sqlite(about, folder, source, report)
        else:
            _restore_postgres(about, folder, source, report)
        ContentType.objects.clear_cache()
        key = folder / "files" / "secret_key"
        if key.exists():  # signed links remain valid
            key.chmod(0o600)
            key.replace(data_dir / "secret_key")
    return {model._meta.label_lower: model._default_manager.count() for model in (TrainingRun, Dataset, Weights)}


def _restore_sqlite(about: About, folder: Path, source: Path, report: ReportProgress) -> None:
    """Complete the database beside the present one, move the files, then replace the content of the present one."""
    database = folder / "database" / SQLITE_FILE
    with sqlite.connected_to(database):
        if "database" not in about:
            load_rows(folder / "database", about["migrations"], report)
        _complete(source)
    with _moved_files(folder):
        sqlite.replace_live(database, report)


def _restore_postgres(about: About, folder: Path, source: Path, report: ReportProgress) -> None:
    """Move the files and replace the tables, which are empty; after a failure, create them again."""
    database, migrations = folder / "database", about["migrations"]
    if about.get("database") == "sqlite":
        with sqlite.connected_to(database / SQLITE_FILE):
            call_command("migrate", verbosity=0, interactive=False)
            ContentType.objects.clear_cache()
            migrations = applied_migrations()
            write_rows(database, report)
    ContentType.objects.clear_cache()
    with _moved_files(folder):
        try:
            postgres.drop_tables()
            if about.get("database") == "postgresql":
                postgres.load(database / POSTGRES_FILE, _pg_restore(about), report)
            else:
                load_rows(database, migrations, report)
            _complete(source)
        except BaseException:
            postgres.drop_tables()
            call_command("migrate", verbosity=0, interactive=False)
            raise


def _complete(source: Path) -> None:
    """Migrate the restored database to this version, and record the restore in it."""
    call_command("migrate", verbosity=0, interactive=False)
    # The files are in other directories now: the workers that have them store which.
    TrainingRun.objects.exclude(runs_dir_id="").update(runs_dir_id="")
    for model in (Dataset, Job):
        model._default_manager.exclude(data_dir_id="").update(data_dir_id="")
    audit.record("restore", details={"file": str(source)})


def _extract(source: Path, folder: Path, report: ReportProgress) -> None:
    """Unpack into `folder` and compare the hashes. Raises BackupError, for a backup that cannot be used at once."""
    hashes: dict[str, str] = {}
    try:
        with (
            source.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file, read_size=PIECE_BYTES) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE_BYTES) as tar,
        ):
            for member in tar:
                _check_member(member, hashes)
                path = folder / member.name
                if member.islnk():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.link(folder / member.linkname, path)
                    hashes[member.name] = hashes[member.linkname]
                else:
                    hashes[member.name] = _unpack(tar, member, path, report)
                if member.name == ABOUT:
                    _check_usable(_read_about(path))
    except FileNotFoundError as error:
        raise BackupError(_("%(path)s does not exist.") % {"path": error.filename or source}) from None
    except (tarfile.TarError, zstandard.ZstdError, EOFError, KeyError, json.JSONDecodeError) as error:
        raise BackupError(
            _("%(path)s is not a complete backup: %(error)s") % {"path": source, "error": error}
        ) from None
    if not (folder / HASHES).exists() or not (folder / ABOUT).exists():
        raise BackupError(_("The backup is truncated: its end is missing."))
    promised: dict[str, str] = json.loads((folder / HASHES).read_text())
    damaged = [name for name, digest in promised.items() if hashes.get(name) != digest]
    if damaged:
        raise BackupError(_("The backup is corrupted: %(name)s has changed.") % {"name": damaged[0]})


def _check_member(member: tarfile.TarInfo, unpacked: Container[str]) -> None:
    """Raise BackupError unless it is a file of a known folder, or a link to one of the `unpacked` files before it."""
    parts = PurePosixPath(member.name).parts
    is_known = parts and parts[0] in ("database", "files", ABOUT, HASHES) and ".." not in parts
    if not is_known or not (member.isreg() or (member.islnk() and member.linkname in unpacked)):
        raise BackupError(_("The backup contains an unexpected member: %(name)s") % {"name": member.name})


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, report: ReportProgress) -> str:
    """Write the file and return its SHA-256. Not `tar.extract`: its filter is missing from Python before 3.11.4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    content = tar.extractfile(member)
    assert content is not None, "a regular file has content"
    with content, path.open("xb") as file:
        while piece := content.read(PIECE_BYTES):
            file.write(piece)
            digest.update(piece)
            report(member.name, len(piece))
    path.chmod(0o600)
    os.utime(path, (member.mtime, member.mtime))
    return digest.hexdigest()


def _read_about(path: Path) -> About:
    about: About = json.loads(path.read_text())
    return about


def _check_usable(about: About) -> None:
    """Raise BackupError if this version, this database or this disk cannot take the backup."""
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    ours = {config.label for config in apps.get_app_configs()}
    unknown = [name for name in about["migrations"] if name not in known and name.partition(".")[0] in ours]
    if about["format"] not in (PORTABLE_FORMAT, NATIVE_FORMAT) or unknown:
        raise BackupError(_("The backup was made by a newer version of CV Studio. Update this one first."))
    if about["format"] == PORTABLE_FORMAT:
        return
    if about["database"] == "postgresql":
        if connection.vendor != "postgresql":
            raise BackupError(
                _(
                    "The backup contains a PostgreSQL database, and this installation uses SQLite. Restore it into "
                    "PostgreSQL (DATABASE_URL), or create it with: manage.py backup --portable."
                )
            )
        _pg_restore(about)
    sizes = about["bytes"]
    # SQLite copies the database once more, into its present file.
    copies = 2 if connection.vendor == "sqlite" else 1
    needs = [(Path(settings.DATA_DIR), sum(sizes.values()) + (copies - 1) * sizes["database"])]
    runs = Path(settings.RUNS_DIR)
    if not runs.is_relative_to(settings.DATA_DIR):  # moved to another disk, where it needs the space again
        needs.append((runs, sizes["runs"]))
    require_space(needs)


def _pg_restore(about: About) -> Path:
    """The program that loads the dump. Raises BackupError if there is none, or the server is older than the dump."""
    versions, server = about["postgresql"], postgres.server_version()
    if versions["server"] > server:
        message = _(
            "The backup was made with PostgreSQL %(theirs)d, and this server has version %(ours)d. Restore it into "
            "version %(theirs)d or newer, or create it with: manage.py backup --portable."
        )
        raise BackupError(message % {"theirs": versions["server"], "ours": server})
    program, _version = postgres.find_tool("pg_restore", max(server, versions["dump"]))
    return program


@contextmanager
def _moved_files(folder: Path) -> Iterator[None]:
    """Within it, the files of each part are in their directory; after a failure they are removed from there."""
    moves = [
        (path, root / path.name)
        for part, root in folders().items()
        if (folder / "files" / part).is_dir()
        for path in sorted((folder / "files" / part).iterdir())
    ]
    write_durably(folder / MOVED_FILE, [json.dumps([str(target) for _path, target in moves]).encode()])
    try:
        for path, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # without files, as was checked; a move would put the folder inside it
                shutil.rmtree(target)
            shutil.move(path, target)  # a rename, or a copy if the runs are on another disk
        yield
    except BaseException:
        _undo_moves(folder)
        raise


def _undo_moves(folder: Path) -> None:
    """Remove what a failed or killed restore moved from `folder` into this installation, which is empty."""
    try:
        targets: list[str] = json.loads((folder / MOVED_FILE).read_text())
    except FileNotFoundError:
        return
    for target in map(Path, targets):
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
