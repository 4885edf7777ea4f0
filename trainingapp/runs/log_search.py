"""Searching the log of a run for a text, a part at a time.

The text of each line is read: docs/decisions/2026-11-29-logs-are-searched-in-parts.md says why there is no index of
words.
"""

from dataclasses import dataclass

from django.db.models import QuerySet

from trainingapp.contract.events import LEVELS
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.run_page import LOG_TYPES

#: Lines of each type whose text one search reads: some hundredths of a second.
SEARCHED_LINES = 20_000


@dataclass(frozen=True)
class Found:
    """Lines of a part of the log, oldest first. `next` is the number after which the rest begins; None at the end."""

    lines: list[RunEvent]
    next: int | None


def search_log(run: TrainingRun, text: str, *, level: str = "debug", after: int = 0, limit: int) -> Found:
    """At most `limit` lines above number `after` whose message contains the text, in any case of its letters.

    Messages are searched in English, as they are stored. Before the end there may be fewer lines than `limit`, or none.
    """
    rows = run.events.filter(seq__gt=after)
    end = _end_of_part(rows)
    if end is not None:
        rows = rows.filter(seq__lte=end)
    found = log_lines(rows.filter(data__message__icontains=text), level, limit)
    return Found(found, found[-1].seq if len(found) == limit else end)


def _end_of_part(rows: QuerySet[RunEvent]) -> int | None:
    """The number of the last line that one search reads; None if it reads all. Found in the index of each type."""
    ends: list[int] = []
    for type_ in LOG_TYPES:
        numbers = rows.filter(type=type_).order_by("seq").values_list("seq", flat=True)
        ends += numbers[SEARCHED_LINES - 1 : SEARCHED_LINES]
    return min(ends, default=None)


def log_lines(rows: QuerySet[RunEvent], level: str, limit: int) -> list[RunEvent]:
    """The first `limit` lines of the log that are at least of this level, oldest first.

    Read from one index after the other, each in its own order: one query would sort the whole log. Lines of the level
    info are most of the log, and debug is below all.
    """
    rows = rows.order_by("seq")
    if level in ("warning", "error"):
        parts = [rows.filter(type__in=LOG_TYPES, level=each) for each in LEVELS[LEVELS.index(level) :]]
    else:
        lines = rows.exclude(level="debug") if level == "info" else rows
        parts = [lines.filter(type=type_) for type_ in LOG_TYPES]
    found = [row for part in parts for row in part[:limit]]
    return sorted(found, key=lambda row: row.seq)[:limit]
