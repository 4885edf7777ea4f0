"""manage.py devices: the hosts of workers, their devices, the runs on them, and the quarantine of GPUs."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator

from django.core.management import CommandError
from django.template.defaultfilters import filesizeformat

from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.models import Device, DeviceHold, Host
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import text_of
from trainingapp.scheduling.placement import open_holds
from trainingapp.scheduling.quarantine import quarantine, release


class Command(StudioCommand):
    help = "Show every host with its devices and the runs on them; put a GPU in quarantine, or release it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print a JSON array of hosts.")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        isolate = actions.add_parser("quarantine", help="Give a GPU no more runs; those that are on it continue.")
        isolate.add_argument("--reason", default="", help="Shown with the device.")
        actions.add_parser("release", help="End the quarantine of a GPU, and have it checked.")
        for action in actions.choices.values():
            action.add_argument("device", help="Id, UUID, or HOST:cuda:N.")

    def handle(self, *, action: str | None = None, **options: object) -> None:
        parsed: Options = options
        try:
            if action == "quarantine":
                quarantine(_device(parsed["device"]), parsed["reason"])
            elif action == "release":
                release(_device(parsed["device"]))
        except VerbError as error:
            raise CommandError(str(error)) from None
        self._show(as_json=bool(options["json"]))

    def _show(self, *, as_json: bool) -> None:
        hosts = list(Host.objects.prefetch_related("devices__job"))
        holds = list(open_holds())
        if as_json:
            self.stdout.write(json.dumps([_record(host, holds) for host in hosts]))
            return
        if not hosts:
            self.stdout.write("No host has reported yet. A worker does so shortly after it starts.")
            return
        heading = ("DEVICE", "HOST", "STATE", "NAME", "FREE MEMORY", "LOAD", "RUNS", "OTHER PROGRAMS")
        rows = [_row(host, device, holds) for host in hosts for device in host.devices.all()]
        self.stdout.write("\n".join(table_lines(heading, rows)))
        for host in hosts:
            for name, explanation in _explanations(host):
                self.stdout.write(f"{name}: {explanation}")


def _device(name: str) -> Device:
    """The device by its id, its UUID, or its host and its name there."""
    found = Device.objects.select_related("host")
    host, _colon, index = name.rpartition(":cuda:")
    if name.isdecimal():
        found = found.filter(pk=name)
    elif host and index.isdecimal():
        found = found.filter(host__name=host, kind=Device.Kind.GPU, index=index)
    else:
        found = found.filter(uuid=name).exclude(uuid="")
    device = found.order_by("-is_present").first()
    if device is None:
        raise CommandError(f"There is no device {name}. “manage.py devices --json” lists them.")
    return device


def _state(host: Host, device: Device) -> str:
    if host.is_away and not host.has_left:
        return "away"
    if not host.takes_work:
        return host.state
    if not device.is_present:
        return "gone"
    return "quarantine" if device.quarantined_at else device.problem or "present"


def _explanations(host: Host) -> Iterator[tuple[str, str]]:
    """Why GPUs cannot be used, and what to do about it; nothing is to be done where no worker is expected."""
    if host.has_left:
        return
    if host.gpu_problem:
        yield host.name, text_of(host.gpu_problem)
    for device in host.devices.all():
        if device.is_present and not device.is_usable:
            yield str(device), text_of(device.explanation_data)


def _row(host: Host, device: Device, holds: list[DeviceHold]) -> tuple[str, ...]:
    state = _state(host, device)
    free, total = filesizeformat(device.memory_free_bytes), filesizeformat(device.memory_bytes)
    memory = f"{free} of {total}".replace("\xa0", " ") if device.memory_bytes else ""
    load = "" if device.load is None else f"{device.load:.0%}"
    runs = ", ".join(
        [
            *(f"{hold.run_id} {hold.run_name}" for hold in holds if hold.device_id == device.pk),
            *([f"job: {device.working_job.kind}"] if device.working_job else []),
        ]
    )
    foreign = ", ".join(f"{process['pid']} {process['name']}" for process in device.foreign)
    return (device.torch_name, host.name, state, device.name, memory, load, runs, foreign)


def _record(host: Host, holds: list[DeviceHold]) -> dict[str, object]:
    names = ("name", "worker", "slots", "cpu_cores", "memory_bytes", "memory_free_bytes", "disk_free_bytes", "load")
    about = ("id", "kind", "index", "name", "uuid", "memory_bytes", "memory_free_bytes", "load", "temperature_c")
    states = ("is_present", "is_shareable", "is_exclusive", "problem")
    return {
        **{name: getattr(host, name) for name in names},
        "versions": host.versions,
        "address": host.address,
        "gpu_problem": text_of(host.gpu_problem),
        "is_away": host.is_away,
        "state": host.state,
        "seen_at": host.seen_at.isoformat() if host.seen_at else None,
        "devices": [
            {
                "device": device.torch_name,
                **{name: getattr(device, name) for name in (*about, "foreign", *states)},
                "quarantined_at": device.quarantined_at.isoformat() if device.quarantined_at else None,
                "explanation": text_of(device.explanation_data),
                "job": str(device.working_job.pk) if device.working_job else None,
                "holds": [
                    {
                        "run": hold.run_id,
                        "name": hold.run_name,
                        "slots": hold.slots,
                        "taken_at": hold.taken_at.isoformat(),
                    }
                    for hold in holds
                    if hold.device_id == device.pk
                ],
            }
            for device in host.devices.all()
        ],
    }
