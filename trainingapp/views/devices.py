"""The hosts and their devices: current, past and next runs."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from trainingapp.accounts.permissions import Verb, can, is_administrator, sees
from trainingapp.accounts.users import AnyUser
from trainingapp.models import Device, DeviceHold, Host, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError
from trainingapp.scheduling.quarantine import quarantine, release
from trainingapp.scheduling.scheduler import named_to, next_by_device
from trainingapp.views.access import require
from trainingapp.views.device_timeline import HOURS, timeline


@require_safe
def device_list(request: HttpRequest) -> HttpResponse:
    """Every host with its devices, and those that have left; htmx gets the list alone."""
    known = list(Host.objects.prefetch_related("devices__job"))
    hosts = list(_hosts([host for host in known if not host.has_left], request.user, timezone.now()))
    left = sorted((host for host in known if host.has_left), key=_last_seen, reverse=True)
    alone = request.headers.get("HX-Target") == "devices"
    controls = can(request.user, Verb.ADMINISTER)
    context = {"section": "queue", "hosts": hosts, "left": left, "hours": HOURS, "controls": controls}
    return render(request, "devices/_hosts.html" if alone else "devices/list.html", context)


@require_POST
def device_quarantine(request: HttpRequest, pk: int) -> HttpResponse:
    """Give a GPU no more runs."""
    require(request, Verb.ADMINISTER)
    device = get_object_or_404(Device.objects.select_related("host"), pk=pk)
    try:
        quarantine(device, request.POST.get("reason", ""), by=request.user)
    except VerbError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(device)s gets no more runs.") % {"device": device})
    return redirect("device_list")


@require_POST
def device_release(request: HttpRequest, pk: int) -> HttpResponse:
    """End the quarantine of a GPU, and have it checked."""
    require(request, Verb.ADMINISTER)
    device = get_object_or_404(Device.objects.select_related("host"), pk=pk)
    try:
        release(device, by=request.user)
    except VerbError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(device)s is being checked and then gets runs again.") % {"device": device})
    return redirect("device_list")


def _last_seen(host: Host) -> datetime:
    assert host.seen_at is not None, "a host that has left has reported"
    return host.seen_at


def _hosts(hosts: list[Host], user: AnyUser, now: datetime) -> Iterator[dict[str, object]]:
    holds, waiting, named = _holds_by_device(user, now), next_by_device(), named_to(user)
    for host in sorted(hosts, key=lambda host: (host.is_away, host.name)):
        shown = (device for device in host.devices.all() if device.is_present or holds[device.pk] or device.was_usable)
        yield {
            "host": host,
            "heading_id": f"host-{host.pk}",
            "devices": [
                _device(host, device, holds[device.pk], now)
                | {"next": run, "next_is_seen": run is not None and run.pk in named}
                for device in shown
                for run in [waiting.get(device.pk)]
            ],
        }


def _holds_by_device(user: AnyUser, now: datetime) -> dict[int, list[DeviceHold]]:
    """Each hold states whether its run may be named, and the `others` that train the run together with its device. The
    owner of a deleted run is no longer known."""
    found: dict[int, list[DeviceHold]] = defaultdict(list)
    recent = Q(released_at=None) | Q(released_at__gt=now - timedelta(hours=HOURS))
    of_deleted = is_administrator(user)
    holds = DeviceHold.objects.filter(recent).annotate(is_seen=sees(user, TrainingRun, "run_id"))
    together: dict[tuple[int | None, int], list[DeviceHold]] = defaultdict(list)
    for hold in holds.select_related("run", "device__host").order_by("taken_at", "pk"):
        hold.is_seen = hold.is_seen if hold.run_id else of_deleted
        found[hold.device_id].append(hold)
        together[hold.run_id, hold.attempt].append(hold)
    for of_attempt in together.values():
        for one in of_attempt if of_attempt[0].run_id else ():
            others = ", ".join(other.device.named_beside(one.device) for other in of_attempt if other is not one)
            one.others = others  # type: ignore[attr-defined]
    return found


def _device(host: Host, device: Device, holds: list[DeviceHold], now: datetime) -> dict[str, object]:
    running = [hold for hold in holds if hold.released_at is None and hold.run and hold.run.status == Status.RUNNING]
    used = device.memory_bytes - device.memory_free_bytes
    return {
        "device": device,
        "job": device.working_job,
        "holds": sorted(running, key=lambda hold: hold.taken_at),
        "slots": host.slots if device.kind == Device.Kind.CPU else 1,
        "taken": sum(hold.slots for hold in running),
        "memory_used": used,
        "memory_share": used / device.memory_bytes if device.memory_bytes else 0.0,
        "timeline": timeline(holds, now),
    }
