"""The notifications of the reader, and the settings of who is told of what."""

from collections.abc import Iterator

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.forms.boundfield import BoundField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts.notifications.events import CHANNEL_LABELS, EVENTS, Event, events_for
from trainingapp.accounts.notifications.payloads import path_of
from trainingapp.accounts.notifications.preferences import channels_of, save_settings, settings_of
from trainingapp.accounts.notifications.reading import mark_read, notifications_of, unread_count
from trainingapp.accounts.notifications.webhooks import webhooks_of
from trainingapp.accounts.permissions import Verb, can, is_administrator
from trainingapp.accounts.users import signed_in
from trainingapp.models.text import stored_numbers
from trainingapp.views.access import is_local
from trainingapp.views.paging import IndexedPaginator

ON_A_PAGE = 50


class FilterForm(forms.Form):
    """Which notifications are listed."""

    show = forms.ChoiceField(
        label=gettext_lazy("Show"),
        choices=[("", gettext_lazy("all")), ("unread", gettext_lazy("unread"))],
        required=False,
        widget=forms.Select({"class": "form-select"}),
    )
    event = forms.ChoiceField(
        label=gettext_lazy("Event"),
        choices=[("", gettext_lazy("all")), *((event.name, event.label) for event in EVENTS.values())],
        required=False,
        widget=forms.Select({"class": "form-select"}),
    )


class SettingsForm(forms.Form):
    """The channels of each event, the language, and the address of e-mails."""

    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        choices=settings.LANGUAGES,
        help_text=gettext_lazy("Language of your e-mails. Webhooks have their own."),
        widget=forms.Select({"class": "form-select"}),
    )
    email = forms.EmailField(
        label=gettext_lazy("E-mail address"),
        required=False,
        widget=forms.EmailInput({"class": "form-control", "autocomplete": "email"}),
    )

    def __init__(self, user: User, data: object = None) -> None:
        stored = settings_of([user]).get(user.pk)
        self.events = list(events_for(is_administrator=is_administrator(user)))
        language = stored.language if stored else get_language()
        super().__init__(data, initial={"language": language, "email": user.email})  # type: ignore[arg-type]
        for event in self.events:
            self.fields[event.name] = forms.MultipleChoiceField(
                label=event.label,
                choices=[(channel.value, label) for channel, label in CHANNEL_LABELS.items()],
                required=False,
                initial=[channel.value for channel in channels_of(stored, event)],
                widget=forms.CheckboxSelectMultiple({"class": "form-check-input"}),
            )

    def rows(self) -> Iterator[tuple[Event, BoundField]]:
        """The events with their fields, for the table."""
        return ((event, self[event.name]) for event in self.events)


@require_safe
def notification_list(request: HttpRequest) -> HttpResponse:
    """The notifications of the reader, newest first, all or the unread ones, of all events or one."""
    form = FilterForm(request.GET)
    chosen = form.cleaned_data if form.is_valid() else {}
    rows = notifications_of(request.user)
    if chosen.get("show") == "unread":
        rows = rows.filter(read_at=None)
    if chosen.get("event"):
        rows = rows.filter(occurrence__event=chosen["event"])
    context = {
        "form": form,
        "page": IndexedPaginator(rows, ON_A_PAGE).get_page(request.GET.get("page")),
        "unread": unread_count(int(request.user.pk or 0)),
        "is_filtered": any(chosen.values()),
        "days": settings.NOTIFICATION_DAYS,
        "section": "notification_list",
    }
    template = "notifications/_list.html" if getattr(request, "htmx", None) else "notifications/list.html"
    return render(request, template, context)


@require_safe
def notification_open(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark the notification as read, and go to what it is about."""
    notification = get_object_or_404(notifications_of(request.user), pk=pk)
    mark_read(request.user, [notification.pk])
    return redirect(path_of(notification.occurrence))


@require_POST
def notifications_read(request: HttpRequest) -> HttpResponse:
    """Mark one of the reader's notifications as read, or all of them."""
    numbers = stored_numbers(request.POST.getlist("id"))
    mark_read(request.user, numbers if "id" in request.POST else None)
    target = request.POST.get("next", "")
    return redirect(target if is_local(request, target) else "notification_list")


@require_http_methods(["GET", "HEAD", "POST"])
def notification_settings(request: HttpRequest) -> HttpResponse:
    """Of which events the reader is told, and how."""
    user = signed_in(request.user)
    form = SettingsForm(user, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        channels = {event.name: form.cleaned_data[event.name] for event in form.events}
        save_settings(user, channels, language=form.cleaned_data["language"], email=form.cleaned_data["email"])
        messages.success(request, _("The settings were saved."))
        return redirect("notification_settings")
    context = {
        "form": form,
        "channels": CHANNEL_LABELS.values(),
        "has_mail": settings.MAIL_IS_CONFIGURED,
        "webhooks": webhooks_of(user),
        "may_create": can(user, Verb.CREATE),
        "section": "notifications",
    }
    return render(request, "notifications/settings.html", context, status=422 if form.is_bound else 200)
