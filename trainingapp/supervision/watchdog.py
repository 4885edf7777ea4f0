"""When a supervisor terminates a trainer: it hangs, does not respond, or has reached a time limit.

All times are measured with the monotonic clock, so that no run ends because the clock of the machine is set.
"""

import time
from collections.abc import Callable
from typing import Literal

from django.conf import settings

from trainingapp.models import TrainingRun
from trainingapp.models.run import RequestedAction

#: forced: a user requested it. unanswered: the trainer did not pause or stop when requested. hang: it reported nothing
#: for too long. soft_limit: it is requested to save and stop. hard_limit: it is killed.
Cause = Literal["forced", "unanswered", "hang", "soft_limit", "hard_limit"]

#: A trainer may be silent for this multiple of its longest silence so far, even where HANG_MINUTES is shorter: a run
#: with long steps must not count as hanging.
LONGEST_SILENCES = 3.0


class Watchdog:
    """The limits of one trainer. `note_event` must be called whenever the trainer has reported something."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_event = clock()
        self._longest_silence_s = 0.0
        self._requested: str = ""
        self._requested_at = 0.0
        self._soft_limit_sent = False

    def note_event(self) -> None:
        now = self._clock()
        self._longest_silence_s = max(self._longest_silence_s, now - self._last_event)
        self._last_event = now

    @property
    def cut_off_s(self) -> float:
        """Seconds without an event after which a trainer counts as waiting for other hosts; see `is_cut_off`."""
        return max(float(settings.HEARTBEAT_LEASE_S), LONGEST_SILENCES * self._longest_silence_s)

    def verdict(self, run: TrainingRun) -> Cause | None:
        """Why the trainer of `run` must end now, or None. The soft limit is returned only once."""
        if run.requested_action == RequestedAction.KILL:
            return "forced"
        if run.hard_limit_s and run.spent_s >= run.hard_limit_s:
            return "hard_limit"
        requested = run.requested_action or ("stop" if self._soft_limit_sent else "")
        if requested != self._requested:
            self._requested, self._requested_at = requested, self._clock()
        grace_s = settings.STOP_GRACE_S
        if requested and grace_s and self._clock() - self._requested_at > grace_s:
            return "unanswered"
        limit_s, silent_s = settings.HANG_MINUTES * 60, self._clock() - self._last_event
        if limit_s and silent_s > max(limit_s, LONGEST_SILENCES * self._longest_silence_s):
            return "hang"
        if not self._soft_limit_sent and run.soft_limit_s and run.spent_s >= run.soft_limit_s:
            self._soft_limit_sent = True
            return "soft_limit"
        return None
