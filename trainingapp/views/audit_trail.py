"""The audit trail for administrators: filtered, page by page, or as a file."""

import csv
import json
from datetime import date, datetime, time

from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb
from trainingapp.contract.limits import SEARCH_LENGTH, USER_NAME_LENGTH
from trainingapp.models import AuditEntry
from trainingapp.views.access import require
from trainingapp.views.paging import IndexedPaginator

ENTRIES_ON_A_PAGE = 100
#: The page of an object, by the kind in the trail. Other kinds are shown by the admin.
PAGES = {
    "run": "run_detail",
    "dataset": "dataset_detail",
    "weights": "weights_detail",
    "job": "job",
    "sweep": "sweep_detail",
}
ADMIN_PAGES = {"token": "apitoken", "user": "user"}
COLUMNS = ("time", "username", "verb", "kind", "object_id", "object_name", "source", "address")
_DAY = forms.DateInput({"type": "date"})


class AuditFilter(forms.Form):
    """Which entries to show; what is left empty counts as all."""

    user = forms.CharField(label=_("User"), required=False, max_length=USER_NAME_LENGTH)
    verb = forms.ChoiceField(label=_("Action"), required=False)
    thing = forms.CharField(
        label=_("Object"),
        required=False,
        max_length=SEARCH_LENGTH,
        help_text=_("Name, or type and number: run 7"),
    )
    source = forms.ChoiceField(label=_("Source"), required=False)
    since = forms.DateField(label=pgettext_lazy("day", "From"), required=False, widget=_DAY)
    until = forms.DateField(label=_("To"), required=False, widget=_DAY)

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        verbs = [(verb, str(label)) for verb, label in audit.VERBS.items()]
        self.fields["verb"].choices = [("", gettext("All")), *verbs]  # type: ignore[attr-defined]
        self.fields["source"].choices = [("", gettext("All")), *audit.Source.choices]  # type: ignore[attr-defined]
        for field in self.fields.values():
            css = "form-select" if isinstance(field, forms.ChoiceField) else "form-control"
            field.widget.attrs |= {"class": css}

    def rows(self) -> QuerySet[AuditEntry]:
        """The entries that it lets through; none while it is wrong."""
        entries = AuditEntry.objects.all()
        if not self.is_valid():
            return entries.none()
        values = self.cleaned_data
        exact = {name: values[name] for name in ("verb", "source") if values[name]}
        if values["user"]:
            exact["username__icontains"] = values["user"]
        if values["since"]:
            exact["time__gte"] = _midnight(values["since"], time.min)
        if values["until"]:
            exact["time__lte"] = _midnight(values["until"], time.max)
        entries, thing = entries.filter(**exact), values["thing"]
        # “run 7” is that run, anything else a part of a name.
        kind, _space, number = thing.partition(" ")
        is_number = number.strip() and kind in {*audit.KINDS.values(), "user"}
        if is_number and not entries.filter(object_name=thing).exists():
            return entries.filter(kind=kind, object_id=number.strip())
        return entries.filter(object_name__icontains=thing) if thing else entries


def _midnight(day: date, at: time) -> datetime:
    return timezone.make_aware(datetime.combine(day, at))


def page_of(kind: str, number: str) -> str:
    """The address of the object with this number; empty for kinds without a page."""
    if kind == "checkpoint":  # its number is that of its run, and its file
        return reverse("run_checkpoints", args=[number.partition("/")[0]])
    app = "auth" if kind == "user" else "trainingapp"
    try:
        return reverse(PAGES.get(kind, f"admin:{app}_{ADMIN_PAGES.get(kind, kind)}_change"), args=[number])
    except NoReverseMatch:
        return ""


@require_safe
def audit_page(request: HttpRequest) -> HttpResponse:
    """The trail, newest first."""
    require(request, Verb.ADMINISTER)
    form = AuditFilter(request.GET)
    page = IndexedPaginator(form.rows(), ENTRIES_ON_A_PAGE).get_page(request.GET.get("page"))
    for entry in page:
        entry.thing_url = page_of(entry.kind, entry.object_id)  # type: ignore[attr-defined]
    context = {"form": form, "page": page, "days": settings.AUDIT_DAYS, "section": "audit"}
    return render(request, "audit/list.html", context, status=200 if form.is_valid() else 422)


@require_safe
def audit_csv(request: HttpRequest) -> HttpResponse:
    """The filtered trail as a file."""
    require(request, Verb.ADMINISTER)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="audit.csv"'
    writer = csv.writer(response)
    writer.writerow([*COLUMNS, "details"])
    for entry in AuditFilter(request.GET).rows().iterator(chunk_size=1000):
        values = [_plain(getattr(entry, name)) for name in COLUMNS]
        writer.writerow([*values, json.dumps(entry.details, ensure_ascii=False)])
    return response


def _plain(value: object) -> str:
    """As text that no spreadsheet takes for a formula."""
    text = value.isoformat() if isinstance(value, datetime) else str(value or "")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
