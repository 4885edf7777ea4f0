"""The registry of events and of the channels by which users are told of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from django.utils.translation import gettext_lazy as _

from trainingapp.presentation.text import Text


class Channel(StrEnum):
    """How a user is told."""

    PAGE = "page"
    BROWSER = "browser"
    EMAIL = "email"
    WEBHOOK = "webhook"


CHANNEL_LABELS: dict[Channel, Text] = {
    Channel.PAGE: _("Studio pages"),
    Channel.BROWSER: _("Browser"),
    Channel.EMAIL: _("E-mail"),
    Channel.WEBHOOK: _("Webhooks"),
}

#: The names of the events, which are stored and part of the API.
EventName = Literal[
    "run_completed",
    "run_failed",
    "run_interrupted",
    "sweep_ended",
    "import_proposed",
    "import_ready",
    "import_refused",
    "disk_low",
    "device_quarantined",
]
#: Who is told: the owner; the owner and those who have starred the run and may see it; administrators.
Audience = Literal["owner", "followers", "administrators"]


@dataclass(frozen=True)
class Event:
    """One kind of occurrence. `name` is its key in `EVENTS`."""

    name: str
    label: Text
    icon: str
    level: Literal["success", "warning", "error", "info"]
    audience: Audience
    channels: frozenset[Channel]


_ALL = frozenset(Channel)
_QUIET = _ALL - {Channel.EMAIL}

RUN_COMPLETED = Event("run_completed", _("Run completed"), "bi-check-circle", "success", "followers", _QUIET)
RUN_FAILED = Event("run_failed", _("Run failed"), "bi-x-octagon", "error", "followers", _ALL)
RUN_INTERRUPTED = Event(
    "run_interrupted", _("Run interrupted"), "bi-exclamation-triangle", "warning", "followers", _ALL
)
SWEEP_ENDED = Event("sweep_ended", _("Sweep ended or paused"), "bi-sliders2", "info", "owner", _ALL)
IMPORT_PROPOSED = Event("import_proposed", _("Import to review"), "bi-images", "info", "owner", _QUIET)
IMPORT_READY = Event("import_ready", _("Dataset imported"), "bi-images", "success", "owner", _QUIET)
IMPORT_REFUSED = Event("import_refused", _("Import refused"), "bi-x-octagon", "error", "owner", _QUIET)
DISK_LOW = Event("disk_low", _("Disk almost full"), "bi-hdd", "warning", "administrators", _ALL)
DEVICE_QUARANTINED = Event(
    "device_quarantined", _("GPU in quarantine"), "bi-gpu-card", "warning", "administrators", _ALL
)

EVENTS: dict[EventName, Event] = {
    "run_completed": RUN_COMPLETED,
    "run_failed": RUN_FAILED,
    "run_interrupted": RUN_INTERRUPTED,
    "sweep_ended": SWEEP_ENDED,
    "import_proposed": IMPORT_PROPOSED,
    "import_ready": IMPORT_READY,
    "import_refused": IMPORT_REFUSED,
    "disk_low": DISK_LOW,
    "device_quarantined": DEVICE_QUARANTINED,
}
#: Sent on request only, to one webhook.
TEST = Event("test", _("Test"), "bi-send", "info", "owner", frozenset())
_KNOWN = {event.name: event for event in (*EVENTS.values(), TEST)}


def event_named(name: str) -> Event:
    """The event; one that this version does not know is shown by its stored name."""
    return _KNOWN.get(name) or Event(name, name.replace("_", " "), "bi-bell", "info", "owner", frozenset())


def events_for(*, is_administrator: bool) -> Iterable[Event]:
    """The events that a user may be told of."""
    return [event for event in EVENTS.values() if is_administrator or event.audience != "administrators"]
