"""The gateway of the API: every request and every response passes through it."""

from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from trainingapp.accounts.audit import address_of
from trainingapp.accounts.tokens import note_token_use
from trainingapp.api.callers import ApiRequest, caller_of, check_rights
from trainingapp.api.idempotency import answered_once
from trainingapp.api.limits import count_request
from trainingapp.api.problems import Problem, failure, wrong_parameters
from trainingapp.contract.old_names import OLD_KEYS
from trainingapp.runs.stream_clients import in_thread

View = Callable[..., HttpResponseBase]
AsyncView = Callable[..., Awaitable[HttpResponseBase]]


#: The query parameters of a method; None for a method that is not allowed.
Known = Callable[[str], Collection[str] | None]


def guarded(view: View | AsyncView, known: Known) -> View | AsyncView:
    """The view behind the gateway, which authenticates the caller itself, without Django's login."""
    if iscoroutinefunction(view):
        inner: View | AsyncView = _async_guarded(cast(AsyncView, view), known)
    else:
        inner = _sync_guarded(cast(View, view), known)
    inner.csrf_exempt = True  # type: ignore[union-attr]  # callers.check_rights checks it for sessions
    inner.login_required = False  # type: ignore[union-attr]
    return inner


def _sync_guarded(view: View, known: Known) -> View:
    @wraps(view)
    def inner(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            entered = enter(request)
            with _head_as_get(request):
                check_query(request, known)
                return _tidied(request, answered_once(entered, lambda: view(entered, *args, **kwargs)))
        except Exception as error:  # noqa: BLE001  the outermost handler: every error becomes a problem
            return _tidied(request, failure(error))

    return inner


@contextmanager
def _head_as_get(request: HttpRequest) -> Iterator[None]:
    """Within it, HEAD is handled as GET; the server omits the body."""
    sent = request.method
    request.method = "GET" if sent == "HEAD" else sent
    try:
        yield
    finally:
        request.method = sent


def _async_guarded(view: AsyncView, known: Known) -> AsyncView:
    @wraps(view)
    async def inner(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            entered = await in_thread(enter, request)
            check_query(request, known)
            return _tidied(request, await view(entered, *args, **kwargs))
        except Exception as error:  # noqa: BLE001  as above
            return _tidied(request, failure(error))

    return inner


def enter(request: HttpRequest) -> ApiRequest:
    """Authenticate the caller and count the request. Raises Problem for a refusal or too many requests."""
    caller = caller_of(request)
    count_request(request, caller)
    caller = check_rights(request, caller)
    if caller.token is not None:
        note_token_use(caller.token, address_of(request))
    request.user = caller.user
    _rename_old_parameters(request)
    entered = cast(ApiRequest, request)
    entered.caller = caller
    return entered


def _rename_old_parameters(request: HttpRequest) -> None:
    """Take the names of version 0.1 for one release: `recipe` in a query, files sent as `pictures`."""
    if any(name in OLD_KEYS for name in request.GET):
        query = request.GET.copy()
        for name in [name for name in query if name in OLD_KEYS]:
            query.setlist(OLD_KEYS[name], query.pop(name))
        request.GET = query  # type: ignore[assignment]  # the immutable kind is meant for views
    # Only there: reading the files of a form would use up the body of an operation that takes JSON.
    if request.content_type == "multipart/form-data" and request.path.endswith("/predict"):
        for name in [name for name in request.FILES if name in OLD_KEYS]:
            request.FILES.setlist(OLD_KEYS[name], request.FILES.getlist(name))


def check_query(request: HttpRequest, known: Known) -> None:
    """Raises Problem for an unknown query parameter: a mistyped filter would be ignored silently."""
    names = known(request.method or "")
    unknown = [name for name in request.GET if names is not None and name not in names]
    if unknown:
        about = _("Unknown parameter. Known are: %(names)s.") % {"names": ", ".join(sorted(names or ()))}
        detail = about if names else _("This address takes no parameters.")
        raise wrong_parameters(unknown, detail)


def _tidied(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code == 405:
        allowed = ", ".join(sorted(response.headers["Allow"].split(", ")))
        detail = _("This address takes %(allowed)s, not %(method)s.")
        problem = Problem(405, detail % {"method": request.method, "allowed": allowed}, headers={"Allow": allowed})
        response = problem.response()
    response.headers.setdefault("Cache-Control", "no-store")
    return response
