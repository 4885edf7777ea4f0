"""Template tags and filters of evaluation pages."""

from pathlib import PurePosixPath

from django import template
from django.utils.safestring import SafeString, mark_safe

from trainingapp.presentation.labels import score_label
from trainingapp.presentation.numbers import heat, metric
from trainingapp.runs.evaluations import MatrixRow

register = template.Library()
register.filter("own_words", score_label)
register.filter("score_text", metric)


@register.filter
def file_name(path: str | PurePosixPath) -> str:
    """The last part of a path."""
    return str(path).rsplit("/", 1)[-1]


@register.simple_tag
def matrix_cells(row: MatrixRow, cells: str) -> SafeString:
    """The cells of a row of a confusion matrix, as counts or (`cells` is "share") as per cent of the row.

    Made here and not in a template, which is too slow for the 40,000 cells of 200 classes.
    """
    html = []
    for cell in row.cells:
        text = str(cell.count)
        if cells == "share":
            text = "" if not cell.count else "&lt;1" if cell.share < 0.005 else f"{cell.share * 100:.0f}"
        html.append(f'<td class="heat-{heat(cell.share)}{" hit" if cell.hit else ""}">{text}</td>')
    return mark_safe("".join(html))  # noqa: S308  (numbers only)
