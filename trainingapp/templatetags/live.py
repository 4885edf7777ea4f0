"""Topics of the event stream in templates."""

import time

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: Milliseconds that rendering a page may take: what changed meanwhile is announced to it, once too often rather than
#: not at all.
RENDERED_IN_MS = 2000


@register.simple_tag
def live_topic(name: str) -> SafeString:
    """The attributes of a part that follows a list: its topic, and since when it wants to hear of changes."""
    return format_html('data-topic="{}" data-after="{}"', name, round(time.time() * 1000) - RENDERED_IN_MS)
