"""The topic of a user's notifications: the bell of the page, and what the browser shows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

from django.db.models import Count, Max
from django.template.loader import render_to_string
from django.utils import translation

from trainingapp.accounts.notifications.events import event_named
from trainingapp.accounts.notifications.payloads import path_of
from trainingapp.accounts.notifications.reading import for_browser, unread_count
from trainingapp.models import Notification
from trainingapp.presentation.messages import rendered_data
from trainingapp.runs.live_lists import LIST_POLL_S, now_ms
from trainingapp.runs.stream_clients import Audience, Batch, Client, Message, Seat, in_thread
from trainingapp.runs.stream_readers import Key, Reader


@dataclass(frozen=True)
class Unread:
    """The unread notifications of a user: how many, and the number of the newest."""

    count: int = 0
    newest: int = 0


class BellReader(Reader[Unread]):
    """Sends the bell anew when a notification arrives or is read. Its key is the id of the user."""

    poll_s = LIST_POLL_S

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self._known: Unread | None = None
        self._states: dict[Audience, list[Message]] = {}

    @property
    def topic(self) -> str:
        return "bell"

    @classmethod
    def read(cls, wanted: Mapping[Key, int]) -> Mapping[Key, Unread]:
        rows = Notification.objects.filter(user__in=list(wanted), read_at=None).order_by()
        counts = rows.values("user").annotate(count=Count("pk"), newest=Max("pk"))
        found = {row["user"]: Unread(row["count"], row["newest"]) for row in counts}
        return {key: found.get(key, Unread()) for key in wanted}

    async def take(self, found: Unread) -> None:
        is_first, is_same = self._known is None, self._known == found
        self._known = found
        if is_first:
            self.position = now_ms()
        if is_first or is_same:
            return
        self._states.clear()
        self.position = now_ms()
        await self._render({seat.audience for seat in self.seats})
        for seat in list(self.seats):
            if seat.is_listening and seat.audience in self._states:
                messages = (*self._states[seat.audience], Message("changed", "", self.position))
                seat.client.offer(Batch(messages, self.topic))

    async def reached(self, client: Client, position: int) -> None:
        """Return after the first reading."""
        await super().reached(client, 0)

    async def backlog(self, seat: Seat, after: int) -> AsyncIterator[list[Batch]]:
        await self._render({seat.audience})
        seat.is_listening = True
        changed = [Message("changed", "", self.position)] if 0 < after < self.position else []
        yield [Batch((*self._states.get(seat.audience, []), *changed), self.topic)]

    async def _render(self, audiences: Collection[Audience]) -> None:
        missing = [audience for audience in audiences if audience not in self._states]
        if missing:
            self._states |= await in_thread(_states, int(self.key), missing)


def _states(user_id: int, audiences: Collection[Audience]) -> dict[Audience, list[Message]]:
    count, shown = unread_count(user_id), list(for_browser(user_id))
    states: dict[Audience, list[Message]] = {}
    for audience in audiences:
        with translation.override(audience.language):
            items = [
                {
                    "id": row.pk,
                    "title": str(event_named(row.occurrence.event).label),
                    "text": rendered_data(row.occurrence.message_data),
                    "url": path_of(row.occurrence),
                }
                for row in shown
            ]
            bell = render_to_string("notifications/_bell.html", {"count": count}).strip()
        states[audience] = [Message("bell", bell), Message("notify", json.dumps(items, ensure_ascii=False))]
    return states
