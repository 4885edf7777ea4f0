"""The parts that every page is made of: the head of a panel and the empty state, each rendered by one partial."""

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_block_tag
def panel_head(content: str, id: str, title: str) -> SafeString:
    """The head of a panel with a note or tools after its title; without these, include `_panel_head.html`."""
    return render_to_string("_panel_head.html", {"id": id, "title": title, "content": content})


@register.simple_block_tag
def empty_state(content: str, icon: str, title: str, text: str) -> SafeString:
    """The empty state with its actions; without any, include `_empty.html`."""
    return render_to_string(
        "_empty.html", {"icon": icon, "title": title, "text": text, "content": content if content.strip() else ""}
    )
