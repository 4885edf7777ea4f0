"""The requests to a running trainer (`TrainingRun.requests`): confirmed by it, or dropped when it has ended."""

from django.utils import timezone

from trainingapp.contract.events import RequestDone, message_fields
from trainingapp.contract.messages.runs import REQUEST_DROPPED
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import append_events


def confirm_request(row: TrainingRun, event: RequestDone) -> None:
    """Remove a request that the trainer has carried out. The caller saves `requests` and `config`."""
    row.requests = [request for request in row.requests if request["id"] != event.id]
    if event.epochs is not None and not any(request["command"] == "epochs" for request in row.requests):
        # Where the trainer was already in a later epoch than requested, the number of that epoch is the total.
        row.config = {**row.config, "epochs": event.epochs}


def drop_requests(row: TrainingRun) -> dict[str, object]:
    """The change of the row that removes the requests to a trainer that has ended; the log names each.

    A number of epochs is not lost: it is in the configuration. The caller holds the lock and saves the change.
    """
    lost = [request["command"] for request in row.requests if request["command"] != "epochs"]
    if lost:
        fields = {"type": RunEvent.Type.LOG, "level": "warning", "time": timezone.now()}
        events = [
            RunEvent(data=message_fields(REQUEST_DROPPED(command=command)), epoch=row.epoch, step=row.step, **fields)
            for command in lost
        ]
        append_events(row, events)
        row.save(update_fields=["event_seq"])
    return {"requests": []}
