"""The years, months and days above the admin's lists."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from django import template
from django.contrib.admin.templatetags.admin_list import date_hierarchy
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.utils import timezone

if TYPE_CHECKING:
    Rows: TypeAlias = QuerySet[Model]
else:
    Rows = QuerySet

register = template.Library()

#: Rows that a search has found up to which their times are read by one query.
FEW = 500


@register.inclusion_tag("admin/date_hierarchy.html")
def date_links(cl: ChangeList) -> dict[str, Any] | None:
    """As Django's own `date_hierarchy`, which truncates the time of every row, but with one look into the index for
    each year, month or day that has rows."""
    field = str(cl.date_hierarchy)
    has_dates = any(name.startswith(f"{field}__") for name in cl.params)
    # A list of the newest rows only: dates lead out of it.
    is_newest = getattr(cl.model_admin, "newest", 0) and not has_dates
    rows = cl.model._default_manager.all() if is_newest else cl.queryset
    is_few = bool(cl.query) and not is_newest and cl.result_count <= FEW
    asked = SimpleNamespace(
        date_hierarchy=cl.date_hierarchy,
        model=cl.model,
        params=cl.params,
        get_query_string=cl.get_query_string,
        queryset=_Found(cl.queryset, field) if is_few else _Seeker(rows, field),
    )
    return date_hierarchy(cast(ChangeList, asked))


class _Seeker:
    """What Django's tag asks of the rows, answered by their index on the time."""

    def __init__(self, rows: Rows, field: str) -> None:
        self.rows, self.field = rows, field

    def aggregate(self, **parts: object) -> Mapping[str, datetime | None]:
        return {"first": self._next(self.rows, self.field), "last": self._next(self.rows, f"-{self.field}")}

    def datetimes(self, field: str, kind: str) -> list[datetime]:
        """The starts of the periods ("year", "month" or "day") that have rows, in local time."""
        starts: list[datetime] = []
        value = self._next(self.rows, self.field)
        while value is not None:
            start = _start_of(timezone.localtime(value), kind)
            starts.append(start)
            value = self._next(self.rows.filter(**{f"{self.field}__gte": _end_of(start, kind)}), self.field)
        return starts

    def _next(self, rows: Rows, order: str) -> datetime | None:
        known = rows.filter(**{f"{self.field}__isnull": False})
        found: datetime | None = known.order_by(order).values_list(self.field, flat=True).first()
        return found


class _Found:
    """The same for few rows, which are found by their numbers: their times are read at once."""

    def __init__(self, rows: Rows, field: str) -> None:
        known = rows.filter(**{f"{field}__isnull": False}).order_by(field)
        self.times: list[datetime] = list(known.values_list(field, flat=True))

    def aggregate(self, **parts: object) -> Mapping[str, datetime | None]:
        return {"first": self.times[0] if self.times else None, "last": self.times[-1] if self.times else None}

    def datetimes(self, field: str, kind: str) -> list[datetime]:
        return list(dict.fromkeys(_start_of(timezone.localtime(value), kind) for value in self.times))


def _start_of(moment: datetime, kind: str) -> datetime:
    day = 1 if kind in ("year", "month") else moment.day
    return timezone.make_aware(datetime(moment.year, 1 if kind == "year" else moment.month, day))


def _end_of(start: datetime, kind: str) -> datetime:
    """The start of the next period."""
    plain = start.replace(tzinfo=None)
    beyond = plain + timedelta(days={"year": 366, "month": 31, "day": 1}[kind])
    return _start_of(timezone.make_aware(beyond), kind)
