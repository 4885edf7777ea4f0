"""Quick checks: whether the studio can take work and do it. No sentence here holds a secret or a path."""

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
#: Below this nothing should be begun: a checkpoint may need as much.
LEAST_FREE_BYTES = 256 * 1024 * 1024


class Vital(NamedTuple):
    """One check: its name, whether it is well, and a sentence."""

    name: str
    ok: bool
    detail: str


def vitals() -> list[Vital]:
    """Every quick check. What needs the database is not well while that does not answer."""
    checks: dict[str, Callable[[], str]] = {
        "database": _database,
        "migrations": _migrations,
        "queue": _queue,
        "worker": _worker,
        "folders": _folders,
        "disk": _disk,
    }
    return [_checked(name, check) for name, check in checks.items()]


def _checked(name: str, check: Callable[[], str]) -> Vital:
    """A check returns what is wrong, or nothing."""
    try:
        problem = check()
    except DatabaseError:
        problem = _("The database does not answer.")
    return Vital(name, not problem, problem or _("well"))


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    text = _("%(count)d migrations have not been applied: run manage.py migrate.")
    return text % {"count": len(missing)} if missing else ""


def _queue() -> str:
    """The queue of wake-ups. Redis is asked with a time limit of our own: Huey would wait for ever."""
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


def _worker() -> str:
    return "" if living_hosts() else _("No worker has been heard of: runs wait until one is started.")


def living_hosts() -> set[str]:
    """Names of the hosts whose worker was heard of within the lease: by its own row, or by a run that it holds."""
    lease = timedelta(seconds=settings.HEARTBEAT_LEASE_S)
    recent = (timezone.now() - lease, timezone.now() + lease)
    reporting = Host.objects.filter(seen_at__range=recent).values_list("name", flat=True)
    training = TrainingRun.objects.filter(status=Status.RUNNING, heartbeat_at__range=recent)
    return {*reporting, *training.values_list("host", flat=True)} - {""}


def data_folders() -> list[Path]:
    """Where the studio writes."""
    return [Path(settings.DATA_DIR), Path(settings.RUNS_DIR), Path(settings.DATASETS_DIR), Path(settings.UPLOADS_DIR)]


def write_problem(folder: Path) -> str:
    """Why nothing can be written there, tried by writing; a folder that is not there yet is made when it is needed."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return str(error.strerror)
    return ""


def database_trouble() -> str:
    """What to tell somebody whose request the database refused, which is no mistake of the studio."""
    if _folders():
        return _("Nothing can be written to the studio's folders now: their disk is read-only, or not the studio's.")
    return _("The studio's database does not answer now.")


def _folders() -> str:
    broken = [folder.name for folder in data_folders() if write_problem(folder)]
    return _("Nothing can be written to: %(names)s.") % {"names": ", ".join(broken)} if broken else ""


def _disk() -> str:
    least = min(shutil.disk_usage(folder).free for folder in data_folders() if folder.exists())
    return _("The disk is full.") if least < LEAST_FREE_BYTES else ""
