"""The ranks of a run on several devices: the processes that train it together, one on each device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from trainingapp.models import Device, TrainingRun
from trainingapp.presentation.text import Text

#: Code of the message that a rank has ended unexpectedly; its parameter is the number of the rank.
RANK_LOST = "rank_lost"


@dataclass(frozen=True)
class Rank:
    """One rank of the newest attempt; its device is measured now, whoever uses it."""

    number: int
    device: Device
    state: Text
    is_lost: bool

    @property
    def memory_used(self) -> int:
        return self.device.memory_bytes - self.device.memory_free_bytes


def ranks_of(run: TrainingRun) -> list[Rank]:
    """The ranks of the newest attempt; none where it trains, or trained, on one device."""
    held = run.holds.filter(attempt=run.attempt).select_related("device__host").order_by("device__index", "pk")
    devices = [hold.device for hold in held for _slot in range(hold.slots)]
    # A rank needs a batch of each optimizer step.
    devices = devices[: int(run.config.get("accumulation_steps", 1))]
    if len(devices) < 2:
        return []
    lost = set() if run.is_running else set(_lost_ranks(run.error_message_data))
    return [Rank(number, device, _state(run, number in lost), number in lost) for number, device in enumerate(devices)]


def _state(run: TrainingRun, is_lost: bool) -> Text:
    if is_lost:
        return _("lost")
    if not run.is_running:
        return _("ended")
    return _("starting") if run.phase == "starting" else _("running")


def _lost_ranks(data: object) -> Iterator[int]:
    """The numbers in messages about lost ranks, which may be sentences of a longer message."""
    if isinstance(data, Mapping):
        if data.get("code") == RANK_LOST:
            yield int(data["params"]["rank"])
        for value in data.values():
            yield from _lost_ranks(value)
    elif isinstance(data, list):
        for value in data:
            yield from _lost_ranks(value)
