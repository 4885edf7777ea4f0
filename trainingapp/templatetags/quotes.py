"""How pages say what a pause costs."""

from django import template
from django.utils.translation import gettext

from trainingapp.scheduling.forecast import Span
from trainingapp.templatetags.studio import duration

register = template.Library()


@register.filter
def about(seconds: float | None) -> str:
    """None -> unknown yet, 0.4 -> less than 1 s, 4.2 -> about 4 s."""
    if seconds is None:
        return gettext("unknown yet")
    if seconds < 1:
        return gettext("less than 1 s")
    return gettext("about %(time)s") % {"time": duration(round(seconds))}


@register.filter
def wait(span: Span | None) -> str:
    """When a place is free, from a wait in seconds."""
    if span is None:
        return gettext("nobody can tell yet when")
    if span.high < 1:
        return gettext("at once")
    if span.low < 1:
        return gettext("within %(time)s") % {"time": duration(round(span.high))}
    low, high = duration(round(span.low)), duration(round(span.high))
    if low == high:
        return gettext("in about %(time)s") % {"time": low}
    return gettext("in %(low)s to %(high)s") % {"low": low, "high": high}


@register.filter
def length_text(span: Span | None) -> str:
    """How long something takes: 61 s, or a range; – where nobody knows."""
    if span is None or not span.is_known:
        return "–"
    low, high = duration(round(span.low)), duration(round(span.high))
    return low if low == high else gettext("%(low)s to %(high)s") % {"low": low, "high": high}
