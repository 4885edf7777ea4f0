"""The topics of lists: the list of runs, and the queue with the devices.

"changed" lets a page fetch what it shows, with its filters. It is sent when a run comes, goes, is archived, or changes
its status, its name or its sharing. When a run merely gets on, "rows" has its cells, rendered once for each language
and sent to those who may see the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import Max
from django.utils import timezone, translation
from django.utils.html import conditional_escape

from trainingapp.models import Device, DeviceHold, Forecast, Host, TrainingRun
from trainingapp.models.run import Status, heartbeat_deadline
from trainingapp.presentation.run_cells import CELLS
from trainingapp.runs.stream_clients import HEARTBEAT_S, Audience, Batch, Client, Message, Seat, in_thread, visible_runs
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
    *("created_at", "started_at", "updated_at", "archived_at"),
)
#: What the cells show that change while a run trains.
_SHOWN = (*("step", "total_steps", "epoch", "total_epochs", "best_metric", "best_metric_name", "elapsed_s", "eta_s"),)


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
        self._shown: dict[int, tuple[object, ...]] = {}
        #: Which runs, as they are shared now, each user may see, and until when that is believed.
        self._seen: dict[int, dict[tuple[object, ...], bool]] = {}
        self._seen_until = 0.0

    @property
    def topic(self) -> str:
        return str(self.key)

    @classmethod
    def read(cls, wanted: Mapping[Key, int]) -> Mapping[Key, Look]:
        runs = TrainingRun.objects.only(*_WATCHED, *_SHOWN)
        found = {run.pk: run for run in runs.filter(updated_at__gte=timezone.now() - RECENT)}
        found |= {run.pk: run for run in runs.filter(status__in=IN_WORK)}
        return dict.fromkeys(wanted, Look(found, cls.rest()))

    @classmethod
    def rest(cls) -> tuple[object, ...]:
        """What the list depends on besides: a run was deleted, or a host appeared, is leaving or disappeared."""
        hosts = Host.objects.filter(seen_at__gte=heartbeat_deadline()).order_by("pk")
        return TrainingRun.objects.count(), tuple(hosts.values_list("pk", "state"))

    async def take(self, found: Look) -> None:
        known: dict[int, tuple[object, ...]] = {
            pk: (run.shown_status, run.name, run.visibility, run.team_id, run.owner_id, run.version, run.archived_at)
            for pk, run in found.runs.items()
        }
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
        shown = {pk: (run.shown_status, *(getattr(run, name) for name in _SHOWN)) for pk, run in found.runs.items()}
        changed = [run for pk, run in found.runs.items() if self._shown.get(pk, shown[pk]) != shown[pk]]
        self._shown = shown
        if changed and (audiences := {seat.audience for seat in self.seats if seat.is_listening}):
            rows = await in_thread(self._rows, changed, audiences)
            for seat in list(self.seats):
                if seat.is_listening and seat.audience in rows:
                    seat.client.offer(rows[seat.audience])

    def _rows(self, runs: list[TrainingRun], audiences: Collection[Audience]) -> dict[Audience, Batch]:
        """The cells of the runs for those who may see some of them; users who see the same share one batch."""
        users = User.objects.in_bulk([audience.reader for audience in audiences if audience.reader])
        cells: dict[str, dict[int, dict[str, str]]] = {}
        for language in {audience.language for audience in audiences}:
            with translation.override(language):
                cells[language] = {
                    run.pk: {name: conditional_escape(cell(run)) for name, cell in CELLS.items()} for run in runs
                }
        batches: dict[tuple[str, frozenset[int]], Batch] = {}
        found: dict[Audience, Batch] = {}
        for audience in audiences:
            user = users.get(audience.reader or 0)
            seen = self._seen_by(user, runs) if user is not None else frozenset()
            if seen and (audience.language, seen) not in batches:
                rows = {pk: cells[audience.language][pk] for pk in sorted(seen)}
                message = Message("rows", json.dumps(rows, ensure_ascii=False))
                batches[audience.language, seen] = Batch((message,), self.topic)
            if seen:
                found[audience] = batches[audience.language, seen]
        return found

    def _seen_by(self, user: User, runs: Iterable[TrainingRun]) -> frozenset[int]:
        """Those of the runs that the user may see; asked once in HEARTBEAT_S, and when a run is shared otherwise."""
        if time.monotonic() >= self._seen_until:
            self._seen.clear()
            self._seen_until = time.monotonic() + HEARTBEAT_S
        known = self._seen.setdefault(user.pk, {})
        keys = {run.pk: (run.pk, run.visibility, run.team_id, run.owner_id) for run in runs}
        unknown = [pk for pk, key in keys.items() if key not in known]
        visible = visible_runs(user, unknown)
        known |= {keys[pk]: pk in visible for pk in unknown}
        return frozenset(pk for pk, key in keys.items() if known[key])

    async def reached(self, client: Client, position: int) -> None:
        """Return after the first reading."""
        await super().reached(client, 0)

    async def backlog(self, seat: Seat, after: int) -> AsyncIterator[list[Batch]]:
        seat.is_listening = True
        if 0 < after < self.position:
            yield [Batch((self._changed(),), self.topic)]

    def _changed(self) -> Message:
        return Message("changed", "", self.position)


class QueueReader(ListReader):
    """The same for the queue and the devices: the order, the forecasts and the use of devices too."""

    @classmethod
    def rest(cls) -> tuple[object, ...]:
        order = tuple(queued_runs().values_list("pk", "priority", "queue_rank", "not_before"))
        holds = frozenset(DeviceHold.objects.filter(released_at=None).values_list("pk", flat=True))
        states = frozenset(
            Device.objects.values_list("pk", "problem", "is_present", "quarantined_at", "job", "job__state")
        )
        return *super().rest(), order, holds, states, Forecast.objects.aggregate(newest=Max("pk"))["newest"]


def now_ms() -> int:
    """The time as pages and streams of lists give it."""
    return round(time.time() * 1000)


def _changed_at(run: TrainingRun) -> int:
    """When lists changed with this run the last time; writing its progress is no change."""
    last = max(run.created_at, run.started_at or run.created_at) if run.status == Status.RUNNING else run.updated_at
    return round(last.timestamp() * 1000)
