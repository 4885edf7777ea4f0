"""Which queued run is next, and why the others wait. The database is the queue."""

from collections.abc import Container, Iterator
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
from trainingapp.contract.storage.durable import is_writable
from trainingapp.models import DeviceHold, Host, TrainingRun
from trainingapp.models.run import Status, TransitionError, is_put_off
from trainingapp.scheduling.inventory import ensure_host
from trainingapp.scheduling.placement import (
    GB,
    Board,
    Obstacle,
    Place,
    Request,
    Waiting,
    in_turn,
    queued_runs,
    read_board,
    read_queue,
)

#: Devices that a reason names one by one.
NAMED = 3
#: Queued runs among which the next of each device is looked for.
NEXT_SEARCHED = 200


def claim_next(host: str, worker: str) -> TrainingRun | None:
    """Claim the first queued run that fits the free devices of this host; None when there is none.

    What is chosen is looked at again under the locks, so whoever is too late looks for another one.
    """
    ensure_host(host, worker)
    while (chosen := _choose(host)) is not None:
        if run := _claim(*chosen, host, worker):
            return run
    return None


def is_waiting() -> bool:
    """Whether any run is queued whose time has come."""
    now = timezone.now()
    return any(not is_put_off(not_before, now) for not_before in queued_runs().values_list("not_before", flat=True))


def _choose(host: str) -> tuple[Waiting, Place] | None:
    turns = in_turn(_board_of(host), read_queue(), timezone.now(), host)
    return next(((run, place) for run, place in turns if place is not None and place.host == host), None)


def _board_of(host: str) -> Board:
    """The board for a worker of `host`: that one lives, however old its last reading."""
    board = read_board()
    for machine in board.machines:
        machine.is_away = machine.is_away and machine.name != host
    return board


def _claim(chosen: Waiting, place: Place, host: str, worker: str) -> TrainingRun | None:
    """Write status and hold in one transaction; None when something has changed since the choice.

    The locks are taken in the order host, person, run: the first keeps two workers of a host from giving a device
    away twice, the second two hosts from going beyond a person's limit.
    """
    with transaction.atomic():
        Host.objects.select_for_update().get(name=host)
        board = _board_of(host)
        if board.most_per_user:
            get_user_model()._default_manager.select_for_update().get(pk=chosen.owner_id)
            board = _board_of(host)
        if not _still_fits(board, chosen, place):
            return None
        run = TrainingRun.objects.filter(pk=chosen.pk).first()
        if run is None or not _start(run, place, host, worker):
            return None
        DeviceHold.objects.create(**_hold(run, chosen.request, place))
    return run


def _still_fits(board: Board, run: Waiting, place: Place) -> bool:
    if board.is_over_limit(run.owner_id):
        return False
    return any(
        found.device_id == place.device_id and machine.obstacle(found, run.request) is None
        for machine, found in board.suited(run.request)
    )


def _start(run: TrainingRun, place: Place, host: str, worker: str) -> bool:
    attempt = run.attempt + 1
    message = f"Attempt {attempt} starts on {host}."  # in the reader's language on the pages: sentences.py
    try:
        run.transition(
            Status.RUNNING,
            message=message,
            data={"device": place.torch_name},
            attempt=attempt,
            worker=worker,
            host=host,
            device=place.torch_name,
            pid=None,
            phase="starting",
            not_before=None,
            started_at=run.started_at or timezone.now(),
        )
    except TransitionError:
        return False
    return True


def _hold(run: TrainingRun, request: Request, place: Place) -> dict[str, Any]:
    return {
        "device_id": place.device_id,
        "run": run,
        "run_name": run.name,
        "attempt": run.attempt,
        "slots": request.slots,
        "memory_bytes": request.memory_bytes,
        "is_shared": request.is_sharing and place.kind == "gpu",
        "taken_at": run.heartbeat_at,
    }


# Why a run waits


class _Every(Container[int]):
    """Names every run: what the shell and administrators are told."""

    def __contains__(self, number: object) -> bool:
        return True


EVERY: Container[int] = _Every()


def named_to(user: Any) -> Container[int]:
    """The numbers of the runs that reasons may name to this user: those in work that they may see."""
    in_work = TrainingRun.objects.filter(status__in=(Status.QUEUED, Status.RUNNING))
    return set(visible_to(user, in_work).values_list("pk", flat=True))


def why_waiting(run: TrainingRun, named: Container[int] = EVERY) -> str:
    """A sentence about what the queued run waits for; empty for a run that is not queued.

    Runs that are not in `named` (see `named_to`) stay nameless.
    """
    if run.status != Status.QUEUED:
        return ""
    return next((reason for pk, reason in _reasons(None, named) if pk == run.pk), in_a_moment())


def reasons(most: int | None = None, named: Container[int] = EVERY) -> dict[int, str]:
    """The reason of each queued run by its number, for the first `most` of the queue."""
    return dict(_reasons(most, named))


def _reasons(most: int | None, named: Container[int]) -> Iterator[tuple[int, str]]:
    board, now = read_board(), timezone.now()
    for run, place in in_turn(board, read_queue(most), now):
        if is_put_off(run.not_before, now):
            yield run.pk, _not_before(run)
        elif place is not None:
            yield run.pk, in_a_moment()
        elif board.is_over_limit(run.owner_id):
            yield run.pk, _over_limit(board)
        else:
            yield run.pk, _no_place(board, run, named)


