"""Server-Sent Events, as plain async views."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import close_old_connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.models import TrainingRun
from trainingapp.runs.live import Audience, Message, in_thread, list_messages, run_messages
from trainingapp.runs.run_page import further_rights


@require_safe
async def run_stream(request: HttpRequest, pk: int) -> HttpResponse | StreamingHttpResponse:
    """Events of a run above Last-Event-ID (or ?after=), then what comes, until the client leaves."""
    user = await request.auser()
    run = await in_thread(_visible_run, user, pk)
    if run is None:
        raise Http404
    after = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not after.isdecimal():
        return HttpResponseBadRequest("after must be the number of an event")
    controls = await in_thread(can, user, Verb.CONTROL, run)
    may = await in_thread(further_rights, user, run)
    audience = Audience(get_language() or "en", controls, may, user.pk)
    return await _streamed(request, run_messages(run.pk, audience, min(int(after), run.event_seq)), run.pk)


@require_safe
async def run_list_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Sends "changed" whenever the list of runs changes; messages have no numbers, so none can be missed."""
    return await _streamed(request, list_messages())


def _visible_run(user: AnyUser, pk: int) -> TrainingRun | None:
    return visible_to(user, TrainingRun.objects.all()).filter(pk=pk).first()


async def _streamed(
    request: HttpRequest, messages: AsyncGenerator[Message | None, None], run_id: int | None = None
) -> StreamingHttpResponse:
    await sync_to_async(close_old_connections)()  # the request's own connection would stay open as long as the stream
    response = StreamingHttpResponse(
        _encoded(messages, request.session.session_key or "", run_id), content_type="text/event-stream"
    )
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _encoded(
    messages: AsyncGenerator[Message | None, None], session_key: str, run_id: int | None
) -> AsyncIterator[bytes]:
    """The messages as bytes; a comment keeps the connection open. It ends with the session or the permission."""
    yield b": connected\n\n"
    async with aclosing(messages):  # a disconnected client is released now, not by the garbage collector
        async for message in messages:
            if message is not None:
                yield message.encode()
            elif await in_thread(_may_look, session_key, run_id):
                yield b": alive\n\n"
            else:
                yield Message("logged-out", "").encode()
                return


def _may_look(session_key: str, run_id: int | None) -> bool:
    """Whether the session is still one, and its user may still see the run."""
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    return user.is_authenticated and (run_id is None or _visible_run(user, run_id) is not None)
