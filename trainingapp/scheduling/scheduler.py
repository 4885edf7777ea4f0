"""Which queued run starts next, and why the others wait. The database is the queue."""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from trainingapp.accounts.permissions import visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.events import EVENTS_FILE
from trainingapp.contract.messages.runs import ATTEMPT_STARTS
from trainingapp.contract.storage.durable import is_writable
from trainingapp.models import DeviceHold, Host, Job, RunShare, TrainingRun
from trainingapp.models.run import Status, TransitionError, is_put_off
from trainingapp.presentation.messages import rendered
from trainingapp.scheduling.inventory import ensure_host
from trainingapp.scheduling.placement import (
    GB,
    JOB,
    Assignment,
    ClusterState,
    DeviceSlot,
    Linked,
    Machine,
    Obstacle,
    Request,
    Waiting,
    first_fitting,
    in_turn,
    queued_runs,
    read_cluster,
    read_queue,
)
from trainingapp.supervision.identity import runs_dir_id

#: Devices that a reason names individually.
NAMED = 3
#: Queued runs among which the next one for each device is searched.
NEXT_SEARCHED = 200


def claim_next(host: str, worker: str) -> TrainingRun | None:
    """Claim the first queued run that fits the free devices of this host; None when there is none.

    The choice is checked again under the locks: where another worker was faster, the next run is chosen.
    """
    ensure_host(host, worker)
    while True:
        chosen = first_fitting(_cluster_for(host), read_queue(), timezone.now(), host)
        if chosen is None:
            return None
        if run := _claim(*chosen, host, worker):
            return run


def has_run_for(host: str) -> bool:
    """Whether a worker of this host could claim a run now."""
    return first_fitting(_cluster_for(host), read_queue(), timezone.now(), host) is not None


def is_waiting() -> bool:
    """Whether any run is queued whose time has come."""
    now = timezone.now()
    return any(not is_put_off(not_before, now) for not_before in queued_runs().values_list("not_before", flat=True))


def _cluster_for(host: str) -> ClusterState:
    """The cluster for a worker of `host`: its own host counts as available, however old the last reading is."""
    cluster = read_cluster()
    for machine in cluster.machines:
        machine.is_away = machine.is_away and machine.name != host
    return cluster


def _claim(chosen: Waiting, assignment: Assignment, host: str, worker: str) -> TrainingRun | None:
    """Write status and holds in one transaction, all or none; None when something has changed since the choice.

    The locks are taken in the order hosts (by name), user, run: the first prevent two workers from assigning a device
    twice, the second prevents two hosts from exceeding a user's limit.
    """
    with transaction.atomic():
        list(Host.objects.select_for_update().filter(name__in=assignment.hosts).order_by("name"))
        cluster = _cluster_for(host)
        if cluster.most_per_user:
            get_user_model()._default_manager.select_for_update().get(pk=chosen.owner_id)
            cluster = _cluster_for(host)
        request = chosen.request
        still_fits = not cluster.is_over_limit(chosen.owner_id) and cluster.fits(request, assignment)
        run = TrainingRun.objects.filter(pk=chosen.pk).first() if still_fits else None
        if run is None or not _start(run, assignment, host, worker):
            return None
        held = [
            DeviceHold(
                device_id=device.device_id,
                run=run,
                run_name=run.name,
                attempt=run.attempt,
                slots=slots,
                memory_bytes=request.memory_bytes,
                is_shared=request.is_sharing and device.kind == "gpu",
                taken_at=run.heartbeat_at or timezone.now(),
            )
            for device, slots in assignment.parts
        ]
        DeviceHold.objects.bulk_create(held)
        if len(assignment.hosts) > 1:
            RunShare.objects.bulk_create(_shares(run, assignment.hosts))
    return run


def _shares(run: TrainingRun, hosts: list[str]) -> list[RunShare]:
    """The shares of an attempt that has just begun; the workers of the other hosts take theirs."""
    now = run.heartbeat_at or timezone.now()
    return [
        RunShare(
            run=run,
            attempt=run.attempt,
            node_rank=number,
            host=host,
            worker=run.worker if number == 0 else "",
            heartbeat_at=now,
        )
        for number, host in enumerate(hosts)
    ]


