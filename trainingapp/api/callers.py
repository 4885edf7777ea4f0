"""The caller of the API: a personal token, or the session of a browser."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from trainingapp.accounts import tokens as token_verbs
from trainingapp.accounts.permissions import Verb, scopes_allow
from trainingapp.accounts.users import signed_in
from trainingapp.api.problems import Problem
from trainingapp.models import ApiToken

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: The permission that a method requires of the scopes of a token. Every other method changes something.
VERBS = {**dict.fromkeys(SAFE_METHODS, Verb.SEE), "DELETE": Verb.DELETE}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="CV Studio"'}


@dataclass(frozen=True)
class Caller:
    """A user, and the token that they sent; none for the session of a browser."""

    user: User
    token: ApiToken | None = None

    @property
    def key(self) -> str:
        """The key by which requests are counted."""
        return f"token.{self.token.pk}" if self.token else f"user.{self.user.pk}"


class ApiRequest(HttpRequest):
    """A request that has passed the gateway."""

    caller: Caller


def caller_of(request: HttpRequest) -> Caller | None:
    """The caller; None without credentials. Raises Problem for a token that is unknown, expired or revoked."""
    header = request.headers.get("Authorization")
    if header is None:
        return Caller(signed_in(request.user)) if request.user.is_authenticated else None
    scheme, _space, secret = header.partition(" ")
    token = token_verbs.find_token(secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise Problem(401, _("This token is unknown, expired or revoked."), headers=CHALLENGE)
    return Caller(token.user, token)


def check_rights(request: HttpRequest, caller: Caller | None) -> Caller:
    """Raises Problem for an anonymous caller, a token without the scope, and a form of another site."""
    if caller is None:
        raise Problem(401, _("Send a token: Authorization: Bearer cvs_…"), headers=CHALLENGE)
    verb = VERBS.get(request.method or "", Verb.CONTROL)
    if caller.token is not None and not scopes_allow(caller.token.scopes, verb):
        raise Problem(403, _("The scopes of this token do not allow this."), kind="scope")
    if caller.token is None and request.method not in SAFE_METHODS and check_csrf(request):
        raise Problem(403, _("The header X-CSRFToken is missing or wrong."), kind="csrf")
    return caller


class Token(HttpBearer):
    """For the OpenAPI document and for django-ninja. The gateway has checked the token before."""

    openapi_description = "A personal token, created on the page “API tokens”."

    def authenticate(self, request: HttpRequest, token: str) -> Caller | None:
        return getattr(request, "caller", None)


class Session(APIKeyCookie):
    """The session of a browser. Requests that change something send X-CSRFToken too."""

    param_name = "sessionid"
    openapi_description = "The session of a browser. Requests that change something need the header X-CSRFToken too."

    def __call__(self, request: HttpRequest) -> Caller | None:
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        return getattr(request, "caller", None)
