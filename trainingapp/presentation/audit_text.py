"""How pages name roles and show the entries of the audit trail."""

from collections.abc import Mapping

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts import audit, permissions
from trainingapp.accounts.users import AnyUser
from trainingapp.presentation.punctuation import listed
from trainingapp.presentation.text import Text

ROLES: dict[permissions.Role, Text] = {
    permissions.Role.NONE: _("Not signed in"),
    permissions.Role.VIEWER: _("Viewer"),
    permissions.Role.OPERATOR: _("Operator"),
    permissions.Role.ADMINISTRATOR: _("Administrator"),
}
#: What an entry of the trail is about.
KINDS: dict[str, Text] = {
    "run": _("run"),
    "dataset": _("dataset"),
    "weights": _("model"),
    "checkpoint": _("checkpoint"),
    "job": _("job"),
    "token": _("token"),
    "team": _("team"),
    "webhook": _("webhook"),
    "user": _("user"),
    "device": _("device"),
    "sweep": _("sweep"),
    "failurerule": _("failure rule"),
}
#: Names of details, in the order in which they are shown. A name that is not here is shown as it is stored.
DETAILS: dict[str, Text] = {
    "added": _("added"),
    "address": _("address"),
    "alias": _("alias"),
    "aliases": _("aliases"),
    "bytes": _("freed"),
    "dataset": _("dataset"),
    "epochs": _("number of epochs"),
    "fields": _("fields"),
    "from": _("before"),
    "kind": _("kind"),
    "order": _("request"),
    "removed": _("removed"),
    "rows": _("records"),
    "role": _("role"),
    "scopes": _("scopes"),
    "sessions": _("browsers"),
    "to": _("after"),
    "trial": _("trial"),
    "upload": _("uploaded"),
    "user": _("user"),
    "username": _("user"),
    "with": _("shared with"),
}
#: Values of the detail "order": requests to a running trainer.
REQUESTED: dict[str, Text] = {
    "checkpoint": _("checkpoint"),
    "evaluate": _("evaluation"),
    "epochs": _("number of epochs"),
}


def audit_details(details: Mapping[str, object]) -> list[tuple[Text, Text]]:
    """The details of an entry as labels and values, in a fixed order: PostgreSQL keeps none in JSON."""
    places = {name: place for place, name in enumerate(DETAILS)}
    names = sorted(details, key=lambda name: (places.get(name, len(places)), name))
    return [(DETAILS.get(name, name), _detail(name, details[name])) for name in names]


def _detail(name: str, value: object) -> Text:
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, list):
        return listed(map(str, value))
    if name == "order":
        return REQUESTED.get(str(value), str(value))
    return filesizeformat(str(value)) if name == "bytes" else str(value)


def role_label(user: AnyUser) -> Text:
    return ROLES[permissions.role_of(user)]


def audit_verb(verb: str) -> Text:
    return audit.VERBS.get(verb, verb.replace("_", " "))


def audit_kind(kind: str) -> Text:
    return KINDS.get(kind, kind)
