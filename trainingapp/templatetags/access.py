"""How pages name roles and what the audit trail holds."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts import audit, permissions

register = template.Library()

ROLES: dict[permissions.Role, Any] = {
    permissions.Role.NOBODY: _("Not signed in"),
    permissions.Role.VIEWER: _("Viewer"),
    permissions.Role.OPERATOR: _("Operator"),
    permissions.Role.ADMINISTRATOR: _("Administrator"),
}
KINDS: dict[str, Any] = {
    "run": _("run"),
    "dataset": _("dataset"),
    "weights": _("weights"),
    "checkpoint": _("checkpoint"),
    "job": _("job"),
    "token": _("token"),
    "team": _("team"),
    "user": _("user"),
    "device": _("device"),
    "failurerule": _("failure rule"),
}


#: What an entry of the trail tells besides, for people. A name that is not here is shown as it is stored.
DETAILS: dict[str, Any] = {
    "address": _("address"),
    "bytes": _("freed"),
    "dataset": _("dataset"),
    "epochs": _("number of epochs"),
    "fields": _("fields"),
    "from": _("before"),
    "order": pgettext_lazy("command", "order"),
    "role": _("role"),
    "scopes": _("scopes"),
    "sessions": _("browsers"),
    "to": _("after"),
    "upload": _("uploaded"),
    "user": _("user"),
    "username": _("user"),
    "with": _("shared with"),
}


ORDERED: dict[str, Any] = {
    "checkpoint": _("checkpoint"),
    "evaluate": _("evaluation"),
    "epochs": _("number of epochs"),
}


@register.filter
def audit_details(details: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The details of an entry as labels and values that people read, in one order: PostgreSQL keeps none."""
    places = {name: place for place, name in enumerate(DETAILS)}
    names = sorted(details, key=lambda name: (places.get(name, len(places)), name))
    return [(DETAILS.get(name, name), _detail(name, details[name])) for name in names]


def _detail(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "order":
        return ORDERED.get(value, value)
    return filesizeformat(value) if name == "bytes" else value


@register.filter
def role_label(user: Any) -> Any:
    return ROLES[permissions.role_of(user)]


@register.filter
def is_administrator(user: Any) -> bool:
    return permissions.is_administrator(user)


@register.filter
def audit_verb(verb: str) -> Any:
    return audit.VERBS.get(verb, verb.replace("_", " "))


@register.filter
def audit_kind(kind: str) -> Any:
    return KINDS.get(kind, kind)
