"""The ranks of a run on other hosts, as the supervisor of the run sees them: by the rows of their shares."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from trainingapp.contract.events import AnyEvent
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.ranks import HOST_SILENT, SHARE_LOST, exit_text
from trainingapp.contract.run_directory import EXIT_PEER_LOST
from trainingapp.models import RunShare, TrainingRun
from trainingapp.models.device import mark_away
from trainingapp.supervision.event_store import is_sign_of_life

#: Seconds between two looks at the shares.
LOOK_S = 1.5
#: Seconds after the end of a share in which the trainer should have noticed it, at an operation that fails.
NOTICED_S = 10.0
#: Seconds that the workers of other hosts get to end their ranks once the trainer has ended. One that has not even sent
#: a heartbeat by then is lost.
END_S = 5.0
END_POLL_S = 0.2


@dataclass
class _Seen:
    """What was seen of a share; times are of the monotonic clock, which cannot be set."""

    heartbeat_at: datetime
    since: float
    ended: float | None = None


def other_hosts(run: TrainingRun) -> "OtherHosts | None":
    """The other hosts of the present attempt; None where it has none, as most have."""
    if run.hosts_at_most == 1:
        return None
    found = OtherHosts(run)
    found.look()
    return found if found.shares else None


def is_cut_off(unread: Iterable[AnyEvent], away_s: float, limit_s: float) -> bool:
    """Whether this host reaches neither the database nor the other hosts of a run.

    `unread` are the events that the trainer has written since the database was last reached, `away_s` seconds ago.
    While there are new ones the database alone is away, and training continues.
    """
    newest = max((event.time for event in unread if is_sign_of_life(event)), default=0.0)
    return away_s >= limit_s and time.time() - newest >= limit_s


class OtherHosts:
    """The shares of one attempt on other hosts than that of its supervisor."""

    def __init__(self, run: TrainingRun, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_attempt = RunShare.objects.filter(run=run, attempt=run.attempt)
        self._clock = clock
        self._looked_at = clock()
        self._seen: dict[int, _Seen] = {}
        self.shares: list[RunShare] = []

    def look(self) -> None:
        """Read the shares."""
        shares, now = list(self._of_attempt.filter(node_rank__gt=0).order_by("node_rank")), self._clock()
        if now - self._looked_at > 3 * LOOK_S:  # the database was away, for the other workers too
            self._seen.clear()
        self.shares, self._looked_at = shares, now
        for share in shares:
            seen = self._seen.get(share.pk)
            if seen is None or seen.heartbeat_at != share.heartbeat_at:
                self._seen[share.pk] = _Seen(share.heartbeat_at, now)
            if share.ended_at is not None and self._seen[share.pk].ended is None:
                self._seen[share.pk].ended = now

    def look_when_due(self) -> bool:
        """Read the shares again after LOOK_S; returns whether they were read."""
        if self._clock() - self._looked_at < LOOK_S:
            return False
        self.look()
        return True

    @property
    def leaving(self) -> str:
        """A host whose worker is being stopped; empty where there is none."""
        return next((share.host for share in self.shares if share.is_leaving and share.ended_at is None), "")

    @property
    def problem(self) -> Message | None:
        """Why the attempt must end although the trainer has noticed nothing; None while all is well."""
        now, lease_s = self._clock(), float(settings.HEARTBEAT_LEASE_S)
        for share in self.shares:
            seen = self._seen[share.pk]
            if seen.ended is None and now - seen.since > lease_s:
                return HOST_SILENT(host=share.host)
            if seen.ended is not None and share.exit_code != 0 and now - seen.ended > NOTICED_S:
                return self.cause or HOST_SILENT(host=share.host)
        return None

    @property
    def cause(self) -> Message | None:
        """The share whose rank ended first, and not because another one did."""
        ended = [
            (share.ended_at, share.host, share.exit_code)
            for share in self.shares
            if share.ended_at is not None and share.exit_code not in (None, 0, EXIT_PEER_LOST)
        ]
        if not ended:
            return None
        _at, host, exit_code = min(ended)
        return SHARE_LOST(host=host, exit=exit_text(exit_code or 0))

    def end(self, exit_code: int | None, beat: Callable[[], object]) -> Message | None:
        """To be called when the trainer has ended: the ranks of the other hosts end too, and this waits for it.

        `beat` is called meanwhile. Returns which share was lost before, where one was. A host that does not respond
        counts as away until its worker reports again, so that the next attempt does not wait for it.
        """
        now = timezone.now()
        self._of_attempt.filter(node_rank=0).update(ended_at=now, exit_code=exit_code)
        self._of_attempt.filter(node_rank__gt=0, worker="").update(ended_at=now)  # nobody takes it any longer
        self.look()
        before = {share.pk: share.heartbeat_at for share in self.shares}
        deadline = self._clock() + END_S
        while (left := self._open()) and self._clock() < deadline:
            beat()
            time.sleep(END_POLL_S)
            self.look()
        silent = [share for share in left if share.heartbeat_at == before[share.pk]]
        for share in silent:
            RunShare.objects.filter(pk=share.pk, ended_at=None).update(ended_at=timezone.now())
            mark_away(share.host)
        return self.cause or (HOST_SILENT(host=silent[0].host) if silent else None)

    def _open(self) -> list[RunShare]:
        return [share for share in self.shares if share.ended_at is None]
