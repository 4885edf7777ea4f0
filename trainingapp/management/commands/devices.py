"""manage.py devices: the hosts of workers, their devices, and the runs on them."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator

from django.core.management.base import BaseCommand
from django.template.defaultfilters import filesizeformat

from trainingapp.management.base import table_lines
from trainingapp.models import Device, DeviceHold, Host
from trainingapp.presentation.messages import text_of
from trainingapp.scheduling.placement import open_holds


class Command(BaseCommand):
    help = "Show every host with its devices and the runs on them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print a JSON array of hosts.")

    def handle(self, *args: object, **options: object) -> None:
        hosts = list(Host.objects.prefetch_related("devices"))
        holds = list(open_holds())
        if options["json"]:
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


def _explanations(host: Host) -> Iterator[tuple[str, str]]:
    """Why GPUs cannot be used, and what to do about it."""
    if host.gpu_problem:
        yield host.name, text_of(host.gpu_problem)
    for device in host.devices.all():
        if device.is_present and device.problem:
            yield str(device), text_of(device.problem_data)


def _row(host: Host, device: Device, holds: list[DeviceHold]) -> tuple[str, ...]:
    state = "away" if host.is_away else (device.problem or "present") if device.is_present else "gone"
    free, total = filesizeformat(device.memory_free_bytes), filesizeformat(device.memory_bytes)
    memory = f"{free} of {total}".replace("\xa0", " ") if device.memory_bytes else ""
    load = "" if device.load is None else f"{device.load:.0%}"
    runs = ", ".join(f"{hold.run_id} {hold.run_name}" for hold in holds if hold.device_id == device.pk)
    foreign = ", ".join(f"{process['pid']} {process['name']}" for process in device.foreign)
    return (device.torch_name, host.name, state, device.name, memory, load, runs, foreign)


def _record(host: Host, holds: list[DeviceHold]) -> dict[str, object]:
    names = ("name", "worker", "slots", "cpu_cores", "memory_bytes", "memory_free_bytes", "disk_free_bytes", "load")
    about = ("id", "kind", "index", "name", "uuid", "memory_bytes", "memory_free_bytes", "load", "temperature_c")
    states = ("is_present", "is_shareable", "is_exclusive", "problem")
    return {
        **{name: getattr(host, name) for name in names},
        "versions": host.versions,
        "gpu_problem": text_of(host.gpu_problem),
        "is_away": host.is_away,
        "seen_at": host.seen_at.isoformat() if host.seen_at else None,
        "devices": [
            {
                "device": device.torch_name,
                **{name: getattr(device, name) for name in (*about, "foreign", *states)},
                "explanation": text_of(device.problem_data),
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
