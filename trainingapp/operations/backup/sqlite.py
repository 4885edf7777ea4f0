"""The SQLite database: copies of one moment, and the connection of Django to such a copy."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.utils.translation import gettext as _

from trainingapp.operations.backup.parts import SESSION_TABLE, BackupError, ReportProgress

#: Pages copied at a time: 16 MB of the usual 4 KiB pages.
STEP_PAGES = 4096
#: Seconds to wait for a lock of another process.
TIMEOUT_S = 60.0


def live_file() -> Path:
    """The database file of this installation."""
    return Path(connections[DEFAULT_DB_ALIAS].settings_dict["NAME"])


def live_bytes() -> int:
    """The size of a copy: pages in the write-ahead log count as well."""
    with closing(sqlite3.connect(live_file(), timeout=TIMEOUT_S)) as source:
        (count,), (size,) = (source.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
        return int(count) * int(size)


def copy_live(target: Path, report: ReportProgress) -> None:
    """Copy the database as of one moment, without sessions; other processes continue to write."""
    with closing(_connect(live_file())) as source, closing(_connect(target)) as copy:
        # A copy that is interrupted is thrown away, so it needs neither a journal nor a flush.
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")
        # This transaction keeps the moment. Without it, SQLite starts again when another process writes between steps.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=STEP_PAGES, progress=_progress(source, report))
        source.execute("ROLLBACK")
        copy.execute("PRAGMA secure_delete=ON")  # or the rows would remain in free pages of the file
        if copy.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [SESSION_TABLE]).fetchone():
            copy.execute(f"DELETE FROM {SESSION_TABLE}")  # noqa: S608 - a constant


def replace_live(source_file: Path, report: ReportProgress) -> None:
    """Replace the content of the database by that of another file, completely or not at all.

    The file stays the same one: a process that opens it meanwhile does not work on a deleted one. Raises BackupError
    while another process has it open.
    """
    connections[DEFAULT_DB_ALIAS].close()
    with closing(_connect(source_file)) as source, closing(_connect(live_file(), timeout_s=1)) as live:
        try:
            # The rollback journal contains the few present pages alone; a write-ahead log would contain all new ones.
            live.execute("PRAGMA locking_mode=EXCLUSIVE")
            live.execute("PRAGMA journal_mode=DELETE")
            live.execute("BEGIN EXCLUSIVE")
            live.execute("COMMIT")
        except sqlite3.OperationalError as error:
            message = _("The database is in use (%(error)s). Stop the studio first.")
            raise BackupError(message % {"error": error}) from None
        source.backup(live, pages=STEP_PAGES, progress=_progress(source, report))


@contextmanager
def connected_to(file: Path) -> Iterator[None]:
    """Within it, Django's default connection of this thread is one to the SQLite database `file`."""
    live = connections[DEFAULT_DB_ALIAS]
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "OPTIONS": options}
    connections[DEFAULT_DB_ALIAS] = DatabaseWrapper({**live.settings_dict, **engine}, DEFAULT_DB_ALIAS)
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS].close()
        connections[DEFAULT_DB_ALIAS] = live


def _connect(file: Path, timeout_s: float = TIMEOUT_S) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=timeout_s, isolation_level=None)


def _progress(source: sqlite3.Connection, report: ReportProgress) -> Callable[[int, int, int], None]:
    (page_bytes,) = source.execute("PRAGMA page_size").fetchone()
    done = 0

    def report_step(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        report("database", (total - remaining - done) * page_bytes)
        done = total - remaining

    return report_step
