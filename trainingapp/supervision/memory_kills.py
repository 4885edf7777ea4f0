"""Whether the kernel has just killed a process because memory ran out."""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

#: The kernel counts a kill before the process has ended, which may take seconds on a busy machine.
DYING_S = 10.0


def memory_kills() -> int:
    """How many processes this machine's system has killed since it started because memory ran out."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class MemoryKills:
    """Samples the count while a trainer runs, so that a kill shortly before its end is recognized."""

    def __init__(self, count: Callable[[], int] = memory_kills, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        #: (time, count) of the last DYING_S seconds, and one from before.
        self._looks = deque([(clock(), count())])

    def look(self) -> None:
        """Take a sample; to be called while the trainer runs."""
        now = self._clock()
        self._looks.append((now, self._count()))
        while len(self._looks) > 1 and self._looks[1][0] <= now - DYING_S:
            self._looks.popleft()

    def has_one(self) -> bool:
        """Whether a process was killed since the oldest sample."""
        return self._count() > self._looks[0][1]