def _start(run: TrainingRun, assignment: Assignment, host: str, worker: str) -> bool:
    attempt = run.attempt + 1
    try:
        run.transition(
            Status.RUNNING,
            message=ATTEMPT_STARTS(attempt=attempt, host=host),
            data={"device": assignment.text},
            attempt=attempt,
            worker=worker,
            host=host,
            device=assignment.text,
            pid=None,
            phase="starting",
            saving="",
            not_before=None,
            started_at=run.started_at or timezone.now(),
            **_bound_to(run),
        )
    except TransitionError:
        return False
    return True


def _bound_to(run: TrainingRun) -> dict[str, Any]:
    """Where its files are from now on: with an object store, hosts need not have directories in common.

    A run without checkpoints may come from another directory. What an earlier attempt wrote here is stored already.
    """
    if not settings.OBJECT_STORE_URL:
        return {}
    here = runs_dir_id()
    if run.runs_dir_id in ("", here):
        return {"runs_dir_id": here}
    events = run.folder / EVENTS_FILE
    return {"runs_dir_id": here, "event_offset": events.stat().st_size if events.exists() else 0}


# Why a run waits


class _Every(Container[int]):
    """Contains every run: the command line and administrators may see all names."""

    def __contains__(self, number: object) -> bool:
        return True


EVERY: Container[int] = _Every()


def named_to(user: AnyUser) -> Container[int]:
    """The ids of the queued and running runs that this user may see, and that reasons may name."""
    in_work = TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING))
    return set(visible_to(user, in_work).values_list("pk", flat=True))


def why_waiting(run: TrainingRun, named: Container[int] = EVERY) -> str:
    """What the queued run waits for, in the active language; empty for a run that is not queued.

    Runs that are not in `named` (see `named_to`) are only counted.
    """
    if run.status != Status.QUEUED:
        return ""
    return next((reason for pk, reason in _reasons(None, named) if pk == run.pk), in_a_moment())


def reasons(most: int | None = None, named: Container[int] = EVERY) -> dict[int, str]:
    """The reason why each of the first `most` queued runs waits, by its id."""
    return dict(_reasons(most, named))


def _reasons(most: int | None, named: Container[int]) -> Iterator[tuple[int, str]]:
    cluster, now = read_cluster(), timezone.now()
    for run, assignment in in_turn(cluster, read_queue(most), now):
        if run.not_before is not None and is_put_off(run.not_before, now):
            local = timezone.localtime(run.not_before)
            when = date_format(local, "H:i:s" if local.date() == timezone.localdate() else "DATETIME_FORMAT")
            yield run.pk, _("It does not start before %(time)s.") % {"time": when.rstrip(".")}
        elif assignment is not None:
            yield run.pk, in_a_moment()
        elif cluster.is_over_limit(run.owner_id):
            text = ngettext(
                "Its owner has %(count)d running run, the limit for one user.",
                "Its owner has %(count)d running runs, the limit for one user.",
                cluster.most_per_user,
            )
            yield run.pk, text % {"count": cluster.most_per_user}
        else:
            yield run.pk, _no_device(cluster, run, named)


def next_by_device() -> dict[int, Waiting]:
    """The first queued run that waits for each device, by the id of the device."""
    cluster, found = read_cluster(), dict[int, Waiting]()
    for run, assignment in in_turn(cluster, read_queue(NEXT_SEARCHED), timezone.now()):
        suited = (device for _machine, device in cluster.suited(run.request, run.avoided))
        for device in assignment.devices if assignment else suited:
            if device.is_usable:
                found.setdefault(device.device_id, run)
    return found


def in_a_moment() -> str:
    if not is_writable(Path(settings.RUNS_DIR)):
        return _("The folder of runs cannot be written to. The run starts when that is possible again.")
    return _("A device is available: a worker starts the run shortly.")


def _no_device(cluster: ClusterState, run: Waiting, named: Container[int]) -> str:
    groups, request = cluster.groups(run.request, run.avoided), run.request
    linked = cluster.linked(request, run.avoided)
    if not groups and not linked:
        return nowhere(cluster, request)
    lines = []
    if linked:
        groups = max(linked, key=lambda found: sum(_free(machine, group, run) for machine, group in found))
        lines.append(_too_few_together(groups, run))
        request = request.part
    elif request.at_least > 1:
        groups = [max(groups, key=lambda found: _free(found[0], found[1], run))]
        lines.append(_too_few(*groups[0], run))
    suited = [(machine, device) for machine, group in groups for device in group]
    obstacles = [(machine.obstacle(device, request, run.pk), machine) for machine, device in suited]
    # First what somebody can do something about.
    obstacles.sort(key=lambda item: item[0] is not None and item[0].device.is_usable)
    found = [_sentence(obstacle, machine, run.pk, named) for obstacle, machine in obstacles if obstacle]
    lines += found[:NAMED]
    if (more := len(found) - NAMED) > 0:
        rest = ngettext("%(count)d more device is not available.", "%(count)d more devices are not available.", more)
        lines.append(rest % {"count": more})
    if run.request.kind == "auto" and all(device.kind == "gpu" and not device.is_usable for _machine, device in suited):
        lines.append(_("The run does not train on the CPU instead; to do so, choose the device cpu."))
    return " ".join(lines)


