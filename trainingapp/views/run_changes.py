"""Changing a run: its epochs, its name and its limits."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError, VersionError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.change_forms import EditForm, EpochsForm
from trainingapp.runs.forms import LIMITS
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import controlled_run, explain_missing_task
from trainingapp.views.epochs_preview import EpochsPreview, preview

#: States from which a run with more epochs can be resumed at once.
RESUMABLE = frozenset({TrainingRun.Status.PAUSED, TrainingRun.Status.STOPPED, TrainingRun.Status.FAILED})


@require_http_methods(["GET", "HEAD", "POST"])
def run_epochs(request: HttpRequest, pk: int) -> HttpResponse:
    """Change the total epochs; while the user types (?epochs=), the effect is previewed."""
    run = controlled_run(request, pk, RUN_VERBS["epochs"].permission)
    if explain_missing_task(request, run.task):
        return redirect(run)
    form = EpochsForm(
        run, request.POST if request.method == "POST" else request.GET if "epochs" in request.GET else None
    )
    if request.method == "POST" and form.is_valid() and _extended(request, run, form):
        return redirect(run)
    context = {"section": "runs", "run": run, "form": form, "resumable": run.status in RESUMABLE}
    context |= {"preview": _previewed(run, form), "possible": RUN_VERBS["epochs"].is_possible(run)}
    context |= {"effect": _effect(run), "submit_label": _("Change and resume") if _is_over(run) else _("Change")}
    is_part = request.headers.get("HX-Target") == "epochs-preview"
    status = 422 if request.method == "POST" else 200
    return render(request, "runs/_epochs_preview.html" if is_part else "runs/epochs.html", context, status=status)


def _is_over(run: TrainingRun) -> bool:
    """Whether more epochs put the run back into the queue."""
    return run.status == TrainingRun.Status.COMPLETED


def _effect(run: TrainingRun) -> str:
    """When the change takes effect."""
    if run.is_running:
        return _(
            "Training continues without a pause: the trainer saves a checkpoint and applies the change between steps."
        )
    if _is_over(run):
        return _("The run is queued again and resumes from its newest checkpoint.")
    if run.status in RESUMABLE:
        return _("The change takes effect when the run is resumed.")
    return _("The change takes effect when training starts.")


def _extended(request: HttpRequest, run: TrainingRun, form: EpochsForm) -> bool:
    """Change the epochs, and resume the run if requested; False if not possible, which the form then reports."""
    name = request.user.get_username()
    try:
        run_verbs.extend_run(run, form.cleaned_data["epochs"], by=name)
        if "resume" in request.POST and run.status in RESUMABLE:
            run_verbs.resume_run(run, by=name)
    except VerbError as error:
        form.refuse(str(error))
        return False
    texts = {
        TrainingRun.Status.RUNNING.value: _("The new schedule takes effect at the next step."),
        TrainingRun.Status.QUEUED.value: _("The run now has %(count)d epochs and is queued."),
    }
    text = texts.get(run.status, _("The run now has %(count)d epochs."))
    messages.success(request, text % {"count": run.config["epochs"]} if "%(count)d" in text else text)
    return True


def _previewed(run: TrainingRun, form: EpochsForm) -> EpochsPreview | None:
    """The effect of the number; None for an invalid or impossible one, which the form then reports."""
    epochs = run.config["epochs"] if not form.is_bound else form.cleaned_data.get("epochs") if form.is_valid() else None
    if epochs is None:
        return None
    try:
        if epochs != run.config["epochs"]:
            run_verbs.with_epochs(run, epochs)
    except VerbError as error:
        form.refuse(str(error))
        return None
    return preview(run, epochs)


@require_http_methods(["GET", "HEAD", "POST"])
def run_name(request: HttpRequest, pk: int) -> HttpResponse:
    """The name of a run, edited in its header: htmx gets a form for it, and the name when it is saved or left."""
    run = controlled_run(request, pk, RUN_VERBS["edit"].permission)
    if not getattr(request, "htmx", None):
        return redirect("run_edit", run.pk)
    context = {"run": run, "may_rename": True}
    if request.method != "POST":
        is_left = "leave" in request.GET
        return render(request, "runs/_name.html" if is_left else "runs/_name_form.html", context | {"name": run.name})
    name = request.POST.get("name", "")
    try:
        run_verbs.update_run(run, name=name, tag=request.POST.get("version", ""))
    except VersionError:
        run.refresh_from_db()
        problem = _("Someone else has changed this run in the meantime. Its name is now “%(name)s”.")
        context |= {"name": name, "problem": problem % {"name": run.name}}
    except VerbError as error:
        context |= {"name": name, "problem": str(error)}
    else:
        return render(request, "runs/_name.html", context)
    return render(request, "runs/_name_form.html", context, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
def run_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Name, priority and limits. Of two people who edit at once, the second sees what the first has written."""
    run = controlled_run(request, pk, RUN_VERBS["edit"].permission)
    form = EditForm(run, request.POST) if request.method == "POST" else EditForm(run)
    context: dict[str, object] = {"section": "runs", "run": run, "form": form}
    if request.method != "POST":
        return render(request, "runs/edit.html", context)
    if form.is_valid():
        try:
            values = form.cleaned_data
            limits = {name: run_verbs.STUDIO_LIMIT if values[name] is None else values[name] for name in LIMITS}
            tag = str(values["version"])
            run_verbs.update_run(run, name=values["name"], priority=values["priority"], tag=tag, **limits)
        except VersionError:
            run.refresh_from_db()
            sent = request.POST.copy()  # on top of what is stored by now
            sent["version"] = str(run.version)
            context |= {"form": EditForm(run, sent), "others": form.differing(run)}
            return render(request, "runs/edit.html", context, status=409)
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("Saved."))
            return redirect(run)
    return render(request, "runs/edit.html", context, status=422)
