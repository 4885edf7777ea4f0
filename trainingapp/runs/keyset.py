"""Pages of a list that begin after a row instead of after a number of rows.

Rows that come or go on other pages neither repeat nor hide any, and the rows before a page are not read. A position is
the place of a row in the order: its values of the keys of the order, the last of which is unique.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, Literal, TypeVar

from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.utils import timezone

from trainingapp.models.text import is_storable

M = TypeVar("M", bound=Model)
Value = float | str | datetime | None
Position = tuple[Value, ...]

#: Characters of a position in an address.
MOST_CHARACTERS = 1000
LARGEST_INTEGER = 2**63


KeyKind = Literal["number", "text", "moment"]


@dataclass(frozen=True)
class Key:
    """A column of an order. Rows without a value come last in both directions."""

    path: str
    is_descending: bool = False
    is_nullable: bool = False
    kind: KeyKind = "number"

    def order(self, *, is_reversed: bool = False) -> OrderBy:
        descends = self.is_descending != is_reversed
        # Django wants None where the database's own order will do.
        first = (self.is_nullable and is_reversed) or None
        last = (self.is_nullable and not is_reversed) or None
        return OrderBy(F(self.path), descending=descends, nulls_first=first, nulls_last=last)

    def same(self, value: Value) -> Q:
        return Q((f"{self.path}__isnull", True)) if value is None else Q((self.path, value))

    def beyond(self, value: Value, *, is_reversed: bool = False) -> Q:
        """The rows with a value after this one, or before it."""
        if value is None:
            return Q(**{f"{self.path}__isnull": False}) if is_reversed else Q(pk__in=[])
        found = Q(**{f"{self.path}__{'lt' if self.is_descending != is_reversed else 'gt'}": value})
        return found | Q(**{f"{self.path}__isnull": True}) if self.is_nullable and not is_reversed else found

    def bound(self, value: Value, *, is_reversed: bool) -> Q:
        """The rows with this value or one beyond it, for an index to begin there; all where it cannot."""
        if value is None or (self.is_nullable and not is_reversed):
            return Q()
        return Q(**{f"{self.path}__{'lte' if self.is_descending != is_reversed else 'gte'}": value})

    def accepts(self, value: object) -> bool:
        if value is None:
            return self.is_nullable
        if self.kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return math.isfinite(value) and (isinstance(value, float) or abs(value) < LARGEST_INTEGER)
        if self.kind == "text":
            return isinstance(value, str) and is_storable(value)
        return isinstance(value, datetime) and timezone.is_aware(value)


Keys = tuple[Key, ...]


def in_order(rows: QuerySet[M], keys: Keys) -> QuerySet[M]:
    return rows.order_by(*(key.order() for key in keys))


def as_text(position: Position) -> str:
    """The position as an address has it."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in position]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def as_position(text: str, keys: Keys) -> Position | None:
    """The position that an address has; None where it is none of this order."""
    try:
        given = json.loads(text) if len(text) <= MOST_CHARACTERS else None
        if not isinstance(given, list) or len(given) != len(keys):
            return None
        found = [
            datetime.fromisoformat(value) if key.kind == "moment" and isinstance(value, str) else value
            for key, value in zip(keys, given, strict=True)
        ]
        return tuple(found) if all(map(Key.accepts, keys, found)) else None
    except (ValueError, OverflowError, RecursionError):
        return None


def beyond(keys: Keys, position: Position, *, is_reversed: bool = False) -> Q:
    """The rows after the position, or before it."""
    found, same = Q(pk__in=[]), Q()
    for key, value in zip(keys, position, strict=True):
        found |= same & key.beyond(value, is_reversed=is_reversed)
        same &= key.same(value)
    return keys[0].bound(position[0], is_reversed=is_reversed) & found


def positions(
    rows: QuerySet[M], keys: Keys, count: int, position: Position | None = None, *, is_reversed: bool = False
) -> list[Position]:
    """Where the first `count` rows after the position are, or the last ones before it, from there on."""
    found: list[Position] = []
    for part, its_keys, its_position in _parts(keys, position, is_reversed):
        if its_position is not None:
            part &= beyond(its_keys, its_position, is_reversed=is_reversed)
        # One filter: with several, each would join the table of the values again.
        some = rows.filter(part).order_by(*(key.order(is_reversed=is_reversed) for key in its_keys))
        missing: Position = (None,) * (len(keys) - len(its_keys))
        values = some.values_list(*(key.path for key in its_keys))[: count - len(found)]
        found += [(*missing, *each) for each in values]
        if len(found) == count:
            break
    return found


