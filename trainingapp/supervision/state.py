"""State that the threads of one worker process share."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Set when the worker is stopped: supervisors have their trainers save and exit, and no more runs are claimed.
shutting_down = threading.Event()
#: Set for a worker that stays for a while only: its end is not that of the studio.
short_stay = threading.Event()
#: Signals that a cluster scheduler sends to the worker and to the processes that it has started at once.
SENT_TO_ALL = frozenset({signal.SIGTERM, signal.SIGUSR1})
#: Seconds by which such a process may end before the worker has handled its own signal.
TOGETHER_S = 1.0

_lock = threading.Lock()
_held: set[int] = set()


def is_stopped_with(exit_status: int | None, *, is_interrupted: bool = False) -> bool:
    """Whether the worker is being stopped, now that a process which it has started has ended with this status.

    Where a signal ended the process, or it `is_interrupted` by one, that of the worker is awaited for a moment.
    """
    is_signalled = is_interrupted or (exit_status is not None and -exit_status in SENT_TO_ALL)
    return shutting_down.wait(TOGETHER_S if is_signalled else 0)


@contextmanager
def holding(run_id: int) -> Iterator[bool]:
    """Mark the run as held by a thread of this process; yields False when another thread already holds it."""
    with _lock:
        is_ours = run_id not in _held
        _held.add(run_id)
    try:
        yield is_ours
    finally:
        if is_ours:
            with _lock:
                _held.discard(run_id)


def is_held(run_id: int) -> bool:
    """Whether a thread of this process supervises or recovers the run."""
    with _lock:
        return run_id in _held
