"""How long a running run has been without a heartbeat, although clocks may be set.

Heartbeats carry the wall-clock time. While the clocks are right, their age is known immediately. A heartbeat from the
future, or a jump of this machine's clock, makes the age meaningless: then only a change of the heartbeat counts, timed
with the monotonic clock, which cannot be set. The same holds for a run whose heartbeat was seen to change: the clock of
its host may be wrong.
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
    #: Whether the heartbeat has been seen to change.
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
            seen = self._look((run.pk, run.attempt, run.worker), run.heartbeat_at)
            watched_s, age_s = self._clock() - seen.since, (timezone.now() - run.heartbeat_at).total_seconds()
            return watched_s if seen.beats or not self._is_trusted(age_s) else max(watched_s, age_s)

    def _look(self, key: tuple[int, int, str], heartbeat_at: datetime) -> _Seen:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(heartbeat_at, self._clock())
        elif seen.heartbeat_at != heartbeat_at:
            seen = self._seen[key] = _Seen(heartbeat_at, self._clock(), beats=True)
        return seen

    def forget_all_but(self, run_ids: set[int]) -> None:
        """Forget runs that are no longer running."""
        with self._lock:
            self._seen = {key: seen for key, seen in self._seen.items() if key[0] in run_ids}

    def _is_trusted(self, age_s: float) -> bool:
        """Whether the age by the wall clock is meaningful: not in the future, and no jump within the last lease."""
        lease_s = float(settings.HEARTBEAT_LEASE_S)
        has_jumped = self._jumped_at is not None and self._clock() - self._jumped_at < lease_s
        return age_s >= -lease_s and not has_jumped

    def _read_offset(self) -> float:
        return timezone.now().timestamp() - self._clock()


heartbeats = Heartbeats()
