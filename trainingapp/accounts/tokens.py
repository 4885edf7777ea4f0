"""The verbs of personal tokens: make, find, revoke."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.models import ApiToken
from trainingapp.models.verbs import VerbError, checked_name

TOKENS_BEGIN = "cvs_"
#: Characters of the secret that are kept, to tell tokens apart.
PREFIX_LENGTH = 12
#: The last use is written at most so often.
NOTED_EACH = timedelta(minutes=1)


def create_token(
    user: Any, *, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Make a token; returns it with its secret, which is shown this once and stored nowhere."""
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
    """Let the token open no door any more; one that was revoked before stays as it is."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record("token_revoke", token, details={"user": token.user.get_username()})
    token.refresh_from_db()
    return token


def find_token(secret: str) -> ApiToken | None:
    """The token that a secret opens with; None for one that is unknown, over, revoked or of nobody active."""
    if not secret.startswith(TOKENS_BEGIN):
        return None
    token = ApiToken.objects.select_related("user").filter(digest=_digest(secret)).first()
    return token if token is not None and token.is_usable and token.user.is_active else None


def note_token_use(token: ApiToken, address: str | None) -> None:
    """Write down when and from where the token was used, at most once a minute."""
    now = timezone.now()
    if token.last_used_at is not None and token.last_used_at > now - NOTED_EACH:
        return
    due = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EACH)
    ApiToken.objects.filter(due, pk=token.pk).update(last_used_at=now, last_used_from=address or None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