def _free(machine: Machine, group: list[DeviceSlot], run: Waiting) -> int:
    """The devices of a group, or the slots of a processor, that are free for the run now."""
    if group[0].kind == "cpu":
        reserved = 0 if group[0].reserved_for is run else group[0].reserved_slots
        return group[0].capacity - group[0].taken - reserved
    return sum(machine.obstacle(device, run.request, run.pk) is None for device in group)


def _too_few_together(linked: Linked, run: Waiting) -> str:
    """What a run that may have several hosts waits for."""
    free = sorted((_free(machine, group, run) for machine, group in linked), reverse=True)
    values = {"needed": run.request.at_least, "hosts": run.request.hosts, "free": sum(free[: run.request.hosts])}
    if linked[0][1][0].kind == "cpu":
        return _("It needs %(needed)d free CPU slots on up to %(hosts)d hosts; %(free)d are free there.") % values
    text = _("It needs %(needed)d free GPUs of one kind on up to %(hosts)d hosts; %(free)d are free there.") % values
    is_reserved = any(one.reserved_for is run and not one.holds for _machine, group in linked for one in group)
    return " ".join([text, _("Free GPUs are reserved for this run.")] if is_reserved else [text])


def _too_few(machine: Machine, group: list[DeviceSlot], run: Waiting) -> str:
    """What a run for several devices waits for on the host that has most of them."""
    values = {"needed": run.request.at_least, "host": machine.name, "free": _free(machine, group, run)}
    if group[0].kind == "cpu":
        return _("It needs %(needed)d free slots of one CPU; %(host)s has %(free)d.") % values
    text = _("It needs %(needed)d free GPUs of one kind on one host; %(host)s has %(free)d.") % values
    is_reserved = any(device.reserved_for is run and not device.holds for device in group)
    return " ".join([text, _("Free GPUs are reserved for this run.")] if is_reserved else [text])


def nowhere(cluster: ClusterState, request: Request) -> str:
    """Why no machine with a running worker has what the run requires."""
    if not cluster.alive:
        return _("No worker is running. Start one with “manage.py studio”.")
    if elsewhere := _files_elsewhere(cluster, request):
        return elsewhere
    expected = (machine for machine in cluster.machines if machine.is_away and not machine.is_temporary)
    away = [machine.name for machine in expected if machine.suited(request)]
    if away:
        return _("Only %(hosts)s has what it requires, and no worker is running there.") % {"hosts": ", ".join(away)}
    if request.hosts > 1:
        lines = [_("No hosts that can train together have %(what)s.") % {"what": request_text(request)}]
        if any(not machine.address for machine in cluster.alive):
            lines.append(_("Hosts without the setting CLUSTER_INTERFACE are left out."))
        return " ".join(lines)
    return _("No host has %(what)s.") % {"what": request_text(request)}


def _files_elsewhere(cluster: ClusterState, request: Request) -> str:
    """Why hosts that have the right devices are left out: they do not have the files of the run; empty otherwise."""
    anywhere = replace(request, runs_dir_id="", data_dir_id="")
    if anywhere == request or not any(machine.suited(anywhere) for machine in cluster.alive):
        return ""
    hosts = [machine.name for machine in cluster.machines if machine.has_files(request)]
    values = {"hosts": ", ".join(hosts[:NAMED]) or _("no host")}
    if all(machine.has_files(replace(request, data_dir_id="")) for machine in cluster.alive):
        text = _(
            "Its dataset is not in the object store, or it starts from a stored model: only %(hosts)s has these files."
        )
        return text % values
    return _("Its checkpoints are on a disk of %(hosts)s; other hosts cannot continue it.") % values


