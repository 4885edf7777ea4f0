"""Icons and badges as HTML."""

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from trainingapp.models import RunEvent, TrainingRun, Weights
from trainingapp.presentation.event_text import event_text, marks_attempt
from trainingapp.presentation.labels import STATUSES, StatusLook, model_look

_NOTICES = {
    "error": "bi-x-octagon-fill",
    "warning": "bi-exclamation-triangle-fill",
    "good": "bi-check-circle-fill",
    "success": "bi-check-circle-fill",
}
_EVENTS = {"status": "bi-flag-fill", "checkpoint": "bi-save-fill"}


def icon(name: str) -> SafeString:
    """A decorative Bootstrap icon; the text beside it carries the meaning."""
    return format_html('<i class="bi {}" aria-hidden="true"></i>', name)


def status_icon(status: str) -> SafeString:
    return icon(_look(status).icon)


def status_badge(status: str) -> SafeString:
    """Icon and label of a status."""
    look = _look(status)
    return format_html('<span class="status status-{}">{}{}</span>', status, icon(look.icon), look.label)


def model_badge(weights: Weights) -> SafeString:
    """Icon and label of the state of a model."""
    css, look = model_look(weights)
    return format_html('<span class="status status-{}">{}{}</span>', css, icon(look.icon), look.label)


def notice_icon(level: str) -> SafeString:
    return icon(_NOTICES.get(level, "bi-info-circle-fill"))


def event_icon(event: RunEvent) -> SafeString:
    """The icon of a line of the log: by its level where it is a warning or an error, else by its type."""
    if event.level in ("warning", "error"):
        return notice_icon(event.level)
    return icon(_EVENTS.get(event.type, "bi-dot"))


def log_line(event: RunEvent) -> SafeString:
    """An event as a line of the log. Made here and not in a template: a page has 500 of them."""
    local = timezone.localtime(event.time)
    return format_html(
        '<li class="log-line level-{}{}" data-seq="{}" data-type="{}"><time datetime="{}" title="{}">{}</time>{}'
        '<span class="log-text">{}</span></li>\n',
        event.level,
        " log-attempt" if marks_attempt(event) else "",
        str(event.seq),
        event.type,
        local.isoformat(),
        date_format(local, "DATETIME_FORMAT"),
        f"{local:%H:%M:%S}",
        event_icon(event),
        event_text(event),
    )


def star_button(run: TrainingRun, is_starred: bool) -> SafeString:
    """The button by which a user marks a run; htmx replaces it. Made here and not in a template: a list has many."""
    label = gettext("Remove the star of %(name)s") if is_starred else gettext("Star %(name)s")
    return format_html(
        '<button class="icon-button star" id="star-{0}" form="stars" formaction="{1}" hx-post="{1}" hx-target="this" '
        'hx-swap="outerHTML" name="on" value="{2}" aria-label="{3}" title="{3}">{4}</button>',
        str(run.pk),
        reverse("run_star", args=[run.pk]),
        "0" if is_starred else "1",
        label % {"name": run.name},
        icon("bi-star-fill" if is_starred else "bi-star"),
    )


def _look(status: str) -> StatusLook:
    return STATUSES.get(status, StatusLook("bi-circle", status))
