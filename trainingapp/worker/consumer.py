"""The queue of wake-ups and the worker process that serves it.

Huey's classes are named in the settings and made while Django loads, so nothing here touches models at import.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import threading
from importlib import import_module
from pathlib import Path

from huey import Huey, RedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.storage import SqliteStorage

from trainingapp.worker.wakeup_pipes import WakeupPipe, pipe_for, wake_all

logger = logging.getLogger(__name__)

#: Seconds between two checks for work without a worker.
WATCH_S = 2.0
#: Seconds after which an idle thread looks into the queue although nothing has woken it.
LOOK_S = 5.0
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
        if isinstance(self.huey.storage, _Storage):
            self.huey.storage.listen()
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
        self.stop_flag.set()
        if isinstance(self.huey.storage, _Storage):
            self.huey.storage.end_waiting()
        super().stop(graceful)

    def _watch_runs(self) -> None:
        from trainingapp.models import trash
        from trainingapp.supervision import note_restart
        from trainingapp.worker.watch import Watch, guarded

        guarded(trash.sweep)
        guarded(note_restart)
        watch = Watch()
        while not self.stop_flag.is_set():
            watch.look()
            self.stop_flag.wait(WATCH_S)


class _Storage(SqliteStorage):
    """Whole after a power cut, without waiting for the disk at each message. Threads of a worker wait for messages."""

    _pipe: WakeupPipe | None = None

    def listen(self) -> None:
        """Let `dequeue` wait for a message. Where that is not possible, the queue is polled as the settings say."""
        self._pipe = pipe_for(Path(self.filename))
        self.blocking = self._pipe is not None

    def end_waiting(self) -> None:
        """Let every thread that waits for a message return without one."""
        if self._pipe is not None:
            self._pipe.close()

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        super().enqueue(data, priority)
        wake_all(Path(self.filename))

    def dequeue(self) -> bytes | None:
        seen = self._pipe.count if self._pipe is not None else 0
        data: bytes | None = super().dequeue()
        if data is None and self._pipe is not None:
            self._pipe.wait(seen, LOOK_S)  # the worker asks again
        return data

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
