"""Topics of streams: one reader per topic and process, and one clock that reads the database for all of them.

A topic is a run, the list of runs or the queue. Ten times a second (or when the bell rings) the clock asks the database
whether anything was committed, and if so reads what is new of all topics in one thread. Each reader then renders that
once for each audience and gives it to its clients. The bell carries no data, and nothing is stored here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError, connection
from redis.exceptions import RedisError

from trainingapp.models.bell import RUNS_GROUP
from trainingapp.runs.stream_clients import CLIENTS, Audience, Batch, Client, Seat

log = structlog.get_logger(__name__)
Found = TypeVar("Found")
P = ParamSpec("P")
T = TypeVar("T")
Key = int | str

#: Seconds between two polls of the database; with a bell, polling only covers lost rings.
POLL_S = 0.1
POLL_WITH_BELL_S = 2.0
#: The least time between two polls: many rings are answered by one of them.
LEAST_S = 0.05
#: Seconds after which the topics are read although nothing was committed: a silent run changes by time alone.
IDLE_S = 1.0


class Reader(Generic[Found]):
    """Feeds all clients of one topic. Lives as long as it has a client; the next one starts a new reader."""

    readers: ClassVar[dict[tuple[type[Reader[Any]], Key], Reader[Any]]] = {}
    #: Seconds between two readings of this topic.
    poll_s: ClassVar[float] = 0.0

    def __init__(self, key: Key) -> None:
        self.key = key
        self.seats: set[Seat] = set()
        #: What the clients have: the number of the newest message. Negative before the first reading.
        self.position = -1
        self._moved = asyncio.Event()
        self._news: asyncio.Task[None] | None = None
        #: When it was last read, and how many commits the clock had noticed by then.
        self.read_at = -IDLE_S
        self.changes = -1

    @property
    def topic(self) -> str:
        """The name of the topic in the messages of a browser's stream."""
        raise NotImplementedError

    @property
    def run_id(self) -> int | None:
        """The run that a client must be allowed to see."""
        return None

    @classmethod
    def read(cls, wanted: Mapping[Key, int]) -> Mapping[Key, Found]:
        """Read topics, given with their positions. Called in the thread of the clock, without a context."""
        raise NotImplementedError

    async def take(self, found: Found) -> None:
        """Send what is new to the seats that are listening. A topic that is gone calls `end`."""
        raise NotImplementedError

    def backlog(self, seat: Seat, after: int) -> AsyncIterator[list[Batch]]:
        """Bring a client to the position of the reader; sets `is_listening` when it has got there."""
        raise NotImplementedError

    @classmethod
    def join(cls, key: Key, client: Client, audience: Audience) -> tuple[Reader[Any], Seat]:
        """The topic's reader, which the first client starts, and the client's place with it. `leave` gives it up."""
        reader = Reader.readers.get((cls, key))
        if reader is None:
            reader = Reader.readers[cls, key] = cls(key)
        seat = Seat(reader, client, audience)
        reader.seats.add(seat)
        client.seats.add(seat)
        CLOCK.ring()
        return reader, seat

    def leave(self, seat: Seat) -> None:
        self.seats.discard(seat)
        seat.client.seats.discard(seat)
        if not self.seats:
            self.end()

    def end(self) -> None:
        """Stop reading. Clients that are left reconnect and start a new reader."""
        if self.is_open:
            del Reader.readers[type(self), self.key]
        for seat in self.seats:
            seat.client.finish()
        self._moved.set()
        for task in self.tasks():
            if task is not asyncio.current_task():
                task.cancel()
        CLOCK.ring()

    def tasks(self) -> list[asyncio.Task[None]]:
        return [] if self._news is None else [self._news]

    async def reached(self, client: Client, position: int) -> None:
        """Return when the reader has reached `position`, or the client is closed."""
        while self.position < max(position, 0) and not client.is_closed:
            self._moved.clear()
            await self._moved.wait()

    @property
    def is_open(self) -> bool:
        return Reader.readers.get((type(self), self.key)) is self

    def is_due(self, now: float) -> bool:
        """Whether the clock may read the topic: not while what it found before is still being sent."""
        return (self._news is None or self._news.done()) and now >= self.read_at + self.poll_s

    def receive(self, found: Found, now: float, changes: int) -> None:
        """Send what the clock found. `changes` is the number of commits that it had noticed before."""
        self.read_at, self.changes = now, changes
        self._news = asyncio.create_task(self._taken(found))

    async def _taken(self, found: Found) -> None:
        try:
            await self.take(found)
        except DatabaseError as error:
            log.warning("a stream could not read the database", topic=self.key, error=str(error))
            self.changes = -1  # the position has not moved: the same is read again
            await asyncio.sleep(1)
        except BaseException:
            self.end()
            raise
        self._moved.set()