def request_text(request: Request) -> str:
    """What a run requires, as text in the active language."""
    named = {"cpu": _("1 CPU slot"), "gpu": _("a GPU"), "auto": _("any available device")}
    if request.count > 1:
        named = {
            "cpu": _("%(count)s CPU slots"),
            "gpu": _("%(count)s GPUs of one kind"),
            "auto": _("%(count)s devices of one kind"),
        }
    least, most = request.at_least, request.count
    count = str(most) if least == most else _("%(least)d to %(most)d") % {"least": least, "most": most}
    named = {kind: text % {"count": count} for kind, text in named.items()}
    what = f"cuda:{request.index}" if request.index is not None else named[request.kind]
    if request.memory_bytes:
        memory = f"{request.memory_bytes / GB:g} GB"
        what = _("%(device)s with %(memory)s of free memory") % {"device": what, "memory": memory}
    if request.hosts > 1:
        what = _("%(device)s on up to %(hosts)d hosts") % {"device": what, "hosts": request.hosts}
    return _("%(device)s, shared") % {"device": what} if request.is_sharing else what


def _sentence(obstacle: Obstacle, machine: Machine, run_id: int, named: Container[int]) -> str:
    device, host_slots = obstacle.device, machine.slots
    if obstacle.why in ("gone", "unusable"):
        return _unusable(device, machine)
    values = {
        "device": device.torch_name,
        "host": device.host,
        "count": host_slots,
        "runs": _quoted([(hold.run_id, hold.name) for hold in device.holds], named),
        "run": _quoted([(device.reserved_for.pk, device.reserved_for.name)], named) if device.reserved_for else "",
        "memory": filesizeformat(obstacle.missing_bytes),
        "foreign": filesizeformat(device.foreign_bytes + device.drawing_bytes),
        "programs": ", ".join(device.programs[:NAMED]) or _("processes that are not visible from here"),
    }
    is_first = device.reserved_for is not None and device.reserved_for.pk == run_id
    full = ngettext(
        "%(host)s trains %(count)d run, which is its limit.",
        "%(host)s trains %(count)d runs, which is its limit.",
        host_slots,
    )
    held = _("%(device)s on %(host)s is used by %(runs)s.")
    if device.kind == "cpu":
        held = _("No free slot: the CPU of %(host)s is used by %(runs)s.")
        if is_first and device.taken < device.capacity:
            held = _(
                "Too few free slots: the CPU of %(host)s is used by %(runs)s. Free slots are reserved for this run."
            )
    sentences = {
        "host_full": full,
        "held": held,
        "reserved": _("%(device)s on %(host)s is reserved for %(run)s, which is ahead in the queue."),
        "memory": _("%(device)s on %(host)s lacks %(memory)s of free memory."),
        "foreign": _(
            "Other programs use %(device)s on %(host)s (%(foreign)s of its memory): %(programs)s. End them, or state "
            "the required free memory of the run: it then uses the GPU beside them."
        ),
        "taken": _(
            "%(device)s on %(host)s is in exclusive-process mode and used by %(programs)s. End that program, or allow "
            "several by nvidia-smi --compute-mode=DEFAULT."
        ),
    }
    return sentences[obstacle.why] % values


def _unusable(device: DeviceSlot, machine: Machine) -> str:
    values = {"device": device.torch_name, "host": device.host}
    if device.is_present:
        why, lines = device.explanation, [_("%(device)s on %(host)s cannot be used now.") % values]
    else:
        why, lines = machine.gpu_problem, [_("%(device)s on %(host)s was there lately and is missing now.") % values]
    return " ".join([*lines, rendered(why)] if why else lines)


def _quoted(runs: list[tuple[int, str]], named: Container[int]) -> str:
    """The runs (id, name) by their names; those that may not be named are counted. Jobs are named by their kinds."""
    shown = [f"“{name}”" for number, name in runs if number != JOB and number in named]
    jobs = [job_name(name) for number, name in runs if number == JOB]
    if hidden := len(runs) - len(shown) - len(jobs):
        shown.append(ngettext("%(count)d private run", "%(count)d private runs", hidden) % {"count": hidden})
    return ", ".join([*shown, *jobs])


def job_name(kind: str) -> str:
    """A job that uses a device, for readers: whose it is remains private."""
    return _("a job (%(kind)s)") % {"kind": Job.Kind(kind).label if kind in Job.Kind.values else kind}
