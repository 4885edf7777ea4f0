"""The ranks of a run on several devices: the processes that train it together, one on each device."""

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from trainingapp.contract.messages import from_data, nested
from trainingapp.contract.messages.ranks import RANK_LOST
from trainingapp.models import Device, TrainingRun
from trainingapp.models.device import rank_devices
from trainingapp.presentation.text import Text


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
    # A rank needs a batch of each optimizer step.
    devices = rank_devices(run.holds.filter(attempt=run.attempt))[: int(run.config.get("accumulation_steps", 1))]
    if len(devices) < 2:
        return []
    lost = set() if run.is_running else _lost_ranks(run.error_message_data)
    return [Rank(number, device, _state(run, number in lost), number in lost) for number, device in enumerate(devices)]


def _state(run: TrainingRun, is_lost: bool) -> Text:
    if is_lost:
        return _("lost")
    if not run.is_running:
        return _("ended")
    return _("starting") if run.phase == "starting" else _("running")


def _lost_ranks(data: object) -> set[int]:
    """The numbers in messages about lost ranks, which may be sentences of a longer message."""
    message = from_data(data)
    found = nested(message) if message else ()
    return {int(str(one.params["rank"])) for one in found if one.code == RANK_LOST.code}
