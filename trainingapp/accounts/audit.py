"""The audit trail: user, verb, object, source (web, API, admin, command) and address of each change.

Verbs call `record` in the transaction that makes the change, so that an entry exists exactly where the change does.
User, source and address are not passed down to them: a middleware (for pages, admin and API) or a command sets them
once, with `acting`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import TypedDict

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import SEARCH_LENGTH, USER_NAME_LENGTH
from trainingapp.models import (
    ApiToken,
    AuditEntry,
    Checkpoint,
    Dataset,
    Device,
    Job,
    Sweep,
    Team,
    TrainingRun,
    Webhook,
    Weights,
)
from trainingapp.presentation.text import Text

Source = AuditEntry.Source

#: The label of each verb, in the past tense. The run verbs add theirs (runs/verb_record.py). A verb without a label
#: is shown as it is stored.
VERBS: dict[str, Text] = {
    "create": pgettext_lazy("somebody", "created"),
    "change": _("changed"),
    "share": _("changed the sharing of"),
    "delete": _("deleted"),
    "import": _("imported"),
    "confirm": _("confirmed the import of"),
    "read_again": _("read the source again of"),
    "store": _("requested the copy in the object store of"),
    "save": _("saved as model"),
    "export": _("exported"),
    "alias": _("set an alias of"),
    "unalias": _("removed an alias of"),
    "predict": _("predicted with"),
    "fetch_published": _("downloaded published weights"),
    "import_published": _("imported published weights"),
    "delete_published": _("deleted published weights from the cache"),
    "pin": _("pinned"),
    "unpin": _("unpinned"),
    "verify": _("verified the hashes of"),
    "copy": _("copied"),
    "clean_up": _("cleaned up"),
    "prune": _("removed old history of"),
    "cancel": _("cancelled"),
    "enqueue": _("entered a trial in"),
    "quarantine": _("put in quarantine"),
    "release": _("released from quarantine"),
    "sign_in": _("signed in"),
    "sign_out": _("signed out"),
    "sign_out_everywhere": _("signed out everywhere"),
    "sign_in_failed": _("failed to sign in"),
    "locked_out": _("was locked out"),
    "backup": _("created a backup"),
    "restore": _("restored a backup"),
    "mend": _("repaired"),
    "unlock": _("unlocked the sign-in of"),
    "password": _("changed the password of"),
    "role": _("changed the role of"),
    "token_create": _("created the token"),
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
    Webhook: "webhook",
    Device: "device",
    Sweep: "sweep",
}


@dataclass(frozen=True)
class Actor:
    """On whose behalf the present code acts."""

    #: Called only when something is recorded: the user of a request is known late, or never.
    user: Callable[[], AnyUser] = AnonymousUser
    source: str = Source.SYSTEM
    address: str | None = None
    #: Recorded where there is no account, such as the user of the shell.
    username: str = ""


_SYSTEM = Actor()
_actor: ContextVar[Actor] = ContextVar("audit_actor", default=_SYSTEM)


@contextmanager
def acting(
    user: AnyUser | Callable[[], AnyUser] | None = None,
    source: str = Source.SYSTEM,
    address: str | None = None,
    *,
    username: str = "",
) -> Iterator[None]:
    """Within it, what is recorded was done by `user` (an account, or a function that returns one)."""
    # The user of a request is a lazy object, which is callable by its type alone: the class is asked, not the object.
    known = AnonymousUser() if user is None else user
    asked = (lambda: known) if isinstance(known, User | AnonymousUser) else known
    token = _actor.set(Actor(asked, source, address, username))
    try:
        yield
    finally:
        _actor.reset(token)


def record(
    verb: str,
    item: Model | None = None,
    *,
    by: AnyUser | str | None = None,
    source: str | None = None,
    address: str | None = None,
    details: Mapping[str, object] | None = None,
) -> AuditEntry:
    """Write an entry, in the caller's transaction, for a change that was made. The actor fills in what is not given.

    `by` is an account, or a user name where no account is known.
    """
    actor = _actor.get()
    user = actor.user() if by is None or isinstance(by, str) else by
    named = by if isinstance(by, str) else ""
    return AuditEntry.objects.create(
        user=user if isinstance(user, User) else None,
        username=user.get_username() if user.is_authenticated else (named or actor.username)[:USER_NAME_LENGTH],
        verb=verb,
        source=source or actor.source,
        address=address or actor.address,
        details=dict(details or {}),
        **_columns_of(item),
    )


class _ObjectColumns(TypedDict, total=False):
    kind: str
    object_id: str
    object_name: str


def _columns_of(item: Model | None) -> _ObjectColumns:
    if item is None:
        return {}
    number = f"{item.run_id}/{item.file}" if isinstance(item, Checkpoint) else str(item.pk)
    return {"kind": kind_of(item), "object_id": number, "object_name": str(item)[:SEARCH_LENGTH]}


def kind_of(item: Model) -> str:
    """The type of an object in the trail: run, dataset, user ..."""
    return KINDS.get(type(item), item._meta.model_name or "")


def entries_of(item: Model) -> QuerySet[AuditEntry]:
    """The entries about an object, newest first; for a run also those about its checkpoints."""
    about = Q(kind=kind_of(item), object_id=str(item.pk))
    if isinstance(item, TrainingRun):
        about |= Q(kind="checkpoint", object_id__startswith=f"{item.pk}/")
    return AuditEntry.objects.filter(about)


def address_of(request: HttpRequest) -> str | None:
    """The address that a request came from. X-Forwarded-For is believed only behind one of TRUSTED_PROXIES."""
    address = _address(request.META.get("REMOTE_ADDR", ""))
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    # Each trusted proxy appended the address that it saw: read from the right, up to the first that is not ours.
    while address is not None and hops and any(ip_address(address) in network for network in settings.TRUSTED_PROXIES):
        address = _address(hops.pop())
    return address


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        return None


def source_of(path: str) -> str:
    """The source that a path of the studio belongs to."""
    if path.startswith("/admin/"):
        return Source.ADMIN
    return Source.API if path.startswith("/api/") else Source.WEB


def listen() -> None:
    """Record sign-ins by Django's signals: pages, single sign-on and the admin send the same ones."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_logged_out.connect(_signed_out, dispatch_uid="audit")
    user_login_failed.connect(_failed, dispatch_uid="audit")
    user_locked_out.connect(_locked_out, dispatch_uid="audit")


