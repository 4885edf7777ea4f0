"""Open streams: what waits to be sent to each, and who may read on.

A client is one connection: the stream of a browser, which carries several topics, or one of the API. Readers
(`stream_readers`) put the same encoded bytes into the queues of all clients that get the same. One task checks
sessions, tokens and permissions of all clients, each person once, and keeps the connections alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import ParamSpec, Protocol, TypeVar

import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import DatabaseError, close_old_connections

from trainingapp.accounts.credentials import Credential, users_of
from trainingapp.accounts.permissions import visible_to
from trainingapp.models import TrainingRun

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two heartbeats of a stream; before each, it is checked who may read on.
HEARTBEAT_S = 10.0
#: Batches and bytes that may wait for a client. One that is further behind is disconnected.
QUEUE_SIZE = 256
QUEUE_BYTES = 4_000_000
#: Clients whose permissions are checked at a time.
CHECKED_AT_ONCE = 200
#: Clients that are sent something in one turn of the event loop.
SENT_AT_ONCE = 250

#: A few threads serve all streams of the process.
_THREADS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live")


@dataclass(frozen=True, slots=True)
class Message:
    """One Server-Sent Event. `id` is its number in its topic, by which a client continues; None without one."""

    event: str
    data: str
    id: int | None = None

    def encode(self, topic: str = "") -> bytes:
        lines = [f"topic: {topic}"] if topic else []
        lines += [f"id: {self.id}"] if self.id is not None else []
        lines.append(f"event: {self.event}")
        lines += [f"data: {line}" for line in self.data.splitlines() or [""]]
        return ("\n".join(lines) + "\n\n").encode()


@dataclass(frozen=True)
class Batch:
    """Messages of one topic, encoded once for all clients that get them."""

    messages: tuple[Message, ...]
    topic: str = ""

    @cached_property
    def data(self) -> bytes:
        return b"".join(message.encode(self.topic) for message in self.messages)


class Comment(Batch):
    """A comment: it keeps a connection open."""

    def __init__(self, text: str) -> None:
        super().__init__(())
        self.__dict__["data"] = f": {text}\n\n".encode()


CONNECTED = Comment("connected")
BEAT = Comment("alive")


@dataclass(frozen=True, slots=True)
class Audience:
    """Clients that get the same rendering."""

    language: str
    controls: bool = False
    may: frozenset[str] = frozenset()
    #: Id of the user, where what is shown differs between users: which other runs may be named.
    reader: int | None = None


class Topic(Protocol):
    """What a client knows of the reader of a topic."""

    @property
    def topic(self) -> str: ...

    @property
    def run_id(self) -> int | None: ...

    def leave(self, seat: Seat) -> None: ...


@dataclass(eq=False)
class Seat:
    """A client's place with the reader of a topic. `is_listening` once the client has reached the reader's position."""

    reader: Topic
    client: Client
    audience: Audience
    is_listening: bool = False


@dataclass(eq=False)
class Client:
    """One open stream.

    `credential` is what it was opened with; without one it is never checked. `farewell` is its last message when that
    is no longer valid. A client of a single topic (`is_single`) ends with the permission to see it.
    """

    credential: Credential | None = None
    farewell: Message = field(default_factory=lambda: Message("logged-out", ""))
    is_single: bool = False
    seats: set[Seat] = field(default_factory=set)
    is_closed: bool = False
    #: Takes encoded batches at once, or refuses; None for a client whose batches are looked at before they are sent.
    sink: Callable[[bytes], bool] | None = None
    _queue: deque[Batch] = field(default_factory=deque)
    _bytes: int = 0
    _wake: asyncio.Future[None] | None = None

    def offer(self, batch: Batch) -> None:
        """Queue the batch. A client that is too far behind is closed; it reconnects and continues where it was."""
        if self.is_closed or not batch.data:
            return
        self._queue.append(batch)
        self._bytes += len(batch.data)
        if len(self._queue) > QUEUE_SIZE or self._bytes > QUEUE_BYTES:
            self._queue.clear()
            self.finish()
        CLIENTS.flush_soon(self)

    def finish(self) -> None:
        """End the stream after what is queued."""
        self.is_closed = True
        CLIENTS.flush_soon(self)

    def dismiss(self) -> None:
        """End the stream with its farewell."""
        self.offer(Batch((self.farewell,)))
        self.finish()

    def lose(self, seat: Seat) -> None:
        """End one topic, which the client may no longer see."""
        if self.is_single:
            self.dismiss()
        else:
            self.gone(seat)

    def gone(self, seat: Seat) -> None:
        """End one topic, which no longer exists."""
        self.offer(Batch((Message("gone", ""),), seat.reader.topic))
        seat.reader.leave(seat)
        if not self.seats:
            self.finish()

    def queued(self) -> list[Batch]:
        """Take what waits, without waiting."""
        taken = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        return taken

    async def take(self) -> list[Batch]:
        """Wait for the next batches; an empty list when the client is closed."""
        while not self._queue and not self.is_closed:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        return self.queued()

    def flush(self) -> None:
        """Send what is queued, directly if the connection takes it. While `take` does not wait, that takes it."""
        if self._wake is None or self._wake.done():
            return
        if self.is_closed or self.sink is None or not self._queue:
            self._wake.set_result(None)
        elif self.sink(b"".join(batch.data for batch in self._queue)):
            self.queued()
        else:
            self._wake.set_result(None)


class Clients:
    """All open clients of this process, and the task that checks them."""

    def __init__(self) -> None:
        self.open: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._unsent: set[Client] = set()
        self._flushing: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Seconds that it took to hand the latest batches to the connections of all clients.
        self.flush_s = 0.0
        self._flushed_s = 0.0

    def add(self, client: Client) -> None:
        self.open.add(client)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._check(), context=contextvars.Context())

    def remove(self, client: Client) -> None:
        for seat in list(client.seats):
            seat.reader.leave(seat)
        self.open.discard(client)
        if not self.open and self._task is not None:
            self._task.cancel()
            self._task = None

    def flush_soon(self, client: Client) -> None:
        """Send what the client has queued together with what others get in this turn of the event loop."""
        self._unsent.add(client)
        loop = asyncio.get_running_loop()
        if self._flushing is None or self._loop is not loop:
            self._loop, self._flushing = loop, loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send to some of the clients, and to the next ones after whatever else is due: pages wait for no crowd."""
        start, self._flushing = time.monotonic(), None
        try:
            for _number in range(min(len(self._unsent), SENT_AT_ONCE)):
                self._unsent.pop().flush()
        finally:  # the error of one keeps nothing from the others
            self._flushed_s += time.monotonic() - start
            if self._unsent:
                self._flushing = asyncio.get_running_loop().call_soon(self._flush)
            else:
                self.flush_s, self._flushed_s = self._flushed_s, 0.0

    async def _check(self) -> None:
        """Check each client once in HEARTBEAT_S. Thousands are spread over that time: nothing waits for all of them."""
        waiting: list[Client] = []
        while True:
            await asyncio.sleep(HEARTBEAT_S / max(1, math.ceil(len(self.open) / CHECKED_AT_ONCE)))
            waiting = waiting or list(self.open)
            now, waiting = waiting[:CHECKED_AT_ONCE], waiting[CHECKED_AT_ONCE:]
            try:
                await _checked([client for client in now if client in self.open])
            except DatabaseError as error:
                log.warning("the permissions of streams could not be checked", error=str(error))


