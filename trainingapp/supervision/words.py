"""What a trainer says of itself and of its orders, beside progress and metrics, brought to the run's row."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import append_events

#: The columns that this module writes.
WORD_FIELDS = ["requests", "config", "resume_check", "environment"]


def note_start(row: TrainingRun, started: dict[str, Any]) -> None:
    """A new attempt: what it is made with, and nothing shown yet of how it goes on."""
    row.environment = started.get("environment", {})
    row.resume_check = {}


def note_word(row: TrainingRun, event: dict[str, Any]) -> None:
    """An order that was done, or what a step made again has shown."""
    match event.get("state"):
        case "request_done":
            row.requests = [order for order in row.requests if order["id"] != event["id"]]
            if "epochs" in event and not _is_ordered(row, "epochs"):
                row.config = {**row.config, "epochs": event["epochs"]}  # the trainer may have been further than we knew
        case "resume_check":
            names = ("verdict", "difference", "reason", "attempt", "step")
            row.resume_check = {name: event.get(name) for name in names}


def dropped_orders(row: TrainingRun) -> dict[str, Any]:
    """The change that takes away what a trainer that has ended can't do any more; the log names it.

    A number of epochs is none of it: it is in the configuration. The caller holds the lock and saves `event_seq`.
    """
    lost = [order["command"] for order in row.requests if order["command"] != "epochs"]
    message = _("The order “%(command)s” was not carried out: the trainer had ended.")
    events = [
        RunEvent(
            type=RunEvent.Type.LOG,
            level="warning",
            time=timezone.now(),
            data={"message": message % {"command": command}},
            epoch=row.epoch,
            step=row.step,
        )
        for command in lost
    ]
    if events:
        append_events(row, events)
        row.save(update_fields=["event_seq"])
    return {"requests": []}


def _is_ordered(row: TrainingRun, command: str) -> bool:
    return any(order["command"] == command for order in row.requests)
