"""The queue of wake-ups and the worker process that serves it.

Huey's classes are named in the settings and made while Django loads, so nothing here touches models at import.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from importlib import import_module

from django.db import OperationalError, close_old_connections
from huey import Huey, RedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.storage import SqliteStorage

logger = logging.getLogger(__name__)

#: Seconds between two checks for work without a worker.
WATCH_S = 2.0
#: Set for a child of `manage.py studio`: the process whose death ends it too.
PARENT_VARIABLE = "STUDIO_PARENT_PID"


class StudioConsumer(Consumer):
    """A worker process that ends within seconds and loses no run and no job.

    On SIGINT, SIGTERM and the death of its parent the trainers save and exit, and jobs stop; their runs and jobs wait
    for the next worker.
    """

    def __init__(self, huey: Huey, **options: object) -> None:
        # Huey discovers only modules named `tasks` directly in an app. A wake-up that a thread reads before its task is
        # registered is lost, so the tasks are registered before the first thread starts.
        import_module("trainingapp.worker.tasks")
        super().__init__(huey, **options)
        self._signal_actions[signal.SIGTERM] = (False, True)  # graceful as well, and no restart
        self._watch = threading.Thread(target=self._watch_runs, name="watch", daemon=True)

    def start(self) -> None:
        from trainingapp.operations.collector import settle
        from trainingapp.supervision import warm_spare

        settle()
        super().start()
        warm_spare()
        self._watch.start()
        end_with_parent(signal.SIGINT)

    def stop(self, graceful: bool = False) -> None:
        from trainingapp.jobs.attempts import warm_process
        from trainingapp.supervision import drop_spare, shutting_down

        shutting_down.set()
        drop_spare()
        warm_process.drop()
        super().stop(graceful)

    def _watch_runs(self) -> None:
        from trainingapp.models import trash
        from trainingapp.scheduling.inventory import keep_fresh
        from trainingapp.supervision import HOST, note_restart, worker_id
        from trainingapp.supervision.device_checks import check_devices
        from trainingapp.worker import tasks

        def read_machine() -> None:
            if keep_fresh(HOST, worker_id()):
                check_devices(HOST)

        self._guarded(trash.sweep)
        self._guarded(note_restart)
        while not self.stop_flag.is_set():
            self._guarded(read_machine)
            self._guarded(tasks.check_for_work)
            self.stop_flag.wait(WATCH_S)

    @staticmethod
    def _guarded(look: Callable[[], object]) -> None:
        """The watch outlives a database or a queue that is away for a while."""
        try:
            look()
        except OperationalError as error:
            logger.warning("The database cannot be read or written to now; the worker tries again. %s", error)
        except Exception:
            logger.exception("The worker could not look for lost and waiting work; it tries again.")
        finally:
            close_old_connections()


class _Storage(SqliteStorage):
    """Whole after a power cut, without waiting for the disk at each message."""

    def initialize_schema(self) -> None:
        """Huey makes its tables while Django loads: a folder that takes none must not keep the doctor from it."""
        with contextlib.suppress(sqlite3.OperationalError):
            super().initialize_schema()

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("pragma synchronous=normal")
        for statement in self.ddl:  # the tables may not be there yet, see above
            connection.execute(statement)
        return connection


class SqliteStudioHuey(SqliteHuey):
    """The queue in a separate file, without Redis."""

    storage_class = _Storage

    def create_consumer(self, **options: object) -> StudioConsumer:
        return StudioConsumer(self, **options)


class RedisStudioHuey(RedisHuey):
    """The queue in Redis."""

    def create_consumer(self, **options: object) -> StudioConsumer:
        return StudioConsumer(self, **options)


def end_with_parent(signal_number: int) -> None:
    """Send this process the signal when the parent named in the environment is gone, however it went."""
    parent = os.environ.get(PARENT_VARIABLE, "")
    if parent.isdigit():
        threading.Thread(target=_await_orphanhood, args=(int(parent), signal_number), daemon=True).start()


def _await_orphanhood(parent: int, signal_number: int) -> None:
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(0.5)
    logger.warning("The studio's parent process is gone; this process ends too.")
    os.kill(os.getpid(), signal_number)
