"""How the interface writes durations, moments and expected waits."""

from datetime import UTC, datetime
from typing import Protocol

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext

from trainingapp.presentation.numbers import NO_VALUE


class SecondsRange(Protocol):
    """A time between `low` and `high` seconds (`scheduling.forecast.Span`); `is_known` is false without an estimate."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def is_known(self) -> bool: ...


def duration(seconds: float | None) -> str:
    """59 -> 59 s, 61 -> 1 min 1 s, 3700 -> 1 h 1 min, 90000 -> 1 d 1 h"""
    if seconds is None:
        return NO_VALUE
    whole = int(seconds)
    if whole < 60:
        return gettext("%(seconds)d s") % {"seconds": whole}
    if whole < 3600:
        return gettext("%(minutes)d min %(seconds)d s") % {"minutes": whole // 60, "seconds": whole % 60}
    if whole < 86_400:
        return gettext("%(hours)d h %(minutes)d min") % {"hours": whole // 3600, "minutes": whole % 3600 // 60}
    return gettext("%(days)d d %(hours)d h") % {"days": whole // 86_400, "hours": whole % 86_400 // 3600}


def about(seconds: float | None) -> str:
    """None -> not known yet, 0.4 -> less than 1 s, 4.2 -> about 4 s"""
    if seconds is None:
        return gettext("not known yet")
    if seconds < 1:
        return gettext("less than 1 s")
    return gettext("about %(time)s") % {"time": duration(round(seconds))}


def wait(span: SecondsRange | None) -> str:
    """When a device becomes available."""
    if span is None:
        return gettext("not known yet")
    if span.high < 1:
        return gettext("immediately")
    if span.low < 1:
        return gettext("within %(time)s") % {"time": duration(round(span.high))}
    low, high = duration(round(span.low)), duration(round(span.high))
    if low == high:
        return gettext("in about %(time)s") % {"time": low}
    return gettext("in %(low)s to %(high)s") % {"low": low, "high": high}


def length_text(span: SecondsRange | None) -> str:
    """A duration, or a range of durations."""
    if span is None or not span.is_known:
        return NO_VALUE
    low, high = duration(round(span.low)), duration(round(span.high))
    return low if low == high else gettext("%(low)s to %(high)s") % {"low": low, "high": high}


def time_range(first: datetime | None, last: datetime | None) -> str:
    """14:05 – 14:20, each with its date where that is not today; empty without both moments."""
    if first is None or last is None:
        return ""
    texts = list(dict.fromkeys(_moment(each) for each in (first, last)))
    return " – ".join(texts)


def _moment(when: datetime) -> str:
    local = timezone.localtime(when)
    time = date_format(local, "H:i")
    return time if local.date() == timezone.localdate() else f"{date_format(local, 'MONTH_DAY_FORMAT')} {time}"


def worker_start(worker: str) -> datetime | None:
    """When the worker "host:pid:start" was started; None where the identity has another form."""
    try:
        return datetime.fromtimestamp(float(worker.rpartition(":")[2]), UTC)
    except ValueError:
        return None


def worker_host(worker: str) -> str:
    return worker.rsplit(":", 2)[0]


def as_moment(text: str | None) -> datetime | None:
    """A time that is stored as ISO 8601 text."""
    return datetime.fromisoformat(text) if text else None
