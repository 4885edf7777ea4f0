"""What holds for every request: who acts in it, by which door and from where; and headers of every answer."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from trainingapp.accounts import audit

GetResponse = Callable[[HttpRequest], Any]

#: What no page of the studio uses, so that nothing that gets into one can either.
PERMISSIONS_POLICY = ", ".join(
    f"{name}=()" for name in ("camera", "microphone", "geolocation", "payment", "usb", "serial", "midi")
)


@sync_and_async_middleware
def acting(get_response: GetResponse) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """What the request does is recorded as done by its user. An API token's user is found later than this."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            with _acting(request):
                response: HttpResponseBase = await get_response(request)
                return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        with _acting(request):
            response: HttpResponseBase = get_response(request)
            return response

    return answer


@sync_and_async_middleware
def private(get_response: GetResponse) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """No cache keeps a page, unless its view says so: the next one at the machine may be somebody else."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return _with_headers(await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _with_headers(get_response(request))

    return answer


def _with_headers(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Cache-Control", "private, no-store")
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    return response


def _acting(request: HttpRequest) -> Any:
    return audit.acting(lambda: request.user, audit.source_of(request.path), audit.address_of(request))
