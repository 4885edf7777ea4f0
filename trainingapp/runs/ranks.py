"""The ranks of a run on several devices: the processes that train it together, one on each device."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext_lazy as _

from trainingapp.contract.messages import from_data, nested
from trainingapp.contract.messages.ranks import HOST_SILENT, RANK_LOST, SHARE_LOST
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
    #: The last heartbeat of the worker on the host of the rank; None where all ranks are on one host.
    heartbeat_at: datetime | None = None

    @property
    def memory_used(self) -> int:
        return self.device.memory_bytes - self.device.memory_free_bytes


def ranks_of(run: TrainingRun) -> list[Rank]:
    """The ranks of the newest attempt; none where it trains, or trained, on one device."""
    # A rank needs a batch of each optimizer step.
    devices = rank_devices(run.holds.filter(attempt=run.attempt))[: int(run.config.get("accumulation_steps", 1))]
    if len(devices) < 2:
        return []
    lost = set[object]() if run.is_running else _lost(run.error_message_data)
    heartbeats = _heartbeats(run) if len({device.host_id for device in devices}) > 1 else {}
    found = []
    for number, device in enumerate(devices):
        is_lost = bool({number, device.host.name} & lost)
        found.append(Rank(number, device, _state(run, is_lost), is_lost, heartbeats.get(device.host.name)))
    return found


def _heartbeats(run: TrainingRun) -> dict[str, datetime | None]:
    """By host; the worker of the first one supervises the run."""
    shares = run.shares.filter(attempt=run.attempt).values_list("host", "node_rank", "heartbeat_at")
    return {host: heartbeat_at if node_rank else run.heartbeat_at for host, node_rank, heartbeat_at in shares}


def _state(run: TrainingRun, is_lost: bool) -> Text:
    if is_lost:
        return _("lost")
    if not run.is_running:
        return _("ended")
    return _("starting") if run.phase == "starting" else _("running")


def _lost(data: object) -> set[object]:
    """The numbers of ranks and the names of hosts in messages about lost ones, which may be sentences of a longer
    message."""
    message = from_data(data)
    found = list(nested(message)) if message else []
    ranks = {int(str(one.params["rank"])) for one in found if one.code == RANK_LOST.code}
    return ranks | {str(one.params["host"]) for one in found if one.code in (SHARE_LOST.code, HOST_SILENT.code)}
