"""State that the threads of one worker process share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Set when the worker is stopped: supervisors have their trainers save and exit, and no more runs are claimed.
shutting_down = threading.Event()

_lock = threading.Lock()
_held: set[int] = set()


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
