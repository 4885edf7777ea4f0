"""Named pipes that wake the workers of this machine when there is a message for them.

A queue in SQLite can only be polled. Each worker process therefore has a pipe beside the file of the queue, and whoever
adds a message writes a byte into every pipe. A pipe carries nothing else: a byte that is lost delays the message until
the next look.
"""

import contextlib
import errno
import logging
import os
import threading
import uuid
from pathlib import Path

logger = logging.getLogger(__name__)

SUFFIX = ".wakeup"
#: Bytes that are read at a time: several wake-ups in a row are one.
READ_BYTES = 4096


class WakeupPipe:
    """The pipe of one worker process. Threads wait for a change of `count`."""

    def __init__(self, queue_file: Path) -> None:
        """Make the pipe. Raises OSError where the folder or the system has none."""
        self.count = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._path = queue_file.with_name(f"{queue_file.name}.{uuid.uuid4().hex}{SUFFIX}")
        # Opened before it has its name: others remove a pipe that nobody reads.
        unready = self._path.with_suffix(".new")
        os.mkfifo(unready, 0o600)
        try:
            self._descriptor = os.open(unready, os.O_RDONLY | os.O_NONBLOCK)
            self._kept_open = os.open(unready, os.O_WRONLY)  # without a writer, reading would end
            unready.rename(self._path)
        except OSError:
            unready.unlink(missing_ok=True)
            raise
        os.set_blocking(self._descriptor, True)
        threading.Thread(target=self._read, name="wake-ups", daemon=True).start()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Return when there was a wake-up since `count` was `seen`, the pipe is closed, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen or self._is_closed, timeout_s)

    def close(self) -> None:
        """Remove the pipe and end all waiting."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        while os.read(self._descriptor, READ_BYTES):
            with self._changed:
                self.count += 1
                self._changed.notify_all()


def pipe_for(queue_file: Path) -> WakeupPipe | None:
    """A pipe beside the queue; None where there can be none, so that the queue has to be polled."""
    try:
        return WakeupPipe(queue_file)
    except (OSError, AttributeError) as error:  # no pipes on this file system, or on this system at all
        logger.info("The queue is polled, because a named pipe could not be made beside %s: %s", queue_file, error)
        return None


def wake_all(queue_file: Path) -> None:
    """Wake every worker that has a pipe beside the queue. Never waits; pipes of processes that are gone are removed."""
    for path in queue_file.parent.glob(f"{queue_file.name}.*{SUFFIX}"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads it
                path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError):  # a full pipe: its reader is woken already
            os.write(descriptor, b".")
        os.close(descriptor)
