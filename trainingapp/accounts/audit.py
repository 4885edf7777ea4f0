"""The audit trail: who did what to which thing, from where, by which door.

Verbs call `record` in the transaction that makes the change, so an entry stands for what really happened. Who acts,
from where and by which door need not be handed down: a middleware (for pages, admin and API) or a command says it
once, by `acting`.
"""

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from trainingapp.contract.limits import SEARCH_LENGTH, USER_NAME_LENGTH
from trainingapp.models import ApiToken, AuditEntry, Checkpoint, Dataset, Job, Team, TrainingRun, Weights

Door = AuditEntry.Door

#: What is done, for people. A verb that is not here is shown as it is stored.
VERBS: dict[str, str | Promise] = {
    "create": pgettext_lazy("somebody", "created"),
    "change": _("changed"),
    "start": _("started"),
    "pause": _("paused"),
    "resume": _("resumed"),
    "stop": _("stopped"),
    "kill": _("stopped by force"),
    "extend": _("extended"),
    "order": _("gave an order to"),
    "retry": _("tried again"),
    "fork": _("forked"),
    "clone": _("cloned"),
    "move": _("moved in the queue"),
    "priority": _("gave another priority to"),
    "check": _("checked a run on"),
    "share": _("changed who sees"),
    "delete": _("deleted"),
    "import": _("imported"),
    "confirm": _("confirmed the import of"),
    "save": _("saved to the library"),
    "export": _("exported"),
    "predict": _("predicted with"),
    "pin": _("keeps for good"),
    "unpin": _("let go of"),
    "verify": _("compared with its hashes"),
    "copy": _("copied"),
    "clean_up": _("cleaned up"),
    "cancel": _("cancelled"),
    "sign_in": _("signed in"),
    "sign_out": _("signed out"),
    "sign_out_everywhere": _("signed out everywhere"),
    "sign_in_failed": _("failed to sign in"),
    "locked_out": _("was locked out"),
    "backup": _("made a backup"),
    "restore": _("restored a backup"),
    "mend": _("mended"),
    "unlock": _("opened a sign-in again"),
    "password": _("changed the password of"),
    "role": _("changed the role of"),
    "token_create": _("made the token"),
    "token_revoke": _("revoked the token"),
}
KINDS: dict[type[Model], str] = {
    TrainingRun: "run",
    Dataset: "dataset",
    Weights: "weights",
    Checkpoint: "checkpoint",
    Job: "job",
    ApiToken: "token",
    Team: "team",
}


def _nobody() -> Any:
    return AnonymousUser()


@dataclass(frozen=True)
class Actor:
    """Who acts now. `who` is asked only when something is recorded: a request knows its user late, or not at all."""

    who: Callable[[], Any] = field(default=_nobody)
    door: str = Door.SYSTEM
    address: str | None = None
    #: Shown where there is no account, such as the user of the shell.
    username: str = ""


_THE_STUDIO = Actor()
_actor: ContextVar[Actor] = ContextVar("audit_actor", default=_THE_STUDIO)


@contextmanager
def acting(
    user: Any = None, door: str = Door.SYSTEM, address: str | None = None, *, username: str = ""
) -> Iterator[None]:
    """Within: what is recorded was done by `user` (an account, or a function that gives one)."""
    who = user if callable(user) else (lambda: user)
    token = _actor.set(Actor(who if user is not None else _nobody, door, address, username))
    try:
        yield
    finally:
        _actor.reset(token)


def record(
    verb: str,
    item: Any = None,
    *,
    by: Any = None,
    door: str | None = None,
    address: str | None = None,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write an entry, in the caller's transaction. What is not given comes from who acts now.

    `by` is an account, or the name of somebody where no account is known. Call it for real changes alone.
    """
    actor = _actor.get()
    user: Any = by if isinstance(by, Model) else actor.who()
    is_known = bool(user is not None and user.is_authenticated)
    named = by if isinstance(by, str) else ""
    return AuditEntry.objects.create(
        user=user if is_known else None,
        username=user.get_username() if is_known else (named or actor.username)[:USER_NAME_LENGTH],
        verb=verb,
        door=door or actor.door,
        address=address or actor.address,
        details=details or {},
        **_thing(item),
    )


def _thing(item: Any) -> dict[str, str]:
    if item is None:
        return {}
    number = f"{item.run_id}/{item.file}" if isinstance(item, Checkpoint) else str(item.pk)
    return {"kind": kind_of(item), "object_id": number, "object_name": str(item)[:SEARCH_LENGTH]}


def kind_of(item: Model) -> str:
    """What the trail calls a thing: run, dataset, user ..."""
    return KINDS.get(type(item), item._meta.model_name or "")


def entries_of(item: Any) -> QuerySet[AuditEntry]:
    """What was done to a thing, newest first; of a run also what was done to its checkpoints."""
    about = Q(kind=kind_of(item), object_id=str(item.pk))
    if isinstance(item, TrainingRun):
        about |= Q(kind="checkpoint", object_id__startswith=f"{item.pk}/")
    return AuditEntry.objects.filter(about)


def address_of(request: HttpRequest) -> str | None:
    """The address that a request came from. X-Forwarded-For counts only as far as TRUSTED_PROXIES vouch for it."""
    address = _address(request.META.get("REMOTE_ADDR", ""))
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    while address is not None and hops and _is_trusted(address):
        address = _address(hops.pop())
    return address


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return None


def _is_trusted(address: str) -> bool:
    return any(ipaddress.ip_address(address) in network for network in settings.TRUSTED_PROXIES)


def door_of(path: str) -> str:
    """The door that an address of the studio belongs to."""
    if path.startswith("/admin/"):
        return Door.ADMIN
    return Door.API if path.startswith("/api/") else Door.PAGE


def listen() -> None:
    """Hear of sign-ins, by whatever door they come; nothing else tells of them."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_logged_out.connect(_signed_out, dispatch_uid="audit")
    user_login_failed.connect(_failed, dispatch_uid="audit")
    user_locked_out.connect(_locked_out, dispatch_uid="audit")


def _signed_in(sender: object, user: Any, **kwargs: Any) -> None:
    record("sign_in", by=user)


def _signed_out(sender: object, user: Any, **kwargs: Any) -> None:
    if user is not None:
        record("sign_out", by=user)


def _failed(sender: object, credentials: dict[str, Any], request: Any = None, **kwargs: Any) -> None:
    if not getattr(request, "axes_locked_out", False):  # that was said when it was locked
        record("sign_in_failed", by=_shown(credentials.get("username")))


def _locked_out(sender: object, username: Any, **kwargs: Any) -> None:
    """Told of every attempt while it is locked; the first one is enough."""
    began = timezone.now() - settings.AXES_COOLOFF_TIME
    same = {"verb": "locked_out", "username": _shown(username), "address": _actor.get().address}
    if not AuditEntry.objects.filter(**same, time__gte=began).exists():
        record("locked_out", by=_shown(username))


def _shown(username: object) -> str:
    """A name as somebody typed it; a database takes no NUL."""
    return str(username or "").replace("\0", "")[:USER_NAME_LENGTH]


def remove_old() -> int:
    """Remove entries older than AUDIT_DAYS; returns how many."""
    before = timezone.now() - timedelta(days=settings.AUDIT_DAYS)
    return AuditEntry.objects.filter(time__lt=before).delete()[0]
