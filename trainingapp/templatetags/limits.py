"""The limits of trainingapp.contract.limits in templates: `maxlength="{% limit 'NAME_LENGTH' %}"`."""

from django import template

from trainingapp.contract import limits

register = template.Library()


@register.simple_tag
def limit(name: str) -> str:
    """Raises AttributeError for a limit that does not exist."""
    return str(getattr(limits, name))
