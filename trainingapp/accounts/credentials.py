"""What an open stream was opened with: the session of a browser or an API token. Both may end before the stream."""

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from trainingapp.accounts.permissions import Verb, scopes_allow
from trainingapp.models import ApiToken


@dataclass(frozen=True)
class Credential:
    """The key of a session, or the id of a token."""

    session: str = ""
    token: int | None = None


def users_of(credentials: Collection[Credential]) -> dict[Credential, User]:
    """The users whose sessions and tokens are still valid and may be used to read; two or three queries for any number.

    A session is valid as in `django.contrib.auth.get_user`: it ends with a changed password too.
    """
    found = _session_users({one.session: one for one in credentials if one.session})
    tokens = {one.token: one for one in credentials if one.token is not None}
    for token in ApiToken.objects.select_related("user").filter(pk__in=tokens):
        if token.is_usable and token.user.is_active and scopes_allow(token.scopes, Verb.SEE):
            found[tokens[token.pk]] = token.user
    return found


def _session_users(sessions: dict[str, Credential]) -> dict[Credential, User]:
    rows = Session.objects.filter(pk__in=sessions, expire_date__gt=timezone.now()) if sessions else ()
    content = {row.pk: SessionStore().decode(row.session_data) for row in rows}
    ids = {key: data[SESSION_KEY] for key, data in content.items() if SESSION_KEY in data}
    users = (
        {str(user.pk): user for user in User.objects.filter(pk__in=set(ids.values()), is_active=True)} if ids else {}
    )
    hashes = {
        id_: [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()] for id_, user in users.items()
    }
    return {
        sessions[key]: users[id_]
        for key, id_ in ids.items()
        if id_ in users
        and content[key].get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
        and any(constant_time_compare(content[key].get(HASH_SESSION_KEY, ""), known) for known in hashes[id_])
    }
