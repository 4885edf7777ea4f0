"""How pages name roles and what the audit trail holds."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext_lazy as _

from trainingapp import audit, permissions

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
