"""The PostgreSQL database: dumps by pg_dump, which pg_restore loads."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils.translation import gettext as _

from trainingapp.operations.backup.parts import PIECE_BYTES, SESSION_TABLE, BackupError, ReportProgress

#: Where distributions install the programs of each version, beside the PATH.
TOOL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


def server_version() -> int:
    """Major version of the server, such as 15."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        return int(cursor.fetchone()[0]) // 10_000


def find_tool(name: str, version: int) -> tuple[Path, int]:
    """pg_dump or pg_restore for a server of this major version: the same version, else the next newer one.

    Returns the program and its version. Raises BackupError, which names what to install.
    """
    folders = [path for pattern in TOOL_FOLDERS for path in sorted(Path("/").glob(pattern.lstrip("/")))]
    on_path = shutil.which(name)
    found: dict[int, Path] = {}
    # Debian's program on the PATH chooses a version each time that it is called, so it comes last.
    for path in [*(folder / name for folder in folders), *([Path(on_path)] if on_path else [])]:
        if (its_version := _version_of(path)) is not None:
            found.setdefault(its_version, path)
    fitting = [its_version for its_version in found if its_version >= version]
    if not fitting:
        message = _(
            "%(name)s of PostgreSQL %(version)d or newer was not found (found: %(found)s). Install it, on Debian and "
            "Ubuntu by: apt-get install postgresql-client-%(version)d. The option --portable needs no such program."
        )
        versions = ", ".join(map(str, sorted(found))) or "–"
        raise BackupError(message % {"name": name, "version": version, "found": versions})
    return found[min(fitting)], min(fitting)


def _version_of(program: Path) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    number = re.search(r"\) (\d+)", done.stdout)
    return int(number[1]) if number else None


def live_bytes() -> int:
    """The size of the tables without their indexes, which is about that of a dump."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_table_size(quote_ident(name)::regclass)) FROM unnest(%s::text[]) AS name", [_tables()]
        )
        return int(cursor.fetchone()[0] or 0)


def dump(target: Path, program: Path, report: ReportProgress) -> None:
    """Dump the tables of the studio without sessions, as the present transaction (REPEATABLE READ) sees them."""
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
        tables = _tables()
    options = [
        "--format=custom",
        "--compress=0",  # the archive is compressed as a whole
        "--no-owner",
        "--no-privileges",
        f"--snapshot={snapshot}",
        f'--exclude-table-data="{SESSION_TABLE}"',
        *(f'--table="{name}"' for name in tables),
    ]
    # Through a pipe: if this process is killed, pg_dump ends too.
    with (
        _running([program, *options], stdout=subprocess.PIPE) as process,
        target.open("wb") as file,
    ):
        assert process.stdout is not None
        while piece := process.stdout.read(PIECE_BYTES):
            file.write(piece)
            report("database", len(piece))


def load(source: Path, program: Path, report: ReportProgress) -> None:
    """Load a dump in one transaction. Raises BackupError."""
    options = ["--single-transaction", "--exit-on-error", "--clean", "--if-exists", "--no-owner", "--no-privileges"]
    name = _parameters()["dbname"].replace("\\", r"\\").replace("'", r"\'")
    # Through a pipe: if this process is killed, pg_restore reads an incomplete dump and rolls back.
    with (
        source.open("rb") as file,
        _running([program, *options, f"--dbname=dbname='{name}'"], stdin=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        while piece := file.read(PIECE_BYTES):
            try:
                process.stdin.write(piece)
            except BrokenPipeError:  # it failed; its exit status and its message say why
                break
            report("database", len(piece))


def drop_tables() -> None:
    """Drop every table of the studio, in one transaction."""
    connection = connections[DEFAULT_DB_ALIAS]
    with transaction.atomic(), connection.cursor() as cursor:
        if names := ", ".join(connection.ops.quote_name(name) for name in _tables()):
            cursor.execute(f"DROP TABLE {names} CASCADE")


def _tables() -> list[str]:
    """The tables of the installed apps, also those of a state of the studio that is not the present one."""
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        present = connection.introspection.table_names(cursor)
    known = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
    known.add(MigrationRecorder.Migration._meta.db_table)
    return sorted(name for name in present if name in known or name.startswith("trainingapp_"))


@contextmanager
def _running(
    command: list[Path | str], stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of PostgreSQL with the connection of the studio. Raises BackupError if it fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=errors, env=_environment())
        try:
            yield process
            if process.stdin is not None:
                _close(process.stdin)
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        if status:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            reason = " ".join(lines[:3]) or f"exit status {status}"
            raise BackupError(_("%(program)s failed: %(error)s") % {"program": Path(command[0]).name, "error": reason})


def _close(pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError):  # the program ended before it read everything
        pipe.close()


def _parameters() -> dict[str, str]:
    """The connection parameters of libpq by keyword, without the password."""
    connection = connections[DEFAULT_DB_ALIAS]
    connection.ensure_connection()
    info = connection.connection.info
    return {"dbname": info.dbname, **info.get_parameters()}


def _environment() -> dict[str, str]:
    """The environment with the connection parameters. The command line of a process is visible to every user."""
    from psycopg import pq  # an optional dependency, present where there is a PostgreSQL database

    values = {**_parameters(), "password": connections[DEFAULT_DB_ALIAS].connection.info.password}
    options = pq.Conninfo.get_defaults()
    names = {option.keyword.decode(): option.envvar.decode() for option in options if option.envvar}
    return {**os.environ, **{names[key]: value for key, value in values.items() if key in names and value}}
