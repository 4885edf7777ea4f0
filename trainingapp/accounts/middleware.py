"""The middleware of the studio: the actor of the audit trail, and headers of every response."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from trainingapp.accounts import audit

Respond = Callable[[HttpRequest], HttpResponseBase]
RespondAsync = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

#: Browser features that no page uses; a script that was injected into one cannot use them either.
PERMISSIONS_POLICY = ", ".join(
    f"{name}=()" for name in ("camera", "microphone", "geolocation", "payment", "usb", "serial", "midi")
)


@sync_and_async_middleware
def acting(get_response: Respond | RespondAsync) -> Respond | RespondAsync:
    """Record what the request does as done by its user. The user of an API token is set later than this."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            with _acting(request):
                return await cast(RespondAsync, get_response)(request)

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        with _acting(request):
            return cast(Respond, get_response)(request)

    return respond


@sync_and_async_middleware
def private(get_response: Respond | RespondAsync) -> Respond | RespondAsync:
    """Forbid caches to keep a page, unless its view allows it: the next user of the browser may be another one."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            return _with_headers(await cast(RespondAsync, get_response)(request))

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        return _with_headers(cast(Respond, get_response)(request))

    return respond


def _with_headers(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Cache-Control", "private, no-store")
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    return response


def _acting(request: HttpRequest) -> AbstractContextManager[None]:
    return audit.acting(lambda: request.user, audit.source_of(request.path), audit.address_of(request))
