"""How much work the kill of a trainer cost, and when checkpoints were on the disk, by the events of a run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trainingapp.contract.events import (
    AnyEvent,
    CheckpointSaved,
    Ended,
    Failed,
    Metrics,
    Progress,
    Started,
    read_events,
)
from trainingapp.contract.storage.durable import DURABLE_WITHIN_S


@dataclass(frozen=True)
class Loss:
    """What the kill of a trainer cost: steps that are repeated, and how many of them at most were promised."""

    steps: int
    promised: int


@dataclass
class _Attempt:
    number: int
    start_step: int
    step: int = 0
    time: float = 0.0
    has_ended: bool = False
    #: Time and step of each save that the loop began.
    saves: list[tuple[float, int]] = field(default_factory=list)

    def loss(self, resumed_at: int) -> Loss:
        """The loss of a kill at the last event. Promised are saves that began DURABLE_WITHIN_S earlier."""
        kept = [step for time, step in self.saves if time <= self.time - DURABLE_WITHIN_S]
        return Loss(self.step - resumed_at, self.step - max([self.start_step, *kept]))


def losses(events: Iterable[AnyEvent]) -> list[Loss]:
    """The loss of each attempt that was killed after its start and followed by another one."""
    found: list[Loss] = []
    attempt: _Attempt | None = None
    for event in events:
        if isinstance(event, Started):
            step = event.step or 0
            if attempt is not None and not attempt.has_ended:
                found.append(attempt.loss(step))
            attempt = _Attempt(event.attempt or 0, step, step, event.time)
        elif attempt is not None and event.attempt == attempt.number:
            _follow(attempt, event)
    return found


def _follow(attempt: _Attempt, event: AnyEvent) -> None:
    match event:
        case Progress():
            attempt.step, attempt.time = event.step or 0, event.time
            if event.phase == "save":
                attempt.saves.append((event.time, attempt.step))
        case Metrics(split="train"):
            attempt.step, attempt.time = event.step or 0, event.time
        case Ended() | Failed():
            attempt.has_ended = True


def durable_seconds(events: Iterable[AnyEvent]) -> list[float]:
    """For each checkpoint, the seconds from the moment at which the loop began the save until it was on the disk."""
    found: list[float] = []
    began: dict[tuple[int | None, int | None], float] = {}
    for event in events:
        place = (event.attempt, event.step)
        if isinstance(event, Progress) and event.phase == "save":
            began.setdefault(place, event.time)
        elif isinstance(event, CheckpointSaved) and place in began:
            found.append(event.time - began.pop(place))
    return found


class EpochEnds:
    """Tells when a run has validated another epoch: its checkpoint is being saved then."""

    def __init__(self, events_file: Path) -> None:
        self._file = events_file
        self._offset = events_file.stat().st_size if events_file.exists() else 0

    def has_come(self) -> bool:
        """Whether an epoch has ended since the last call."""
        found = False
        for event, offset in read_events(self._file, self._offset):
            self._offset = offset
            found = found or (isinstance(event, Metrics) and event.split == "val" and not event.extra)
        return found
