"""The newest events of a run as its clients got them, for those that come back.

A connection that breaks for all breaks at the same event: what they have missed is read and rendered once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from trainingapp.models import RunEvent
from trainingapp.runs.stream_clients import Batch, Message

#: Events that are kept of a run. At ten events a second this is what clients miss in 50 seconds.
KEPT_EVENTS = 500

Render = Callable[[list[RunEvent], str], list[Message]]


@dataclass
class _Stretch:
    """Events that follow each other: those above number `after` up to `upto`."""

    after: int
    upto: int
    rows: list[RunEvent]
    #: What clients of a language get that have the events up to a number, once somebody has asked for it.
    batches: dict[tuple[int, str], Batch] = field(default_factory=dict)


class RecentEvents:
    """Stretches of events without a gap between them. The event loop adds new ones, threads add older ones."""

    def __init__(self, topic: str, render: Render) -> None:
        self._topic, self._render = topic, render
        self._stretches: deque[_Stretch] = deque()
        self._lock = threading.Lock()

    @property
    def start(self) -> int | None:
        """The number above which all events are here; None while there are none."""
        return self._stretches[0].after if self._stretches else None

    def append(self, after: int, upto: int, rows: list[RunEvent], batches: dict[str, Batch]) -> None:
        """Add events that were sent just now, with what was sent by language."""
        with self._lock:
            if self._stretches and self._stretches[-1].upto != after:
                self._stretches.clear()
            rendered = {(after, language): batch for language, batch in batches.items()}
            self._stretches.append(_Stretch(after, upto, rows, rendered))
            kept = sum(len(stretch.rows) for stretch in self._stretches)
            while kept > KEPT_EVENTS and len(self._stretches) > 1:
                kept -= len(self._stretches.popleft().rows)

    def prepend(self, after: int, upto: int, rows: list[RunEvent]) -> None:
        """Add events that were read for a client, where they end at what is here or there is nothing yet."""
        with self._lock:
            kept = sum(len(stretch.rows) for stretch in self._stretches)
            if kept + len(rows) <= KEPT_EVENTS and self.start in (None, upto):
                self._stretches.appendleft(_Stretch(after, upto, rows))

    def clear(self) -> None:
        """Forget everything: what was sent is no longer what would be sent."""
        with self._lock:
            self._stretches.clear()

    def ready(self, after: int, upto: int, language: str) -> list[Batch] | None:
        """The events above `after` up to `upto` if they are here and have been rendered in this language."""
        stretches = self._between(after, upto)
        if stretches is None:
            return None
        found = [one.batches.get((max(after, one.after), language)) for one in stretches]
        batches = [batch for batch in found if batch is not None]
        return batches if len(batches) == len(found) else None

    def rendered(self, after: int, upto: int, language: str) -> list[Batch] | None:
        """The same, rendered now where nobody has asked for it before; None if they are not here. In a thread."""
        stretches = self._between(after, upto)
        if stretches is None:
            return None
        batches = []
        for one in stretches:
            key = (max(after, one.after), language)
            if key not in one.batches:
                rows = [row for row in one.rows if row.seq > after]
                one.batches[key] = Batch(tuple(self._render(rows, language)), self._topic)
            batches.append(one.batches[key])
        return batches

    def _between(self, after: int, upto: int) -> list[_Stretch] | None:
        with self._lock:
            stretches = [one for one in self._stretches if one.upto > after and one.after < upto]
        is_whole = stretches and stretches[0].after <= after and stretches[-1].upto == upto
        return stretches if is_whole else None