async def _checked(clients: list[Client]) -> None:
    """End what may no longer be read; a heartbeat to the others."""
    checked = [client for client in clients if client.credential is not None]
    wanted: dict[Credential, set[int]] = defaultdict(set)
    for client in checked:
        assert client.credential is not None
        wanted[client.credential] |= {seat.reader.run_id for seat in client.seats if seat.reader.run_id is not None}
    seen = await in_thread(_seen, wanted) if wanted else {}
    for client in checked:
        assert client.credential is not None
        if (runs := seen.get(client.credential)) is None:
            client.dismiss()
            continue
        for seat in list(client.seats):
            if seat.reader.run_id is not None and seat.reader.run_id not in runs:
                client.lose(seat)
    for client in clients:
        client.offer(BEAT)


def _seen(wanted: dict[Credential, set[int]]) -> dict[Credential, set[int]]:
    """Which of the runs each credential may see; credentials that are no longer valid are left out."""
    users = users_of(wanted)
    of_user: dict[User, set[int]] = defaultdict(set)
    for credential, user in users.items():
        of_user[user] |= wanted[credential]
    seen = {user: visible_runs(user, runs) for user, runs in of_user.items()}
    return {credential: seen[user] & wanted[credential] for credential, user in users.items()}


def visible_runs(user: User, runs: Iterable[int]) -> set[int]:
    """Those of the runs, given by id, that exist and that the user may see."""
    ids = list(runs)
    return set(visible_to(user, TrainingRun.objects.filter(pk__in=ids)).values_list("pk", flat=True)) if ids else set()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the database in a thread, which keeps no connection open afterwards."""
    return await in_thread_of(_THREADS, function, *args, **kwargs)


async def in_thread_of(threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in one of these threads."""

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(call, thread_sensitive=False, executor=threads)()


CLIENTS = Clients()


def end_streams() -> None:
    """End every stream of this process, for a server that shuts down."""
    for client in list(CLIENTS.open):
        client.finish()