def next_by_device() -> dict[int, Waiting]:
    """Of each device the first queued run that waits for it, by the device's number."""
    board, found = read_board(), dict[int, Waiting]()
    for run, place in in_turn(board, read_queue(NEXT_SEARCHED), timezone.now()):
        waited_for = [place] if place else [suited for _machine, suited in board.suited(run.request)]
        for each in waited_for:
            found.setdefault(each.device_id, run)
    return found


def in_a_moment() -> str:
    if not is_writable(Path(settings.RUNS_DIR)):
        return _("Nothing can be written to the folder of runs. It starts once that is possible again.")
    return _("A place is free: a worker takes it in a moment.")


def _not_before(run: Waiting) -> str:
    assert run.not_before is not None
    local = timezone.localtime(run.not_before)
    when = date_format(local, "H:i:s" if local.date() == timezone.localdate() else "DATETIME_FORMAT")
    return _("It is not to start before %(time)s.") % {"time": when.rstrip(".")}


def _over_limit(board: Board) -> str:
    return ngettext(
        "Its owner has %(count)d run in work, as many as one person may have at once.",
        "Its owner has %(count)d runs in work, as many as one person may have at once.",
        board.most_per_user,
    ) % {"count": board.most_per_user}


def _no_place(board: Board, run: Waiting, named: Container[int]) -> str:
    suited = board.suited(run.request)
    if not suited:
        return _nowhere(board, run.request)
    obstacles = [(machine.obstacle(place, run.request, run.pk), machine.slots) for machine, place in suited]
    lines = [_sentence(obstacle, slots, run.pk, named) for obstacle, slots in obstacles if obstacle]
    more = len(lines) - NAMED
    if more > 0:
        rest = ngettext("%(count)d more device is not free.", "%(count)d more devices are not free.", more)
        lines = [*lines[:NAMED], rest % {"count": more}]
    return " ".join(lines)


def _nowhere(board: Board, request: Request) -> str:
    """What no machine that is there can give."""
    if not board.alive:
        return _("No worker is alive. Start one with “manage.py studio”.")
    away = [machine.name for machine in board.machines if machine.is_away and machine.suited(request)]
    if away:
        return _("Only %(hosts)s has what it asks for, and no worker of it is alive.") % {"hosts": ", ".join(away)}
    return _("No machine has %(what)s.") % {"what": asked_for(request)}


def asked_for(request: Request) -> str:
    """What a run asks for, in words."""
    named = {"cpu": _slots(request.slots), "gpu": _("a GPU"), "auto": _("any free device")}
    what = f"cuda:{request.index}" if request.index is not None else named[request.kind]
    if request.memory_bytes:
        memory = f"{request.memory_bytes / GB:g} GB"
        what = _("%(device)s with %(memory)s of free memory") % {"device": what, "memory": memory}
    return _("%(device)s, shared") % {"device": what} if request.is_sharing else what


def _slots(count: int) -> str:
    return ngettext("%(count)d CPU slot", "%(count)d CPU slots", count) % {"count": count}


def _sentence(obstacle: Obstacle, host_slots: int, run_id: int, named: Container[int]) -> str:
    place = obstacle.place
    values = {
        "device": place.torch_name,
        "host": place.host,
        "count": host_slots,
        "runs": _quoted([(hold.run_id, hold.name) for hold in place.holds], named),
        "run": _quoted([(place.kept_for.pk, place.kept_for.name)], named) if place.kept_for else "",
        "memory": filesizeformat(obstacle.missing_bytes),
        "foreign": filesizeformat(place.foreign_bytes),
    }
    return str(_sentences(place, host_slots, run_id)[obstacle.why]) % values


def _sentences(place: Place, host_slots: int, run_id: int) -> dict[str, str]:
    is_first = place.kept_for is not None and place.kept_for.pk == run_id
    full = ngettext(
        "%(host)s trains %(count)d run, which is all that it may.",
        "%(host)s trains %(count)d runs, which is all that it may.",
        host_slots,
    )
    held = _("%(device)s on %(host)s is held by %(runs)s.")
    if place.kind == "cpu":
        held = _("No free slot: the CPU of %(host)s is held by %(runs)s.")
        if is_first and place.taken < place.capacity:
            held = _("Too few free slots: the CPU of %(host)s is held by %(runs)s. What is free is kept for this run.")
    return {
        "host_full": full,
        "held": held,
        "kept": _("What is free of %(device)s on %(host)s is kept for %(run)s, which is ahead."),
        "memory": _("%(device)s on %(host)s has %(memory)s too little free memory."),
        "foreign": _("Other programs use %(device)s on %(host)s (%(foreign)s of its memory)."),
    }


def _quoted(runs: list[tuple[int, str]], named: Container[int]) -> str:
    """The runs (number, name) by their names; those that may not be named are counted."""
    told = [f"“{name}”" for number, name in runs if number in named]
    if hidden := len(runs) - len(told):
        told.append(ngettext("a private run", "%(count)d private runs", hidden) % {"count": hidden})
    return ", ".join(told)