class Clock:
    """Reads the database for all readers, in one thread with one connection, as long as there is a reader."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._rung = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clock")
        #: Counts the commits of others that were noticed; SQLite's own count of them.
        self._changes = 0
        self._version: object = None

    def ring(self) -> None:
        """Read at once, or end when the last reader has gone."""
        if Reader.readers and (self._task is None or self._task.done() or self._task.get_loop().is_closed()):
            self._rung = asyncio.Event()
            # Not in the context of the request that happens to be first.
            self._task = asyncio.create_task(self._run(self._rung), context=contextvars.Context())
        self._rung.set()

    async def _run(self, rung: asyncio.Event) -> None:
        bell = asyncio.create_task(self._listen(rung)) if get_channel_layer() is not None else None
        try:
            while Reader.readers:
                is_forced = rung.is_set()
                rung.clear()
                await self._look(is_forced)
                await asyncio.sleep(max(LEAST_S, CLIENTS.flush_s))  # half of the time at least is for the others
                has_bell = bell is not None and not bell.done()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), (POLL_WITH_BELL_S if has_bell else POLL_S) - LEAST_S)
        finally:
            if self._task is asyncio.current_task():  # a reader that comes from now on starts another one
                self._task = None
            if bell is not None:
                bell.cancel()
            await self._in_thread(_close_connection)

    async def _look(self, is_forced: bool) -> None:
        """Read the topics that are due and hand over what was found."""
        now = time.monotonic()
        due = [reader for reader in Reader.readers.values() if reader.is_due(now)]
        stale = {reader for reader in due if is_forced or now >= reader.read_at + IDLE_S}
        if not due:
            return
        try:
            found, changes = await self._in_thread(self._read, due, stale)
        except DatabaseError as error:
            log.warning("streams could not read the database", error=str(error))
            await self._in_thread(_close_connection)
            await asyncio.sleep(1)
            return
        for reader, content in found.items():
            if reader.is_open:
                reader.receive(content, now, changes)

    def _read(self, due: list[Reader[Any]], stale: set[Reader[Any]]) -> tuple[dict[Reader[Any], Any], int]:
        if self._is_changed():
            self._changes += 1
        kinds: dict[type[Reader[Any]], dict[Key, Reader[Any]]] = {}
        for reader in due:
            if reader in stale or reader.changes != self._changes:
                kinds.setdefault(type(reader), {})[reader.key] = reader
        found: dict[Reader[Any], Any] = {}
        for kind, readers in kinds.items():
            content = kind.read({key: reader.position for key, reader in readers.items()})
            found |= {readers[key]: one for key, one in content.items()}
        return found, self._changes

    def _is_changed(self) -> bool:
        """Whether another connection has committed anything. SQLite knows without reading a table."""
        if connection.vendor != "sqlite":
            return True
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()
        if version == self._version:
            return False
        self._version = version
        return True

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = sync_to_async(function, thread_sensitive=False, executor=self._thread)
        return await call(*args, **kwargs)

    @staticmethod
    async def _listen(rung: asyncio.Event) -> None:
        """Read when the bell rings. Where it is broken, polling by the clock continues."""
        layer = get_channel_layer()
        assert layer is not None
        try:
            channel = await layer.new_channel()
            await layer.group_add(RUNS_GROUP, channel)
            while True:
                await layer.receive(channel)
                rung.set()
        except (OSError, RedisError) as error:
            log.warning("the bell is not available", error=str(error))


def _close_connection() -> None:
    connection.close()  # the one of this thread


CLOCK = Clock()


@dataclass(frozen=True)
class Wanted:
    """A topic that a client asks for: its reader, its key, for whom it is rendered, and what the client has of it."""

    kind: type[Reader[Any]]
    key: Key
    audience: Audience
    after: int = 0


async def follow(client: Client, topics: Sequence[Wanted], *, once: bool = False) -> AsyncGenerator[list[Batch], None]:
    """Everything of the topics above what the client has, each message once and in order, then what comes.

    Ends when the client is closed: because it is too slow, it may not read on, its topics are gone, or a reader ends.
    With `once` it ends with what there is now.
    """
    CLIENTS.add(client)
    try:
        joined = [(*one.kind.join(one.key, client, one.audience), one.after) for one in topics]
        for reader, seat, after in joined:
            await reader.reached(client, after)
            async for batches in reader.backlog(seat, after):
                yield batches
        if once:
            yield client.queued()
            return
        while news := await client.take():
            yield news
    finally:
        CLIENTS.remove(client)
