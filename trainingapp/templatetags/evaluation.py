"""How evaluation pages write what stands in the files of the trainer."""

from typing import Any

from django import template
from django.utils.translation import gettext

from trainingapp.engine.metric_names import METRICS

register = template.Library()


@register.filter
def own_words(text: str) -> str:
    """Words of the engine, which knows no languages, or the name of a metric, in the reader's language."""
    known = METRICS.get(text)
    return gettext(known.label if known else text) if text else ""


@register.filter
def file_name(path: Any) -> str:
    """The last part of a path."""
    return str(path).rsplit("/", 1)[-1]


@register.filter
def share_number(share: float) -> str:
    """A share as a cell of a matrix has it: per cent without the sign, as short as can be."""
    return "<1" if 0 < share < 0.005 else f"{share * 100:.0f}"
