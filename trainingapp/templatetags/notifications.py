"""Template tags of notifications: the bell of every page, and the parts of a notification."""

from typing import Any

from django import template
from django.template.context import RequestContext

from trainingapp.accounts.notifications.events import event_named
from trainingapp.accounts.notifications.reading import unread_count
from trainingapp.presentation.messages import rendered_data

register = template.Library()
register.filter("notification_event", event_named)
register.filter("notification_text", rendered_data)


@register.inclusion_tag("notifications/_bell.html", takes_context=True)
def bell(context: RequestContext) -> dict[str, Any]:
    """The link to the notifications of the reader, with the number of unread ones."""
    return {"count": unread_count(int(context["user"].pk)), "is_open": context.get("section") == "notification_list"}
