"""Quick checks of whether the studio can accept and process work.

/readyz shows the results to anyone, so no text here contains a secret or a path.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.translation import gettext as _
from huey.contrib.djhuey import HUEY

from trainingapp.models import Host, TrainingRun
from trainingapp.models.run import Status

REDIS_TIMEOUT_S = 2.0
#: With less free space no work should start: a checkpoint may need as much.
LEAST_FREE_BYTES = 256 * 1024 * 1024


class HealthCheck(NamedTuple):
    """The result of one check: its name, whether it passed, and a sentence."""

    name: str
    ok: bool
    detail: str


def health_checks() -> list[HealthCheck]:
    """Run every quick check. Those that need the database fail while it does not answer."""
    found = []
    for name, check in CHECKS.items():
        try:
            problem = check()
        except DatabaseError:
            problem = _("The database does not answer.")
        found.append(HealthCheck(name, not problem, problem or _("OK")))
    return found


def database_problem() -> str:
    """Raises DatabaseError when the database does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def migration_problem() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    text = _("%(count)d migrations have not been applied: run manage.py migrate.")
    return text % {"count": len(missing)} if missing else ""


def queue_problem() -> str:
    """Connects to Redis itself, with a time limit: the client of Huey would wait without one."""
    try:
        if settings.REDIS_URL:
            redis.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
            ).ping()
        else:
            assert HUEY is not None
            HUEY.pending_count()
    except (redis.RedisError, sqlite3.Error, OSError):
        return _("The queue does not answer; runs start with a delay of seconds.")
    return ""


def worker_problem() -> str:
    return "" if living_hosts() else _("No worker is running: runs wait until one is started.")


def living_hosts() -> set[str]:
    """Names of the hosts whose worker sent a heartbeat within the lease, in its own row or in that of a run.

    One that is leaving takes nothing: it counts as long as a run is on it.
    """
    lease = timedelta(seconds=settings.HEARTBEAT_LEASE_S)
    # The upper bound excludes heartbeats of a clock that was set back since: they would look recent for hours.
    recent = (timezone.now() - lease, timezone.now() + lease)
    reporting = Host.objects.filter(seen_at__range=recent, state=Host.State.WORKING).values_list("name", flat=True)
    training = TrainingRun.objects.filter(status=Status.RUNNING, heartbeat_at__range=recent)
    return {*reporting, *training.values_list("host", flat=True)} - {""}


def data_folders() -> list[Path]:
    """The directories that the studio writes to."""
    return [Path(settings.DATA_DIR), Path(settings.RUNS_DIR), Path(settings.DATASETS_DIR), Path(settings.UPLOADS_DIR)]


def write_problem(folder: Path) -> str:
    """Why the folder cannot be written to, found by writing; empty if it can.

    A folder that does not exist yet is created when it is needed, so its nearest parent is tried.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return str(error.strerror)
    return ""


def database_trouble() -> str:
    """The text for a request that failed because the database refused it."""
    # SQLite reports a read-only disk as an error of the database.
    if folder_problem():
        return _("Nothing can be written to the studio's folders now: their disk is read-only, or not the studio's.")
    return _("The studio's database does not answer now.")


def folder_problem() -> str:
    broken = [folder.name for folder in data_folders() if write_problem(folder)]
    return _("Nothing can be written to: %(names)s.") % {"names": ", ".join(broken)} if broken else ""


def disk_problem() -> str:
    least = min(shutil.disk_usage(folder).free for folder in data_folders() if folder.exists())
    return _("The disk is full.") if least < LEAST_FREE_BYTES else ""


#: Each returns the problem in a sentence, or an empty string; it may raise DatabaseError.
CHECKS: dict[str, Callable[[], str]] = {
    "database": database_problem,
    "migrations": migration_problem,
    "queue": queue_problem,
    "worker": worker_problem,
    "folders": folder_problem,
    "disk": disk_problem,
}