def _parts(keys: Keys, position: Position | None, is_reversed: bool) -> list[tuple[Q, Keys, Position | None]]:
    """The rows with a value of the first key, and those without: an index is in the order of each of the two.

    No index has the missing values last in both directions.
    """
    first, rest = keys[0], keys[1:]
    if not first.is_nullable:
        return [(Q(), keys, position)]
    is_missing = position is not None and position[0] is None
    filled = (
        Q(**{f"{first.path}__isnull": False}),
        (replace(first, is_nullable=False), *rest),
        None if is_missing else position,
    )
    missing = (Q(**{f"{first.path}__isnull": True}), rest, position[1:] if position and is_missing else None)
    if position is None:
        return [missing, filled] if is_reversed else [filled, missing]
    if is_reversed:
        return [missing, filled] if is_missing else [filled]
    return [missing] if is_missing else [filled, missing]


@dataclass(frozen=True)
class KeysetPage(Generic[M]):
    """Rows of a list, and where the pages before and after them are; "" where there are none."""

    rows: Sequence[M]
    #: The number of rows before these, and of all.
    skipped: int
    total: int
    before: str
    after: str

    @property
    def has_previous(self) -> bool:
        return bool(self.before)

    @property
    def has_next(self) -> bool:
        return bool(self.after)

    @property
    def has_others(self) -> bool:
        return self.has_previous or self.has_next

    @property
    def first(self) -> int:
        return self.skipped + 1

    @property
    def last(self) -> int:
        return self.skipped + len(self.rows)


class KeysetPaginator(Generic[M]):
    """The pages of rows in an order. `total` is their number."""

    def __init__(self, rows: QuerySet[M], keys: Keys, per_page: int, *, total: int) -> None:
        self.rows, self.keys, self.per_page, self.total = rows, keys, per_page, total
        #: Without what is only read for the rows of the page.
        self.bare = rows.select_related(None).order_by()

    def after(self, position: Position | None) -> KeysetPage[M]:
        """The page after the position, or the first one. Past the end it is the last one."""
        found = positions(self.bare, self.keys, self.per_page + 1, position)
        if not found and position is not None:
            found = positions(self.bare, self.keys, self.per_page, is_reversed=True)[::-1]
        skipped = self._count_before(found[0]) if found and position is not None else 0
        return self._page(found[: self.per_page], skipped, is_last=len(found) <= self.per_page)

    def before(self, position: Position) -> KeysetPage[M]:
        """The page before the position. Near the start it is the first one, in full."""
        found = positions(self.bare, self.keys, self.per_page, position, is_reversed=True)[::-1]
        if len(found) < self.per_page:
            return self.after(None)
        return self._page(found, self._count_before(found[0]), is_last=False)

    def numbered(self, number: str) -> KeysetPage[M]:
        """The page of this number, as addresses had it; the nearest one where there is none."""
        pages = max(1, math.ceil(self.total / self.per_page))
        wanted = int(number) if number.isdecimal() and len(number) < 10 else pages if number[:1] == "-" else 1
        skipped = (min(max(wanted, 1), pages) - 1) * self.per_page
        values = in_order(self.bare, self.keys).values_list(*(key.path for key in self.keys))
        found = list(values[skipped : skipped + self.per_page + 1])
        return self._page(found[: self.per_page], skipped, is_last=len(found) <= self.per_page)

    def _count_before(self, position: Position) -> int:
        return self.bare.filter(beyond(self.keys, position, is_reversed=True)).count()

    def _page(self, found: list[Position], skipped: int, *, is_last: bool) -> KeysetPage[M]:
        """The rows at these positions are read by their numbers, with all their columns."""
        numbers = [int(str(position[-1])) for position in found]
        rows = {row.pk: row for row in self.rows.filter(pk__in=numbers).order_by()}
        return KeysetPage(
            [rows[number] for number in numbers if number in rows],
            skipped,
            max(self.total, skipped + len(found)),
            before=as_text(found[0]) if found and skipped else "",
            after=as_text(found[-1]) if found and not is_last else "",
        )
