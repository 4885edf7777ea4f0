"""The stream of a browser: one connection for all of its tabs, which carries the topics that they show."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from cvstudio.event_streams import RETRY_AFTER_S, STREAMS, EventStream
from trainingapp.accounts.credentials import Credential
from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.models import TrainingRun
from trainingapp.runs.live import RunReader
from trainingapp.runs.live_bell import BellReader
from trainingapp.runs.live_lists import ListReader, QueueReader
from trainingapp.runs.run_page import further_rights
from trainingapp.runs.stream_clients import CONNECTED, Audience, Client, Message
from trainingapp.runs.stream_readers import Wanted, follow

#: Topics of one stream. A browser with more tabs in view is told to wait for some of them.
MOST_TOPICS = 100
_LISTS: dict[str, type[ListReader]] = {"runs": ListReader, "queue": QueueReader}
#: The topic of the reader's own notifications.
_BELL = "bell"


@dataclass(frozen=True)
class Asked:
    """A topic of the address, and what the client has of it: the number of an event or a time in milliseconds."""

    name: str
    after: int

    @property
    def run_id(self) -> int | None:
        return int(self.name[4:]) if self.name.startswith("run.") else None


@require_safe
def event_stream(request: HttpRequest) -> HttpResponseBase:
    """The topics of ?topics=, such as run.12:340,runs: what is above their numbers, then what comes.

    A run that the user may not see, or that does not exist, is told as gone. With ?poll=1 the response ends with what
    there is now, for browsers without a stream.
    """
    asked = _asked(request.GET.get("topics", ""))
    if asked is None:
        return HttpResponseBadRequest("topics must be names of topics with numbers, such as run.12:340,runs")
    once = "poll" in request.GET
    if not once and STREAMS.is_full:
        return HttpResponse(status=503, headers={"Retry-After": str(RETRY_AFTER_S)})
    wanted, gone = _wanted(request.user, asked, get_language() or "en")
    client = Client(Credential(session=request.session.session_key or ""))
    return EventStream(_encoded(client, wanted, gone, once=once), direct=client)


def _asked(text: str) -> list[Asked] | None:
    """The topics of the address; None where it is malformed."""
    found: dict[str, Asked] = {}
    for part in text.split(","):
        name, _colon, after = part.partition(":")
        number = name.removeprefix("run.") if name.startswith("run.") else "0"
        if not all(value.isascii() and value.isdecimal() and len(value) < 19 for value in (number, after or "0")):
            return None
        if name not in _LISTS and name != _BELL and not name.startswith("run."):
            return None
        found[name] = Asked(name, int(after or 0))
    return list(found.values()) if 0 < len(found) <= MOST_TOPICS else None


def _wanted(user: AnyUser, asked: list[Asked], language: str) -> tuple[list[Wanted], list[str]]:
    """The topics with their readers, and the names of those that the user may not see or that do not exist."""
    ids = {one.run_id for one in asked if one.run_id is not None}
    runs = visible_to(user, TrainingRun.objects.filter(pk__in=ids)).in_bulk() if ids else {}
    wanted: list[Wanted] = []
    gone: list[str] = []
    for one in asked:
        if one.name == _BELL:
            wanted.append(Wanted(BellReader, user.pk or 0, Audience(language, reader=user.pk), one.after))
        elif one.run_id is None:
            wanted.append(Wanted(_LISTS[one.name], one.name, Audience(language, reader=user.pk), one.after))
        elif run := runs.get(one.run_id):
            audience = Audience(language, can(user, Verb.CONTROL, run), further_rights(user, run), user.pk)
            wanted.append(Wanted(RunReader, run.pk, audience, min(one.after, run.event_seq)))
        else:
            gone.append(one.name)
    return wanted, gone


async def _encoded(client: Client, wanted: list[Wanted], gone: list[str], *, once: bool) -> AsyncGenerator[bytes, None]:
    yield CONNECTED.data
    for name in gone:
        yield Message("gone", "").encode(name)
    if wanted:
        async with aclosing(follow(client, wanted, once=once)) as news:
            async for batches in news:
                yield b"".join(batch.data for batch in batches)
