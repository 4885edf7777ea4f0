"""The page of the queue: running runs, and queued ones in their order with the reason why each waits."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from trainingapp.accounts.permissions import can_control, sees
from trainingapp.models import DeviceHold, Forecast, Host, TrainingRun
from trainingapp.models.run import LARGE_COLUMNS
from trainingapp.models.text import row_numbered
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.queue import QueuePosition
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling import forecast
from trainingapp.scheduling.placement import Request, open_holds, queued_runs
from trainingapp.scheduling.scheduler import named_to, reasons, request_text
from trainingapp.views.access import controlled_run

#: Queued runs that the page shows; the others are counted.
SHOWN = 50


@dataclass(frozen=True)
class Row:
    """A queued run as the page shows it. `ahead` and `behind` are its neighbours; a hidden run has no name."""

    number: int
    run: TrainingRun
    reason: str
    requests: str
    forecast: Forecast | None
    controls: bool
    is_hidden: bool
    ahead: int | None
    behind: int | None


@dataclass(frozen=True)
class Held:
    """A running run as the page shows it: the first of its holds, and the names of all of its devices by host."""

    hold: DeviceHold
    devices: dict[str, str]


@require_safe
def queue_page(request: HttpRequest) -> HttpResponse:
    """The queue; htmx gets its lists only."""
    return _shown(request, alone=request.headers.get("HX-Target") == "queue")


@require_POST
def queue_move(request: HttpRequest, pk: int) -> HttpResponse:
    """Move a run: `before` or `after` another run, or `to` first or last."""
    run = controlled_run(request, pk, RUN_VERBS["move"].permission)
    try:
        run_verbs.move_in_queue(run, by=request.user.get_username(), **_requested_position(request))
    except VerbError as error:
        return _answer(request, run, str(error))
    return _answer(request, run)


@require_POST
def queue_priority(request: HttpRequest, pk: int) -> HttpResponse:
    """Change the priority of a run."""
    run = controlled_run(request, pk, RUN_VERBS["priority"].permission)
    try:
        priority = int(request.POST.get("priority", ""))
    except ValueError:
        return _answer(request, run, _("priority must be a whole number."))
    try:
        run_verbs.set_priority(run, priority, by=request.user.get_username())
    except VerbError as error:
        return _answer(request, run, str(error))
    return _answer(request, run)


def _requested_position(request: HttpRequest) -> QueuePosition:
    """The place that the form names. Raises VerbError where it names none."""
    for name in ("before", "after"):
        if name in request.POST:
            other = row_numbered(TrainingRun.objects.all(), request.POST[name])
            if other is None:
                raise VerbError(_("The run to be placed next to no longer exists. Check the queue again."))
            return {"before": other} if name == "before" else {"after": other}
    match request.POST.get("to"):
        case "first" | "last" as end:
            return {"to": end}
    raise VerbError(_("to must be first or last, or before or after must name a run."))


def _answer(request: HttpRequest, run: TrainingRun, problem: str = "") -> HttpResponse:
    """The new lists for htmx, with an announcement for screen readers; others are sent to the page."""
    if not getattr(request, "htmx", None):
        if problem:
            messages.error(request, problem)
        return redirect("queue")
    response = _shown(request, alone=True)
    if problem:
        return trigger_client_event(response, "studio:problem", {"message": problem})
    order = list(queued_runs().values_list("pk", flat=True))
    if run.pk in order:
        values = {"name": run.name, "number": order.index(run.pk) + 1, "count": len(order)}
        text = _("“%(name)s” is at position %(number)d of %(count)d.") % values
    else:
        text = _("“%(name)s” is no longer waiting.") % {"name": run.name}
    return trigger_client_event(response, "studio:announce", {"message": text})


def _shown(request: HttpRequest, *, alone: bool) -> HttpResponse:
    rows = _rows(request)
    holds = open_holds().annotate(is_seen=sees(request.user, TrainingRun, "run_id"))
    holds = holds.select_related("device__host", "run__owner").defer(*(f"run__{name}" for name in LARGE_COLUMNS))
    context = {
        "section": "queue",
        "running": _running(holds.order_by("device__host__name", "device__kind", "device__index", "taken_at")),
        "rows": rows,
        "more": queued_runs().count() - len(rows),
        "accuracy": forecast.accuracy(),
        "has_live_host": any(host.takes_work for host in Host.objects.all()),
    }
    return render(request, "queue/_queue.html" if alone else "queue/queue.html", context)


def _running(holds: Iterable[DeviceHold]) -> list[Held]:
    """One row for each run, in the order of its first hold."""
    by_run: dict[int | None, list[DeviceHold]] = {}
    for hold in holds:
        by_run.setdefault(hold.run_id, []).append(hold)
    return [Held(of_run[0], _by_host(of_run)) for of_run in by_run.values()]


def _by_host(holds: Iterable[DeviceHold]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for hold in holds:
        names.setdefault(hold.device.host.name, []).append(hold.device.torch_name)
    return {host: ", ".join(devices) for host, devices in names.items()}


def _rows(request: HttpRequest) -> list[Row]:
    runs = list(queued_runs().select_related("owner").defer(*LARGE_COLUMNS)[:SHOWN])
    named, forecasts = named_to(request.user), forecast.newest_forecasts()
    why = reasons(SHOWN, named)
    numbers = [run.pk for run in runs]
    return [
        Row(
            number=place,
            run=run,
            reason=why.get(run.pk, ""),
            requests=request_text(Request.of(run.config)),
            forecast=forecasts.get(run.pk),
            controls=can_control(request.user, run),
            is_hidden=run.pk not in named,
            ahead=numbers[place - 2] if place > 1 else None,
            behind=numbers[place] if place < len(numbers) else None,
        )
        for place, run in enumerate(runs, start=1)
    ]
