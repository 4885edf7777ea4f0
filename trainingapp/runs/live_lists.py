"""The topics of lists: the list of runs, and the queue with the devices.

"changed" lets a page fetch what it shows, with its filters. It is sent when a run comes, goes, or changes its status,
its name or its sharing, and not when a run merely gets on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Max
from django.utils import timezone

from trainingapp.models import DeviceHold, Forecast, Host, TrainingRun
from trainingapp.models.run import Status, heartbeat_deadline
from trainingapp.runs.stream_clients import Batch, Client, Message, Seat
from trainingapp.runs.stream_readers import Key, Reader
from trainingapp.scheduling.placement import queued_runs

#: Seconds between two readings.
LIST_POLL_S = 1.0
#: Runs that were written in the last seconds are looked at: clocks of hosts and transactions differ by less.
RECENT = timedelta(seconds=30)
IN_WORK = (Status.QUEUED, Status.RUNNING)
#: The columns that decide whether a list has changed.
_WATCHED = (
    *("name", "status", "requested_action", "heartbeat_at", "visibility", "team_id", "owner_id", "version"),
    *("created_at", "started_at", "updated_at"),
)


@dataclass(frozen=True)
class Look:
    """The runs that are in work or were written a moment ago, and what else a list depends on."""

    runs: dict[int, TrainingRun]
    rest: tuple[object, ...]


class ListReader(Reader[Look]):
    """Tells its clients that the list has changed. `position` is the time of the newest change, in milliseconds.

    A client gives the time at which its page was rendered, or of the last change that it has heard of.
    """

    poll_s = LIST_POLL_S

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self._known: dict[int, tuple[object, ...]] | None = None
        self._in_work: set[int] = set()
        self._rest: tuple[object, ...] = ()

    @property
    def topic(self) -> str:
        return str(self.key)

    @classmethod
    def read(cls, wanted: Mapping[Key, int]) -> Mapping[Key, Look]:
        runs = TrainingRun.objects.only(*_WATCHED)
        found = {run.pk: run for run in runs.filter(updated_at__gte=timezone.now() - RECENT)}
        found |= {run.pk: run for run in runs.filter(status__in=IN_WORK)}
        return dict.fromkeys(wanted, Look(found, cls.rest()))

    @classmethod
    def rest(cls) -> tuple[object, ...]:
        """What the list depends on besides: a run was deleted, or a host appeared or disappeared."""
        return TrainingRun.objects.count(), Host.objects.filter(seen_at__gte=heartbeat_deadline()).count()

    async def take(self, found: Look) -> None:
        known = {pk: _facts(run) for pk, run in found.runs.items()}
        in_work = {pk for pk, run in found.runs.items() if run.status in IN_WORK}
        if self._known is None:
            self.position = max(map(_changed_at, found.runs.values()), default=0)
            self.position = max(self.position, now_ms() - round(RECENT.total_seconds() * 1000))
        elif (
            found.rest != self._rest
            or self._in_work - known.keys()
            or any(self._known.get(pk) != facts for pk, facts in known.items())
        ):
            self.position = now_ms()
            batch = Batch((self._changed(),), self.topic)
            for seat in list(self.seats):
                if seat.is_listening:
                    seat.client.offer(batch)
        self._known, self._in_work, self._rest = known, in_work, found.rest

    async def reached(self, client: Client, position: int) -> None:
        """Return after the first reading."""
        await super().reached(client, 0)

    async def backlog(self, seat: Seat, after: int) -> AsyncIterator[list[Message]]:
        seat.is_listening = True
        if 0 < after < self.position:
            yield [self._changed()]

    def _changed(self) -> Message:
        return Message("changed", "", self.position)


class QueueReader(ListReader):
    """The same for the queue and the devices: the order, the forecasts and the use of devices too."""

    @classmethod
    def rest(cls) -> tuple[object, ...]:
        order = tuple(queued_runs().values_list("pk", "priority", "queue_rank", "not_before"))
        holds = frozenset(DeviceHold.objects.filter(released_at=None).values_list("pk", flat=True))
        return *super().rest(), order, holds, Forecast.objects.aggregate(newest=Max("pk"))["newest"]


def now_ms() -> int:
    """The time as pages and streams of lists give it."""
    return round(time.time() * 1000)


def _facts(run: TrainingRun) -> tuple[object, ...]:
    return run.shown_status, run.name, run.visibility, run.team_id, run.owner_id, run.version


def _changed_at(run: TrainingRun) -> int:
    """When lists changed with this run the last time; writing its progress is no change."""
    last = max(run.created_at, run.started_at or run.created_at) if run.status == Status.RUNNING else run.updated_at
    return round(last.timestamp() * 1000)
