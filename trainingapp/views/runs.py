"""Pages of the runs."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from trainingapp.accounts.users import AnyUser, signed_in
from trainingapp.contract.config import config_defaults, config_fields
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.models.text import row_numbered, stored_number
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.forms import LIMITS, RunForm, datasets_for, ready_datasets
from trainingapp.runs.presets import presets_of
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import controlled_run, explain_missing_task, require, visible_run, weights_seen_by


@require_http_methods(["GET", "HEAD", "POST"])
def run_new(request: HttpRequest) -> HttpResponse:
    """The form of a new run; ?clone= fills it from another one."""
    require(request, RUN_VERBS["create"].permission)
    clone = stored_number(request.POST.get("clone") or request.GET.get("clone", ""))
    origin = visible_run(request, clone) if clone is not None else None
    initial = _initial(request, origin)
    if explain_missing_task(request, initial["task"]):
        return redirect(origin or "run_list")
    if request.method == "POST" and "switch" not in request.POST:
        wanted = request.POST.get("task", "")
        form = RunForm(request.POST, task=wanted if wanted in TASKS else DEFAULT_TASK, user=request.user)
    else:
        if "switch" in request.POST:
            initial = _switched(request)
        form = RunForm(initial=initial, task=initial["task"], user=request.user)
    model = str(form["model"].value() or "")
    context = {
        "form": form,
        "tasks": _task_tabs(request, form.task_name),
        "presets": presets_of(form.task_name, model),
        "section": "runs",
        "clone": origin,
    }
    if not form.is_bound or not form.is_valid():
        return render(request, "runs/new.html", context, status=422 if form.is_bound else 200)
    values = form.cleaned_data
    try:
        run = run_verbs.create_run(
            owner=signed_in(request.user),
            name=values["name"],
            dataset=values["dataset"],
            config=form.config,
            corrections=form.corrections,
            priority=values["priority"],
            forked_from=origin,
            **form.limits,
        )
        if "start" in request.POST:
            run_verbs.start_run(run, by=request.user.get_username())
    except VerbError as error:
        form.add_error(None, str(error))
        return render(request, "runs/new.html", context, status=422)
    return redirect(run)


def _task_tabs(request: HttpRequest, present: str) -> list[dict[str, object]]:
    """The tasks to choose from, each with the number of datasets that suit it."""
    return [
        {
            "task": task.name,
            "icon": task.icon,
            "about": _(task.about),
            "present": task.name == present,
            "datasets": datasets_for(task.name, request.user).count(),
        }
        for task in TASKS.values()
    ]


def _switched(request: HttpRequest) -> dict[str, Any]:
    """The form of another task: what the user has entered stays where both tasks have the field."""
    posted, task = request.POST, request.POST["switch"]
    before = posted.get("task", "")
    if task not in TASKS:
        task = DEFAULT_TASK
    old = RunForm(posted, task=before if before in TASKS else DEFAULT_TASK, user=request.user)
    datasets = datasets_for(task, request.user)
    dataset = row_numbered(datasets, posted.get("dataset", "")) or datasets.first()
    initial: dict[str, Any] = {"task": task, "dataset": dataset.pk if dataset else None}
    general = ("name", "priority", *LIMITS)
    initial |= {name: posted[name] for name in general if posted.get(name)}
    defaults = config_defaults(old.task_name, posted.get("model", ""))
    for name in old.config_fields.keys() & config_fields(task).keys() - {"model", "start_from", "best_metric"}:
        value = old[name].value()
        if old.fields[name].has_changed(defaults[name], value):
            initial[name] = value
    return initial


def _suggested_name(user: AnyUser, dataset: Dataset | None) -> str:
    """A name for the user's next run on the dataset."""
    if dataset is None:
        return ""
    number = TrainingRun.objects.filter(dataset=dataset, owner_id=user.pk).count() + 1
    return f"{dataset.name[: NAME_LENGTH - 10]} {number}"


def _initial(request: HttpRequest, origin: TrainingRun | None) -> dict[str, Any]:
    """What the form shows at first: another run's values (?clone=), else those of ?task= and ?dataset=."""
    if origin:
        about = {name: getattr(origin, name) for name in ("task", *LIMITS)}
        about |= {"name": run_verbs.copied_name(origin), "priority": run_verbs.copied_priority(origin)}
        return {**origin.config, **about, "dataset": origin.dataset_id}
    ready = weights_seen_by(request.user).filter(state=Weights.State.READY)
    if weights := row_numbered(ready, request.GET.get("weights", "")):
        fit = datasets_for(weights.task, request.user)
        own = next((one for one in fit if one.pk == weights.dataset_id), None) or fit.first()
        chosen = {"task": weights.task, "model": weights.architecture, "image_size": weights.image_size}
        named = {"name": _suggested_name(request.user, own), "dataset": own.pk if own else None}
        return {**chosen, "start_from": weights.start_name, **named}
    dataset = row_numbered(ready_datasets(request.user), request.GET.get("dataset", ""))
    task = request.GET.get("task", "")
    if task not in TASKS:
        task = next((name for name in (dataset.tasks if dataset else []) if name in TASKS), DEFAULT_TASK)
    if dataset is None or task not in dataset.tasks:
        dataset = datasets_for(task, request.user).first()
    initial = {"task": task, "name": _suggested_name(request.user, dataset), "dataset": dataset.pk if dataset else None}
    preset = request.GET.get("preset", "")
    model = request.GET.get("model", "")
    if TASKS[task].has_architecture(model):
        initial["model"] = model
    else:
        model = str(config_fields(task)["model"].default)
    return initial | next((one.values for one in presets_of(task, model) if one.name == preset), {})


@require_http_methods(["GET", "HEAD", "POST"])
def run_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, with the size of what is deleted, and delete."""
    verb = RUN_VERBS["delete"]
    run = controlled_run(request, pk, verb.permission)
    if request.method == "POST":
        try:
            run_verbs.delete_run(run, by=request.user.get_username())
        except VerbError as error:
            messages.error(request, str(error))
            return redirect(run)
        messages.success(request, _("“%(name)s” and its files were deleted.") % {"name": run.name})
        return redirect("run_list")
    context = {"run": run, "size": run_verbs.deletion_size(run), "possible": verb.is_possible(run)}
    return render(request, "runs/delete.html", context)
