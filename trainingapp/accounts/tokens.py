"""The verbs of personal API tokens: create, find, revoke."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.models import ApiToken
from trainingapp.models.verbs import VerbError, checked_name

TOKENS_BEGIN = "cvs_"
#: Characters of the secret that are stored in plain text, so that users can distinguish tokens.
PREFIX_LENGTH = 12
#: The minimum time between two writes of the last use.
NOTED_EACH = timedelta(minutes=1)


def create_token(
    user: User, *, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Create a token; returns it with its secret. Only the hash is stored: the secret cannot be shown again."""
    wanted = [scope for scope in ApiToken.Scope.values if scope in set(scopes)]
    if not wanted:
        raise VerbError(_("scopes: Choose at least one scope."))
    if expires_at is not None and expires_at <= timezone.now():
        raise VerbError(_("expires: This time is in the past."))
    secret = TOKENS_BEGIN + secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=user,
            name=checked_name(name),
            prefix=secret[:PREFIX_LENGTH],
            digest=_digest(secret),
            scopes=wanted,
            expires_at=expires_at,
        )
        audit.record("token_create", token, details={"user": user.get_username(), "scopes": wanted})
    return token, secret


def revoke_token(token: ApiToken) -> ApiToken:
    """Revoke the token. A token that is revoked already keeps its time."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record("token_revoke", token, details={"user": token.user.get_username()})
    token.refresh_from_db()
    return token


def find_token(secret: str) -> ApiToken | None:
    """The token of a secret; None where it is unknown, expired or revoked, or its user is not active."""
    if not secret.startswith(TOKENS_BEGIN):
        return None
    token = ApiToken.objects.select_related("user").filter(digest=_digest(secret)).first()
    return token if token is not None and token.is_usable and token.user.is_active else None


def note_token_use(token: ApiToken, address: str | None) -> None:
    """Store when and from where the token was used, at most once a minute, so that reads cause few writes."""
    now = timezone.now()
    if token.last_used_at is not None and token.last_used_at > now - NOTED_EACH:
        return
    due = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EACH)
    ApiToken.objects.filter(due, pk=token.pk).update(last_used_at=now, last_used_from=address or None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