def _signed_in(sender: object, user: User, **kwargs: object) -> None:
    record("sign_in", by=user)


def _signed_out(sender: object, user: User | None, **kwargs: object) -> None:
    if user is not None:
        record("sign_out", by=user)


def _failed(
    sender: object, credentials: Mapping[str, object], request: HttpRequest | None = None, **kwargs: object
) -> None:
    if not getattr(request, "axes_locked_out", False):  # recorded when it was locked
        record("sign_in_failed", by=_printable(credentials.get("username")))


def _locked_out(sender: object, username: object, **kwargs: object) -> None:
    """django-axes sends this with every attempt during the lock; the first is recorded."""
    began = timezone.now() - settings.AXES_COOLOFF_TIME
    name = _printable(username)
    same = AuditEntry.objects.filter(verb="locked_out", username=name, address=_actor.get().address)
    if not same.filter(time__gte=began).exists():
        record("locked_out", by=name)


def _printable(username: object) -> str:
    """A user name as it was typed, without NUL, which PostgreSQL refuses in a text."""
    return str(username or "").replace("\0", "")[:USER_NAME_LENGTH]


def remove_old() -> int:
    """Remove entries older than AUDIT_DAYS; returns how many."""
    before = timezone.now() - timedelta(days=settings.AUDIT_DAYS)
    return AuditEntry.objects.filter(time__lt=before).delete()[0]
