"""What a supervisor does unasked: it ends trainers that hang, do not answer or have had their time.

Everything here is measured by the monotonic clock: a clock that is set does not end a run.
"""

import time
from collections.abc import Callable
from typing import Literal

from django.conf import settings

from trainingapp.models import TrainingRun
from trainingapp.models.run import RequestedAction

#: forced: somebody asked for it. unanswered: it was asked to pause or stop and did not. hang: it has said nothing for
#: too long. soft_limit: it is asked to save and end. hard_limit: it has had its time.
Cause = Literal["forced", "unanswered", "hang", "soft_limit", "hard_limit"]

#: A trainer may be quiet for so many times its longest pause so far, however short HANG_MINUTES is.
USUAL_PAUSES = 3.0


class Watchdog:
    """Watches one trainer. `heard` is to be called whenever it said something."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_at = clock()
        self._longest_pause_s = 0.0
        self._asked: str = ""
        self._asked_at = 0.0
        self._soft_limit_told = False

    def heard(self) -> None:
        now = self._clock()
        self._longest_pause_s = max(self._longest_pause_s, now - self._heard_at)
        self._heard_at = now

    def verdict(self, run: TrainingRun) -> Cause | None:
        """What has to be done about the trainer of `run` now. A soft limit is told once."""
        if run.requested_action == RequestedAction.KILL:
            return "forced"
        if run.hard_limit_s and run.spent_s >= run.hard_limit_s:
            return "hard_limit"
        if self._is_unanswered(run):
            return "unanswered"
        if self._is_hanging():
            return "hang"
        if not self._soft_limit_told and run.soft_limit_s and run.spent_s >= run.soft_limit_s:
            self._soft_limit_told = True
            return "soft_limit"
        return None

    def _is_unanswered(self, run: TrainingRun) -> bool:
        asked = run.requested_action or ("stop" if self._soft_limit_told else "")
        if asked != self._asked:
            self._asked, self._asked_at = asked, self._clock()
        grace_s = settings.STOP_GRACE_S
        return bool(asked and grace_s and self._clock() - self._asked_at > grace_s)

    def _is_hanging(self) -> bool:
        limit_s = settings.HANG_MINUTES * 60
        quiet_s = self._clock() - self._heard_at
        return bool(limit_s) and quiet_s > max(limit_s, USUAL_PAUSES * self._longest_pause_s)
