"""Events for tests, by type and fields."""

from trainingapp.contract.events import EventLog, parse_event


def write(log: EventLog, type_: str, *, epoch: int | None = None, step: int | None = None, **data: object) -> None:
    """Append the event of this type; for status events `data` has the `state`."""
    log.write(parse_event({"type": type_, **data}), epoch=epoch, step=step)
