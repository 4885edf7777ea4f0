"""Pages of the sweeps."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import signed_in
from trainingapp.contract.config import config_fields
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.models import Sweep, TrainingRun
from trainingapp.models.sweep import SweepStatus
from trainingapp.models.text import row_numbered
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.presentation.labels import STATUSES
from trainingapp.runs.forms import ShareForm, datasets_for, ready_datasets
from trainingapp.runs.sweeps import verbs as sweep_verbs
from trainingapp.runs.sweeps.forms import PRESETS, BudgetForm, SweepForm, TrialForm
from trainingapp.runs.sweeps.page import SweepPage, listed_sweeps
from trainingapp.runs.sweeps.verb_registry import SWEEP_VERBS
from trainingapp.views.access import explain_missing_task, require, visible_sweep
from trainingapp.views.paging import IndexedPaginator

SWEEPS_ON_A_PAGE = 25


@require_safe
def sweep_list(request: HttpRequest) -> HttpResponse:
    """The sweeps that the user may see, newest first; htmx gets the part that changes."""
    seen = visible_to(request.user, Sweep.objects.all())
    status = request.GET.get("status", "")
    rows = seen.filter(status=status) if status in SweepStatus.values else seen
    page = IndexedPaginator(rows.order_by("-created_at", "-pk"), SWEEPS_ON_A_PAGE).get_page(request.GET.get("page"))
    shown = Sweep.objects.filter(pk__in=[sweep.pk for sweep in page]).order_by("-created_at", "-pk")
    context = {
        "section": "sweeps",
        "page": page,
        "rows": listed_sweeps(shown),
        "status": status,
        "pills": [(name, STATUSES[name]) for name in SweepStatus.values],
        "has_sweeps": seen.exists(),
        "creates": can(request.user, Verb.CREATE),
        "has_datasets": ready_datasets(request.user).exists(),
    }
    return render(request, "sweeps/_list.html" if _is_part(request, "sweeps") else "sweeps/list.html", context)


def _is_part(request: HttpRequest, name: str) -> bool:
    return request.headers.get("HX-Target") == name and "HX-History-Restore-Request" not in request.headers


@require_safe
def sweep_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """A sweep with its history, its trials and its plots; htmx gets the part that changes."""
    sweep = visible_sweep(request, pk)
    given = request.GET
    page = SweepPage(sweep, request.user, sort=given.get("sort", "number"), x=given.get("x", ""), y=given.get("y", ""))
    controls = can(request.user, Verb.CONTROL, sweep)
    context: dict[str, object] = {
        "section": "sweeps",
        "sweep": sweep,
        "page": page,
        "verbs": [verb for verb in SWEEP_VERBS.values() if controls and verb.is_possible(sweep)],
        "changes": can(request.user, Verb.CHANGE, sweep),
        "deletes": can(request.user, Verb.DELETE, sweep),
        "enqueues": controls and sweep_verbs.can_be_enqueued(sweep),
        "creates": can(request.user, Verb.CREATE),
    }
    if _is_part(request, "sweep"):
        return render(request, "sweeps/_sweep.html", context)
    shares = can(request.user, Verb.SHARE, sweep)
    return render(request, "sweeps/detail.html", context | {"share_form": ShareForm(sweep) if shares else None})


@require_http_methods(["GET", "HEAD", "POST"])
def sweep_new(request: HttpRequest) -> HttpResponse:
    """The form of a new sweep; ?run= takes the dataset and the configuration of a run as the base."""
    require(request, Verb.CREATE)
    posted = request.POST
    task = posted.get("switch") or posted.get("task", "")
    if request.method == "POST" and ("switch" in posted or "preset" in posted):
        form = _refilled(request, task if task in TASKS else DEFAULT_TASK)
    elif request.method == "POST":
        form = SweepForm(posted, task=task if task in TASKS else DEFAULT_TASK, user=request.user)
    else:
        initial = _initial(request)
        if explain_missing_task(request, initial["task"]):
            return redirect("sweep_list")
        form = SweepForm(initial=initial, task=initial["task"], user=request.user, preset="rate")
    context = {
        "section": "sweeps",
        "form": form,
        "tasks": [(one, datasets_for(one.name, request.user).count()) for one in TASKS.values()],
        "presets": [(name, label, about) for name, (label, about, _fields) in PRESETS.items()],
    }
    if form.is_bound and form.is_valid():
        sweep = _created(request, form)
        if sweep is not None:
            return redirect(sweep)
    return render(request, "sweeps/new.html", context, status=422 if form.is_bound else 200)


def _created(request: HttpRequest, form: SweepForm) -> Sweep | None:
    """The new sweep; None where it is refused, which the form then says."""
    values = form.cleaned_data
    try:
        sweep = sweep_verbs.create_sweep(
            owner=signed_in(request.user),
            name=values["name"],
            dataset=values["dataset"],
            config=form.config,
            space=form.space,
            **form.method(),
        )
        if "start" in request.POST:
            sweep_verbs.start_sweep(sweep, by=request.user.get_username())
    except FieldError as error:
        form.mark(error.field, str(error))
        return None
    except VerbError as error:
        form.add_error(None, str(error))
        return None
    return sweep


def _refilled(request: HttpRequest, task: str) -> SweepForm:
    """The form of another task, or with the rows of a preset: what was entered stays where it has a place."""
    posted = request.POST
    plain = SweepForm(task=task, user=request.user)
    initial: dict[str, Any] = {"task": task}
    is_same_task = posted.get("task") == task
    for name, field in plain.fields.items():
        if name == "task" or (name == "model" and not is_same_task):
            continue
        if name in plain.config_fields and plain.config_fields[name].kind == "switch":
            initial[name] = name in posted
        elif posted.get(name) and not (hasattr(field, "choices") and not is_same_task and name == "best_metric"):
            initial[name] = posted[name]
    if not is_same_task:
        dataset = row_numbered(datasets_for(task, request.user), posted.get("dataset", ""))
        dataset = dataset or datasets_for(task, request.user).first()
        kept = {name: initial[name] for name in initial if name not in plain.config_fields}
        initial = kept | {"dataset": dataset.pk if dataset else None}
    preset = posted.get("preset", "") or ("" if is_same_task else "rate")
    if not preset:
        initial["_posted"] = posted
    return SweepForm(initial=initial, task=task, user=request.user, preset=preset)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What the form shows at first: the configuration of ?run=, or the defaults for ?task= and ?dataset=."""
    runs = visible_to(request.user, TrainingRun.objects.select_related("dataset"))
    run = row_numbered(runs, request.GET.get("run", ""))
    if run is not None:
        name = _("Sweep of %(run)s") % {"run": run.name[: NAME_LENGTH - 20]}
        return {**run.config, "task": run.task, "name": name, "dataset": run.dataset_id}
    dataset = row_numbered(ready_datasets(request.user), request.GET.get("dataset", ""))
    task = request.GET.get("task", "")
    if task not in TASKS:
        task = next((name for name in (dataset.tasks if dataset else []) if name in TASKS), DEFAULT_TASK)
    if dataset is None or task not in dataset.tasks:
        dataset = datasets_for(task, request.user).first()
    name = _("Sweep of %(run)s") % {"run": dataset.name[: NAME_LENGTH - 20]} if dataset else ""
    model = config_fields(task)["model"].default
    return {"task": task, "dataset": dataset.pk if dataset else None, "name": name, "model": model}


