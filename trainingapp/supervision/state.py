"""What the threads of one worker process share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Set when the worker ends: supervisors have their trainers save and leave, and no run is claimed any more.
shutting_down = threading.Event()

_lock = threading.Lock()
_held: set[int] = set()


@contextmanager
def holding(run_id: int) -> Iterator[bool]:
    """Mark the run as in the hands of a thread of this process; yields False when another thread has it already."""
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
