"""The worker's look for lost and waiting work, which leaves the database alone while nothing can have changed in it."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from django.db import OperationalError, close_old_connections, connection

from trainingapp.accounts.notifications.delivery import has_waiting
from trainingapp.jobs import lease
from trainingapp.models import TrainingRun
from trainingapp.models.run import Status
from trainingapp.scheduling.inventory import keep_fresh
from trainingapp.supervision import HOST, worker_id
from trainingapp.supervision.device_checks import check_devices
from trainingapp.worker import tasks

logger = logging.getLogger(__name__)

#: Seconds after which the worker looks in any case.
LOOK_ANYWAY_S = 30.0

#: Which file each file of the database is, when it was last written, and its size.
Stamp = tuple[tuple[int, int, int], ...]


class Watch:
    """Looks every few seconds. While something waits or is in progress, time alone changes it: a worker that is silent
    is lost, a wait ends. Otherwise only a commit can bring work, and every commit changes the files of SQLite."""

    def __init__(self) -> None:
        self._stamp: Stamp | None = None
        self._is_idle = False
        self._look_at = 0.0

    def look(self) -> None:
        """Store the state of the machine when that is due, then check for work unless there can be none."""
        before = database_stamp()
        if self._stamp is not None and before is not None and before[0][0] != self._stamp[0][0]:
            connection.close()  # another database is there now
        guarded(read_machine)
        after = database_stamp()  # with what this thread has just written
        may_be_work = before is None or before != self._stamp or not self._is_idle
        self._stamp = after
        if may_be_work or time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_ANYWAY_S
            self._is_idle = False
            guarded(self._check)

    def _check(self) -> None:
        tasks.check_for_work()
        self._is_idle = not is_work_in_progress()


def is_work_in_progress() -> bool:
    """Whether a run, a job or a delivery waits or is being worked on."""
    runs = TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING))
    return runs.exists() or lease.unfinished_jobs().exists() or has_waiting()


def read_machine() -> None:
    """Store the state of this machine when that is due."""
    if keep_fresh(HOST, worker_id()):
        check_devices(HOST)


def database_stamp() -> Stamp | None:
    """What changes with every commit; None for a database that has no files here."""
    if connection.vendor != "sqlite":
        return None
    name = Path(connection.settings_dict["NAME"])
    files = []
    for path in (name, name.with_name(f"{name.name}-wal")):
        try:
            files.append(path.stat())
        except OSError:  # the second one exists only while the database is open
            break
    return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in files) or None


def guarded(look: Callable[[], object]) -> None:
    """The watch outlives a database or a queue that is away for a while.

    Its connection to SQLite stays open: whoever closes the last one writes the whole log back to the database.
    """
    is_kept = connection.vendor == "sqlite"
    try:
        look()
    except OperationalError as error:
        logger.warning("The database cannot be read or written to now; the worker tries again. %s", error)
        is_kept = False
    except Exception:
        logger.exception("The worker could not look for lost and waiting work; it tries again.")
        is_kept = False
    finally:
        if not is_kept:
            close_old_connections()
