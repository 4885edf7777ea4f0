"""Who asks: a personal token, or the login of the browser."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from trainingapp.accounts import tokens as token_verbs
from trainingapp.accounts.permissions import Verb, scopes_allow
from trainingapp.api.problems import Problem
from trainingapp.models import ApiToken

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: What a method does, for the scope of a token; every other method changes something.
VERBS = {**dict.fromkeys(SAFE_METHODS, Verb.SEE), "DELETE": Verb.DELETE}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="CV Studio"'}


@dataclass(frozen=True)
class Caller:
    """A person, and the token that stands for them; none where the browser's login does."""

    user: Any
    token: ApiToken | None = None

    @property
    def key(self) -> str:
        """What requests are counted by."""
        return f"token.{self.token.pk}" if self.token else f"user.{self.user.pk}"


class ApiRequest(HttpRequest):
    """A request that has passed the door."""

    caller: Caller


def caller_of(request: HttpRequest) -> Caller | None:
    """Who asks; None for nobody. Raises Problem for a token that is none, or is none any more."""
    header = request.headers.get("Authorization")
    if header is None:
        return Caller(request.user) if request.user.is_authenticated else None
    scheme, _space, secret = header.partition(" ")
    token = token_verbs.find_token(secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise Problem(401, _("This token is unknown, expired or revoked."), headers=CHALLENGE)
    return Caller(token.user, token)


def check_rights(request: HttpRequest, caller: Caller | None) -> Caller:
    """Refuse nobody, a token of too small a scope, and a form of another site."""
    if caller is None:
        raise Problem(401, _("Send a token: Authorization: Bearer cvs_…"), headers=CHALLENGE)
    verb = VERBS.get(request.method or "", Verb.CONTROL)
    if caller.token is not None and not scopes_allow(caller.token.scopes, verb):
        raise Problem(403, _("The scopes of this token do not reach so far."), kind="scope")
    if caller.token is None and request.method not in SAFE_METHODS and check_csrf(request):
        raise Problem(403, _("The header X-CSRFToken is missing or wrong."), kind="csrf")
    return caller


class Token(HttpBearer):
    """For the OpenAPI document, and for django-ninja: the door has looked already."""

    openapi_description = "A personal token, made on the page “API tokens”."

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return getattr(request, "caller", None)


class Session(APIKeyCookie):
    """The login of the browser; whatever changes something sends X-CSRFToken too."""

    param_name = "sessionid"
    openapi_description = "The login of the browser. What changes something needs the header X-CSRFToken too."

    def __call__(self, request: HttpRequest) -> Any:
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return getattr(request, "caller", None)
