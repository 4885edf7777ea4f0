"""How evaluation pages write what stands in the files of the trainer."""

from typing import Any

from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from trainingapp.contract.tasks.registry import METRICS
from trainingapp.runs.evaluations import Cell, MatrixRow
from trainingapp.templatetags.studio import heat, metric

register = template.Library()


@register.filter
def own_words(text: str) -> str:
    """Words of the engine, which knows no languages, or the name of a metric, in the reader's language."""
    known = METRICS.get(text)
    return gettext(known.label if known else text) if text else ""


@register.filter
def score_text(value: float, name: str) -> str:
    """How well an image was done."""
    return metric(value, name)


@register.filter
def file_name(path: Any) -> str:
    """The last part of a path."""
    return str(path).rsplit("/", 1)[-1]


@register.simple_tag
def matrix_cells(row: MatrixRow, cells: str) -> SafeString:
    """The cells of a row of a confusion matrix, as counts or as shares: 40,000 of them must not take a template's
    time."""
    text = _share_text if cells == "share" else _count_text
    found = (f'<td class="heat-{heat(cell.share)}{" hit" if cell.hit else ""}">{text(cell)}</td>' for cell in row.cells)
    return mark_safe("".join(found))  # noqa: S308  (numbers only)


def _count_text(cell: Cell) -> str:
    return str(cell.count)


def _share_text(cell: Cell) -> str:
    """Per cent without the sign; nothing for no image at all."""
    if not cell.count:
        return ""
    return "&lt;1" if cell.share < 0.005 else f"{cell.share * 100:.0f}"
