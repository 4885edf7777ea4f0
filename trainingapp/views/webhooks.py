"""The webhooks of the reader and, for administrators, those of the installation."""

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from trainingapp.accounts.notifications import webhooks as webhook_verbs
from trainingapp.accounts.notifications.events import EVENTS
from trainingapp.accounts.notifications.webhooks import WebhookValues, webhooks_of
from trainingapp.accounts.permissions import Verb, is_administrator
from trainingapp.accounts.users import signed_in
from trainingapp.contract.limits import NAME_LENGTH, SECRET_LENGTH, URL_LENGTH
from trainingapp.models import Webhook
from trainingapp.models.verbs import VerbError
from trainingapp.views.access import require

DELIVERIES_SHOWN = 50


class WebhookForm(forms.Form):
    """An address, and what is sent to it."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=URL_LENGTH,
        help_text=gettext_lazy("Receives a POST request for each event."),
        widget=forms.TextInput(
            {"class": "form-control mono", "autocomplete": "off", "inputmode": "url", "spellcheck": "false"}
        ),
    )
    format = forms.ChoiceField(
        label=gettext_lazy("Format"), choices=Webhook.Format.choices, widget=forms.Select({"class": "form-select"})
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language"), choices=settings.LANGUAGES, widget=forms.Select({"class": "form-select"})
    )
    secret = forms.CharField(
        label=gettext_lazy("Secret"),
        max_length=SECRET_LENGTH,
        required=False,
        help_text=gettext_lazy("Key of the signature. Empty: a new webhook gets one, an existing one keeps its own."),
        widget=forms.TextInput({"class": "form-control mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    is_enabled = forms.BooleanField(
        label=gettext_lazy("Enabled"),
        required=False,
        initial=True,
        widget=forms.CheckboxInput({"class": "form-check-input", "role": "switch"}),
    )
    for_installation = forms.BooleanField(
        label=gettext_lazy("For the installation"),
        required=False,
        help_text=gettext_lazy(
            "Receives events of all objects that are shared with everyone, and of the studio itself."
        ),
        widget=forms.CheckboxInput({"class": "form-check-input", "role": "switch"}),
    )
    events = forms.MultipleChoiceField(
        label=gettext_lazy("Events"),
        choices=[(event.name, event.label) for event in EVENTS.values()],
        initial=list(EVENTS),
        required=False,
        help_text=gettext_lazy("For a webhook of the installation. Your own follow your settings."),
        widget=forms.CheckboxSelectMultiple({"class": "form-check-input"}),
    )

    def offer(self, *, for_installation: bool, is_new: bool) -> None:
        """Leave out what the reader cannot choose here."""
        if not (for_installation and is_new):
            del self.fields["for_installation"]
        if not for_installation:
            del self.fields["events"]

    def values(self) -> WebhookValues:
        names = ("name", "url", "format", "language", "secret", "is_enabled")
        return WebhookValues(
            **{name: self.cleaned_data[name] for name in names}, events=self.cleaned_data.get("events", [])
        )


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def webhook_new(request: HttpRequest) -> HttpResponse:
    """The form of a new webhook."""
    require(request, Verb.CREATE)
    user = signed_in(request.user)
    form = WebhookForm(request.POST or None, initial={"language": get_language()})
    form.offer(for_installation=is_administrator(user), is_new=True)
    if form.is_bound and form.is_valid():
        try:
            webhook = webhook_verbs.create_webhook(
                user, form.values(), for_installation=form.cleaned_data.get("for_installation", False)
            )
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("“%(name)s” was created. Send a test.") % {"name": webhook.name})
            return redirect("webhook", webhook.pk)
    context = {"form": form, "section": "notifications"}
    return render(request, "notifications/webhook_new.html", context, status=422 if form.is_bound else 200)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def webhook_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """A webhook with its form, its secret and the log of its deliveries."""
    webhook = get_object_or_404(webhooks_of(request.user), pk=pk)
    names = ("name", "url", "format", "language", "is_enabled", "events")
    form = WebhookForm(request.POST or None, initial={name: getattr(webhook, name) for name in names})
    form.offer(for_installation=webhook.owner_id is None, is_new=False)
    if form.is_bound and form.is_valid():
        try:
            webhook_verbs.change_webhook(webhook, form.values(), by=signed_in(request.user))
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("“%(name)s” was changed.") % {"name": webhook.name})
            return redirect("webhook", webhook.pk)
    deliveries = list(webhook.deliveries.select_related("occurrence")[:DELIVERIES_SHOWN])
    context = {
        "form": form,
        "webhook": webhook,
        "deliveries": deliveries,
        # A first try takes moments: the log is fetched again until it has ended.
        "waiting": any(each.state == each.State.WAITING and each.tries < 2 for each in deliveries),
        "section": "notifications",
    }
    template = "notifications/_deliveries.html" if getattr(request, "htmx", None) else "notifications/webhook.html"
    return render(request, template, context, status=422 if form.is_bound else 200)


@require_POST
def webhook_test(request: HttpRequest, pk: int) -> HttpResponse:
    """Request a test call."""
    webhook = get_object_or_404(webhooks_of(request.user), pk=pk)
    webhook_verbs.test_webhook(webhook)
    messages.info(request, _("A test is being sent. Its result appears in the log of deliveries."))
    return redirect("webhook", webhook.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask before the webhook and its log are deleted, then delete them."""
    webhook = get_object_or_404(webhooks_of(request.user), pk=pk)
    if request.method != "POST":
        context = {"webhook": webhook, "deliveries": webhook.deliveries.count(), "section": "notifications"}
        return render(request, "notifications/webhook_delete.html", context)
    webhook_verbs.delete_webhook(webhook, by=signed_in(request.user))
    messages.success(request, _("“%(name)s” was deleted.") % {"name": webhook.name})
    return redirect("notification_settings")
