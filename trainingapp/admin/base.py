"""What the admin's pages share: who may, what is written by the studio alone, and verbs that ask before they act."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
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
from trainingapp.models.verbs import DeletionSize, VerbError
from trainingapp.presentation.numbers import grouped

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

#: A text, translated now or when it is shown.
Text = Any


class StudioAdmin(ModelAdmin):
    """A model that administrators look at; permissions.py says who is one, not Django's table of permissions."""

    list_per_page = 50
    #: Fields that a form may change; none of them is part of what the machine believes.
    editable: tuple[str, ...] = ()

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
        """Rows go by verbs, which take files along; never by themselves."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        fields = [field.name for field in self.model._meta.concrete_fields if field.name not in self.editable]
        return [*fields, *map(str, self.readonly_fields)]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if not change or form.changed_data:
                audit.record("change" if change else "create", obj, details={"fields": form.changed_data})


class ReadOnlyAdmin(StudioAdmin):
    """Rows that only the studio writes."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RecordedAdmin(StudioAdmin):
    """Rows that administrators write by form; each change is in the audit trail."""

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

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                audit.record("delete", row)
            super().delete_queryset(request, queryset)


def verb_action(
    name: str,
    label: Text,
    question: Text,
    done: Text,
    verb: Callable[..., Any],
    *,
    tells: Callable[[Any], Text] | None = None,
    asks: type[forms.Form] = forms.Form,
    makes_new: bool = False,
    is_final: bool = False,
) -> Any:
    """An action that first shows what it will be done to, and then does it, with a word for each row.

    `done` may use %(name)s. What is not possible is told and does not hold up the others. `verb` is called with the
    row, with what the form `asks` for, and with its `owner` when it makes something new. `tells` says of a row which
    one it is and what goes with it; what `is_final` cannot be taken back.
    """

    def action(model_admin: ModelAdmin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        is_confirmed = "confirmed" in request.POST
        form = asks(request.POST if is_confirmed else None)
        if not is_confirmed or not form.is_valid():
            told = [(row, tells(row) if tells else "") for row in rows]
            about = {
                "title": label,
                "question": question,
                "action": name,
                "form": form,
                "rows": told,
                "is_final": is_final,
            }
            return _ask(model_admin, request, about)
        said = {**form.cleaned_data, **({"owner": request.user} if makes_new else {})}
        _do_each(model_admin, request, rows, done, partial(verb, **said))
        return None

    action.__name__ = name
    return admin.action(description=label, permissions=["view"])(action)


def _ask(model_admin: ModelAdmin, request: HttpRequest, about: dict[str, Any]) -> TemplateResponse:
    context = {
        **model_admin.admin_site.each_context(request),
        **about,
        "checkbox": ACTION_CHECKBOX_NAME,
        "opts": model_admin.model._meta,
    }
    return TemplateResponse(request, "admin/confirm_verb.html", context)


def _do_each(
    model_admin: ModelAdmin, request: HttpRequest, rows: Iterable[Any], done: Text, verb: Callable[[Any], Any]
) -> None:
    for row in rows:
        name = str(row)
        try:
            verb(row)
        except VerbError as error:
            model_admin.message_user(request, str(error), messages.ERROR)
        else:
            model_admin.message_user(request, str(done) % {"name": name}, messages.SUCCESS)


def files_and_bytes(size: DeletionSize) -> str:
    """What deleting something would take from the disk."""
    if not size.files:
        return _("no files")
    text = ngettext(
        "%(files)d file, %(size)s (%(bytes)s bytes)", "%(files)d files, %(size)s (%(bytes)s bytes)", size.files
    )
    return text % {"files": size.files, "size": filesizeformat(size.bytes), "bytes": grouped(size.bytes)}


def page_link(row: Any) -> SafeString | str:
    """A link to the page of a thing in the studio."""
    try:
        return format_html('<a href="{}">{}</a>', row.get_absolute_url(), _("Open in the studio"))
    except NoReverseMatch:
        return "–"


def admin_link(row: Any, text: object = None) -> SafeString | str:
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
