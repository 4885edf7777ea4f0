"""The queue of wake-ups and the worker process that serves it.

Huey's classes are named in the settings and made while Django loads, so nothing here touches models at import.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import threading
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.storage import SqliteStorage

from trainingapp.worker.wakeup_pipes import WakeupPipe, pipe_for, wake_all

logger = logging.getLogger(__name__)

#: Seconds between two checks for work without a worker.
WATCH_S = 2.0
#: Seconds after which an idle thread looks into the queue although nothing has woken it.
LOOK_S = 5.0
#: Seconds for the watch to end once the worker has ended everything else.
WATCH_ENDS_S = 5.0
#: Set for a child of `manage.py studio`: the process whose death ends it too.
PARENT_VARIABLE = "STUDIO_PARENT_PID"


@dataclass(frozen=True)
class Stay:
    """How long a worker stays: until it is stopped, unless something is given."""

    #: Seconds with nothing to do after which it leaves.
    idle_s: float | None = None
    #: Seconds after the start of its process.
    leave_after_s: float | None = None

    @property
    def is_temporary(self) -> bool:
        return self.idle_s is not None or self.leave_after_s is not None


class StudioConsumer(Consumer):
    """A worker process that ends within seconds and loses no run and no job.

    On SIGINT, SIGTERM, SIGUSR1 and the death of its parent the trainers save and exit, and jobs stop; their runs and
    jobs wait for the next worker. The same happens at the end of its `stay`.
    """

    def __init__(self, huey: Huey, stay: Stay, **options: object) -> None:
        # Huey discovers only modules named `tasks` directly in an app. A wake-up that a thread reads before its task is
        # registered is lost, so the tasks are registered before the first thread starts.
        import_module("trainingapp.worker.tasks")
        super().__init__(huey, **options)
        # Graceful as well, and no restart. Cluster schedulers announce the end of a job by either.
        self._signal_actions |= dict.fromkeys((signal.SIGTERM, signal.SIGUSR1), (False, True))
        self._stay = stay
        self._has_ended = threading.Event()
        self._watch = threading.Thread(target=self._watch_runs, name="watch", daemon=True)

    def start(self) -> None:
        from trainingapp.operations.collector import settle
        from trainingapp.supervision import short_stay, warm_spare
        from trainingapp.worker.departure import leave_later

        settle()
        if self._stay.is_temporary:
            short_stay.set()
        if isinstance(self.huey.storage, _Storage):
            self.huey.storage.listen()
        super().start()
        warm_spare()
        self._watch.start()
        if self._stay.leave_after_s is not None:
            leave_later(self._stay.leave_after_s)
        end_with_parent(signal.SIGINT)

    def stop(self, graceful: bool = False) -> None:
        from trainingapp.jobs.attempts import warm_process
        from trainingapp.scheduling.inventory import note_leaving, note_left
        from trainingapp.supervision import HOST, drop_spare, shutting_down, worker_id
        from trainingapp.worker.watch import guarded

        shutting_down.set()
        drop_spare()
        warm_process.drop()
        self.stop_flag.set()
        if isinstance(self.huey.storage, _Storage):
            self.huey.storage.end_waiting()
        guarded(partial(note_leaving, HOST, worker_id()))
        super().stop(graceful)
        self._has_ended.set()
        if graceful and not any(thread.is_alive() for _worker, thread in self.worker_threads):
            self._watch.join(WATCH_ENDS_S)  # it would store that the worker is leaving
            guarded(partial(note_left, HOST, worker_id()))

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        """A second SIGINT ends the worker without a wait. Others are repeated by schedulers, which changes nothing."""
        if signum == signal.SIGINT or self._signum is None:
            super()._handle_signal(signum, frame)
        if signum != signal.SIGINT:
            signal.signal(signum, self._handle_signal)  # Huey gives it that of an interrupt

    def _watch_runs(self) -> None:
        from trainingapp.models import trash
        from trainingapp.scheduling.inventory import adopt_files, note_leaving
        from trainingapp.supervision import HOST, note_restart, worker_id
        from trainingapp.worker.departure import Idleness
        from trainingapp.worker.watch import Watch, guarded

        guarded(trash.sweep)
        guarded(note_restart)
        guarded(adopt_files)
        watch = Watch()
        idleness = None if self._stay.idle_s is None else Idleness(self._stay.idle_s)
        while not self.stop_flag.is_set():
            watch.look()
            if idleness is not None:
                guarded(idleness.look)
            self.stop_flag.wait(WATCH_S)
        while not self._has_ended.wait(WATCH_S):  # the trainers save meanwhile
            guarded(partial(note_leaving, HOST, worker_id()))


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


class _StudioHuey:
    #: How long the worker of this process stays; set before its consumer is created.
    stay = Stay()

    def create_consumer(self, **options: Any) -> StudioConsumer:
        assert isinstance(self, Huey)
        return StudioConsumer(self, self.stay, **options)


class SqliteStudioHuey(_StudioHuey, SqliteHuey):
    """The queue in a separate file, without Redis."""

    storage_class = _Storage


class RedisStudioHuey(_StudioHuey, RedisHuey):
    """The queue in Redis."""


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
