"""How long a running run has been without a heartbeat, also when a clock is set.

Heartbeats contain the wall-clock time. While the clocks are right, their age is known immediately. A heartbeat in the
future, or a jump of this machine's clock, makes the age meaningless: then only a change of the heartbeat counts, timed
with the monotonic clock, which cannot be set. The same holds for a run whose heartbeat was seen to change, because the
clock of its host may be wrong.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from trainingapp.models import TrainingRun

#: Difference between wall and monotonic clock from which the wall clock counts as set.
JUMP_S = 2.0


@dataclass
class _Seen:
    heartbeat_at: datetime
    #: In seconds of the monotonic clock.
    since: float
    #: Whether this process has seen the heartbeat change.
    beats: bool = False


class Heartbeats:
    """The heartbeats of runs that this process has seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[int, int, str], _Seen] = {}
        self._offset_s = self._read_offset()
        self._jumped_at: float | None = None

    def silence_s(self, run: TrainingRun) -> float:
        """Seconds for which the worker of a running run has certainly been silent."""
        if run.heartbeat_at is None:
            return float("inf")
        with self._lock:
            offset_s = self._read_offset()
            if abs(offset_s - self._offset_s) > JUMP_S:
                self._jumped_at = self._clock()
            self._offset_s = offset_s
            key = (run.pk, run.attempt, run.worker)
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen(run.heartbeat_at, self._clock())
            elif seen.heartbeat_at != run.heartbeat_at:
                seen = self._seen[key] = _Seen(run.heartbeat_at, self._clock(), beats=True)
            watched_s, age_s = self._clock() - seen.since, (timezone.now() - run.heartbeat_at).total_seconds()
            # The age by the wall clock counts unless it lies in the future or a clock has jumped within the last lease.
            lease_s = float(settings.HEARTBEAT_LEASE_S)
            has_jumped = self._jumped_at is not None and self._clock() - self._jumped_at < lease_s
            is_age_trusted = not seen.beats and age_s >= -lease_s and not has_jumped
            return max(watched_s, age_s) if is_age_trusted else watched_s

    def forget_all_but(self, run_ids: set[int]) -> None:
        """Forget runs that are no longer running."""
        with self._lock:
            self._seen = {key: seen for key, seen in self._seen.items() if key[0] in run_ids}

    def _read_offset(self) -> float:
        return timezone.now().timestamp() - self._clock()


heartbeats = Heartbeats()