@require_POST
def sweep_control(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Start, pause, resume or stop a sweep."""
    record = SWEEP_VERBS.get(verb)
    if record is None:
        raise Http404
    sweep = visible_sweep(request, pk, record.permission)
    try:
        record.function(sweep, by=request.user.get_username())
    except VerbError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, str(record.done) % {"name": sweep.name})
    return redirect(sweep)


@require_http_methods(["GET", "HEAD", "POST"])
def sweep_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change the name, the concurrency and the budgets."""
    sweep = visible_sweep(request, pk, Verb.CHANGE)
    form = BudgetForm(sweep, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            sweep_verbs.change_sweep(sweep, by=request.user.get_username(), **form.cleaned_data)
        except FieldError as error:
            form.add_error(error.field, str(error))
        except VerbError as error:
            form.add_error("name", str(error))
        else:
            messages.success(request, _("The sweep was changed."))
            return redirect(sweep)
    context = {"section": "sweeps", "sweep": sweep, "form": form}
    return render(request, "sweeps/edit.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def sweep_enqueue(request: HttpRequest, pk: int) -> HttpResponse:
    """Enter the values of a trial that is tried next; the fields begin with those of the best one."""
    sweep = visible_sweep(request, pk, Verb.CONTROL)
    if not sweep_verbs.can_be_enqueued(sweep):
        messages.error(request, _("The sweep has ended, or tries no values."))
        return redirect(sweep)
    best = SweepPage(sweep, request.user).best
    posted = request.POST if request.method == "POST" else None
    form = TrialForm(sweep, posted, initial=best.params if best else None)
    if form.is_bound and form.is_valid():
        try:
            trial = sweep_verbs.enqueue_trial(sweep, form.params, by=request.user.get_username())
        except FieldError as error:
            form.add_error(error.field if error.field in form.fields else None, str(error))
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("Trial %(number)d is tried next.") % {"number": trial.number})
            return redirect(sweep)
    context = {"section": "sweeps", "sweep": sweep, "form": form}
    return render(request, "sweeps/enqueue.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def sweep_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, and delete the sweep, with or without its runs."""
    sweep = visible_sweep(request, pk, Verb.DELETE)
    if request.method == "POST":
        try:
            with_runs = request.POST.get("runs") == "1"
            sweep_verbs.delete_sweep(sweep, by=request.user.get_username(), with_runs=with_runs)
        except VerbError as error:
            messages.error(request, str(error))
            return redirect("sweep_detail", pk=pk)
        messages.success(request, _("“%(name)s” was deleted.") % {"name": sweep.name})
        return redirect("sweep_list")
    runs = TrainingRun.objects.filter(trial__sweep=sweep).count()
    context = {
        "section": "sweeps",
        "sweep": sweep,
        "runs": runs,
        "possible": sweep_verbs.can_be_deleted(sweep),
    }
    return render(request, "sweeps/delete.html", context)
