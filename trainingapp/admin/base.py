"""What the admin's pages share: permissions, rows that only the studio writes, and verbs that ask before they act."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import is_administrator
from trainingapp.accounts.users import signed_in
from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.models.verbs import DeletionSize, VerbError
from trainingapp.presentation.numbers import grouped
from trainingapp.presentation.text import Text

if TYPE_CHECKING:
    # Generic for the type checker only.
    ModelAdmin = admin.ModelAdmin[Model]
    Form: TypeAlias = forms.ModelForm[Model]
else:
    ModelAdmin = admin.ModelAdmin
    Form = forms.ModelForm

M = TypeVar("M", bound=Model)
Action = Callable[[ModelAdmin, HttpRequest, QuerySet[M]], HttpResponse | None]
#: An action as `ModelAdmin.get_actions` returns it: function, name, label.
ActionEntry = tuple[Callable[..., str], str, str] | None


class StudioChangeList(ChangeList):
    """A list whose links lead back to the same search and filters, as Django's own do.

    Django resolves the address of each row among all of the studio to learn that it is not that of a list.
    """

    def __init__(self, request: HttpRequest, *parts: Any) -> None:
        super().__init__(request, *parts)
        self._kept, self.preserved_filters = self.preserved_filters, ""

    def url_for_result(self, result: Model) -> str:
        url = super().url_for_result(result)
        return f"{url}?{self._kept}" if self._kept else url


class StudioAdmin(ModelAdmin):
    """A model that administrators may see, by accounts/permissions.py, not by Django's table of permissions."""

    list_per_page = 50
    #: Fields that a form may change; none of them is part of the state of a run, a job or a worker.
    editable: tuple[str, ...] = ()
    #: Large columns that the list does not show.
    deferred_in_list: tuple[str, ...] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        return StudioChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        rows: QuerySet[Model] = super().get_queryset(request)
        return rows.defer(*self.deferred_in_list) if self.is_list(request) and request.method == "GET" else rows

    @staticmethod
    def is_list(request: HttpRequest) -> bool:
        """Whether the request is about the list, and not about one row."""
        match = request.resolver_match
        return match is not None and str(match.url_name).endswith("_changelist")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_administrator(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Actions need it. What a form may change is `editable`."""
        return is_administrator(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows are deleted by verbs, which delete their files too."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        fields = [field.name for field in self.model._meta.concrete_fields if field.name not in self.editable]
        return [*fields, *map(str, self.readonly_fields)]

    def save_model(self, request: HttpRequest, obj: Model, form: Form, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if not change or form.changed_data:
                audit.record("change" if change else "create", obj, details={"fields": form.changed_data})


class ReadOnlyAdmin(StudioAdmin):
    """Rows that only the studio writes."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RecordedAdmin(StudioAdmin):
    """Rows that administrators edit by form; each change is in the audit trail."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_administrator(request.user)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [str(name) for name in self.readonly_fields]

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        with transaction.atomic():
            audit.record("delete", obj)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        with transaction.atomic():
            for row in queryset:
                audit.record("delete", row)
            super().delete_queryset(request, queryset)


def verb_action(
    name: str,
    label: Text,
    question: Text,
    done: Text,
    verb: Callable[..., object],
    *,
    describes: Callable[..., Text] | None = None,
    form_class: type[forms.Form] = forms.Form,
    is_final: bool = False,
) -> "Action[M]":
    """An action that first lists the rows, and then performs the verb on each, with a message for each row.

    `verb` is called with the row, the values of the form, and the `user`. A row for which it is not possible gets the
    reason as its message and does not stop the others. `done` may contain %(name)s. `describes`
    adds to a row what distinguishes it and what is lost with it. An action that `is_final` cannot be undone.
    """

    def action(model_admin: ModelAdmin, request: HttpRequest, rows: QuerySet[M]) -> HttpResponse | None:
        is_confirmed = "confirmed" in request.POST
        form = form_class(request.POST if is_confirmed else None)
        if not is_confirmed or not form.is_valid():
            context = {
                **model_admin.admin_site.each_context(request),
                "title": label,
                "question": question,
                "action": name,
                "form": form,
                "rows": [(row, describes(row) if describes else "") for row in rows],
                "is_final": is_final,
                "checkbox": ACTION_CHECKBOX_NAME,
                "opts": model_admin.model._meta,
            }
            return TemplateResponse(request, "admin/confirm_verb.html", context)
        user = signed_in(request.user)
        for row in rows:
            shown = str(row)  # before the verb, which may delete the row
            try:
                verb(row, user=user, **form.cleaned_data)
            except VerbError as error:
                model_admin.message_user(request, str(error), messages.ERROR)
            else:
                model_admin.message_user(request, str(done) % {"name": shown}, messages.SUCCESS)
        return None

    action.__name__ = name
    return admin.action(description=label, permissions=["view"])(action)


def files_and_bytes(size: DeletionSize) -> str:
    """The files and bytes that a deletion would free."""
    if not size.files:
        return _("no files")
    text = ngettext(
        "%(files)d file, %(size)s (%(bytes)s bytes)", "%(files)d files, %(size)s (%(bytes)s bytes)", size.files
    )
    return text % {"files": size.files, "size": filesizeformat(size.bytes), "bytes": grouped(size.bytes)}


def page_link(row: TrainingRun | Dataset | Weights) -> SafeString | str:
    """A link to the page of an object in the studio."""
    try:
        return format_html('<a href="{}">{}</a>', row.get_absolute_url(), _("Open in the studio"))
    except NoReverseMatch:
        return "–"


def admin_link(row: Model | None, text: object = None) -> SafeString | str:
    """A link to the admin's page of a row; a dash for none."""
    if row is None:
        return "–"
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, text or row)


def list_link(model: type[Model], text: object, **lookup: object) -> SafeString:
    """A link to the admin's list of those rows of `model` that the lookup finds."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    query = "&".join(f"{name}={value}" for name, value in lookup.items())
    return format_html('<a href="{}?{}">{}</a>', address, query, text)
