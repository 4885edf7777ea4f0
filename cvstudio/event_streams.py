"""Server-Sent Events without a thread for each stream, and a limit of how many may be open.

Django holds a thread as long as it sends a response. Here it opens a stream only: middleware and view decide who may
read it, Django sends the headers, and its thread ends. The rest is sent by the event loop.
"""

import asyncio
import contextlib
import resource
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Protocol

from django.core import signals
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpResponseBase, StreamingHttpResponse
from django.urls import set_script_prefix

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

#: The stream of a browser; see views/urls.
STREAM_PATH = "/events/"
#: Descriptors that streams leave to pages, downloads, the database and files, where that is not over half of them.
RESERVED_DESCRIPTORS = 256
#: No process needs more than that; some systems allow a thousand million.
MOST_DESCRIPTORS = 65_536
#: Seconds after which a refused client may try again.
RETRY_AFTER_S = 30
#: Streams of each kind that are opened at the same time. Each takes a connection to the database meanwhile.
OPENED_AT_ONCE = 4
#: Seconds in which a reader must take what it is sent. The rest of its connection's life is not waited for.
SLOW_S = 20.0


class Direct(Protocol):
    """Who may send without the chunks: while these wait for something to send, `sink` takes whole events."""

    sink: Callable[[bytes], bool] | None


class EventStream(StreamingHttpResponse):
    """A response of Server-Sent Events. `chunks` are whole events, encoded."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], direct: Direct | None = None) -> None:
        super().__init__(chunks, content_type="text/event-stream")
        self.chunks, self.direct = chunks, direct
        self.headers["Cache-Control"] = "no-cache, no-transform"
        self.headers["X-Accel-Buffering"] = "no"


@dataclass(eq=False)
class _Open:
    """A stream that is being sent: when the present chunk began to be sent, None between two chunks."""

    send: Send
    since: float | None = None
    task: asyncio.Task[None] | None = None
    #: The end of a chunk that was sent directly and that the connection did not take at once.
    rest: asyncio.Task[None] | None = None

    def write(self, chunk: bytes) -> bool:
        """Send a chunk without changing to the task of the stream, or return False: the one before is not taken yet.

        With thousands of readers of one event most of the time would go into changing tasks.
        """
        if self.since is not None:
            return False
        sending = self.send(_body(chunk))
        if not isinstance(sending, Coroutine):
            return False
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return True
        except Exception:  # noqa: BLE001 - it comes again where the stream sends, which raises it
            return False
        self.since = asyncio.get_running_loop().time()
        self.rest = asyncio.create_task(self._sent(_Resumed(sending, waits_for)))
        return True

    async def _sent(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        finally:
            self.since = self.rest = None

    def drop(self) -> None:
        """Give up the reader. Closing would wait until it has taken everything."""
        # The ASGI interface has no way to abort; both protocols of uvicorn keep the transport beside `send`.
        transport = getattr(getattr(self.send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()
        for task in (self.task, self.rest):
            if task is not None:
                task.cancel()


class _Resumed:
    """The rest of a coroutine that was begun outside a task and waits for a future."""

    def __init__(self, sending: Coroutine[Any, None, None], waits_for: Any) -> None:
        self.sending, self.waits_for = sending, waits_for

    def __await__(self) -> Generator[Any, None, None]:
        yield self.waits_for
        yield from self.sending.__await__()


def _body(chunk: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": chunk, "more_body": True}


@dataclass
class Streams:
    """The open streams of this process."""

    limit: int = 0
    open: set[_Open] = field(default_factory=set)
    _watch: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether a further stream is refused."""
        return len(self.open) >= (self.limit or stream_limit())

    async def pump(
        self, chunks: AsyncGenerator[bytes, None], receive: Receive, send: Send, direct: Direct | None = None
    ) -> None:
        """Send the chunks until they end, the client leaves, or it takes nothing for SLOW_S seconds."""
        stream = _Open(send)
        self.open.add(stream)
        if direct is not None:
            direct.sink = stream.write
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._drop_slow())
        stream.task = asyncio.create_task(_send_all(stream, chunks))
        left = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({stream.task, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open.discard(stream)
            for task in (left, stream.task, stream.rest):
                if task is not None:
                    task.cancel()
            # A reader that was dropped is no error, and what the chunks raised is raised here.
            with contextlib.suppress(asyncio.CancelledError):
                await stream.task
            await chunks.aclose()  # one that was cancelled before its first step has not been closed

    def drop_waiting(self) -> None:
        """Give up the readers that are being waited for, when the server stops: they come back with their numbers."""
        for stream in list(self.open):
            if stream.since is not None:
                stream.drop()

    async def _drop_slow(self) -> None:
        while self.open:
            await asyncio.sleep(SLOW_S / 4)
            now = asyncio.get_running_loop().time()
            for stream in list(self.open):
                if stream.since is not None and now - stream.since > SLOW_S:
                    stream.drop()


async def _send_all(stream: _Open, chunks: AsyncGenerator[bytes, None]) -> None:
    loop = asyncio.get_running_loop()
    async with aclosing(chunks):
        async for chunk in chunks:
            if stream.rest is not None:
                await stream.rest
            stream.since = loop.time()
            await stream.send(_body(chunk))
            stream.since = None
    if stream.rest is not None:
        await stream.rest
    await stream.send({"type": "http.response.body"})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


STREAMS = Streams()


def raise_descriptor_limit() -> None:
    """Let this process open as many files and connections as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stream_limit() -> int:
    """Streams that may be open at the same time: each takes a descriptor, and others need some."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MOST_DESCRIPTORS)
    return max(most - RESERVED_DESCRIPTORS, most // 2)


class _HeldSend:
    """`send` of one request; holds the stream that its response opened."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.stream: EventStream | None = None

    async def __call__(self, message: Mapping[str, Any]) -> None:
        await self.send(message)


class StudioHandler(ASGIHandler):
    """Django's handler, which sends the events of an EventStream after the request has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._opening = asyncio.Semaphore(OPENED_AT_ONCE)
        self._openers = ThreadPoolExecutor(OPENED_AT_ONCE, thread_name_prefix="opening")
        # The same middleware without asyncio: Django would change between threads for each of them.
        self._synchronous = BaseHandler()
        self._synchronous.load_middleware()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = _HeldSend(send)
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == STREAM_PATH:
            response = await asyncio.get_running_loop().run_in_executor(self._openers, self._opened, scope)
            await self.send_response(response, held)
        elif str(scope.get("path", "")).endswith("/events"):  # that of the API
            async with self._opening:
                await super().__call__(scope, receive, held)
        else:
            await super().__call__(scope, receive, held)
        if held.stream is not None:
            await STREAMS.pump(held.stream.chunks, receive, send, held.stream.direct)

    def _opened(self, scope: Scope) -> HttpResponseBase:
        """The response to a request for the stream of a browser, which has no body. In one of the few threads."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, problem = self.create_request(scope, BytesIO())
        response = self._synchronous.get_response(request) if request is not None else problem
        assert response is not None
        response.close()  # ends the request, and with it the connection to the database
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        if not (isinstance(response, EventStream) and isinstance(send, _HeldSend)):
            await super().send_response(response, send)
            return
        headers = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.items()]
        headers += [(b"Set-Cookie", one.output(header="").encode("ascii").strip()) for one in response.cookies.values()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        send.stream = response
