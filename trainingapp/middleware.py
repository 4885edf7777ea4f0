"""What holds for every request: who acts in it, by which door and from where."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from trainingapp import audit

GetResponse = Callable[[HttpRequest], Any]


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


def _acting(request: HttpRequest) -> Any:
    return audit.acting(lambda: request.user, audit.door_of(request.path), audit.address_of(request))
