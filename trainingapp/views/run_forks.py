"""Forks: runs that start from a checkpoint of another run, and the lineage of a run."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import AnyUser, signed_in
from trainingapp.models import Checkpoint, TrainingRun, Trial
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.change_forms import ForkForm
from trainingapp.runs.forks import default_epochs
from trainingapp.runs.forms import config_changes
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import explain_missing_task, require, visible_run

FORKS_SHOWN = 20


@require_http_methods(["GET", "HEAD", "POST"])
def run_fork(request: HttpRequest, pk: int) -> HttpResponse:
    """The form of a run that starts from a checkpoint (?checkpoint=) of this one."""
    run = visible_run(request, pk)
    require(request, RUN_VERBS["fork"].permission)
    if explain_missing_task(request, run.task):
        return redirect(run)
    form = ForkForm(run, request.POST, user=request.user) if request.method == "POST" else _fresh_form(request, run)
    context = {"section": "runs", "run": run, "form": form}
    if request.method != "POST" or not form.is_valid():
        return render(request, "runs/fork.html", context, status=422 if form.is_bound else 200)
    values = form.cleaned_data
    try:
        fork = run_verbs.fork_run(
            run,
            values["checkpoint"],
            owner=signed_in(request.user),
            config=form.config,
            mode=form.fork_mode,
            name=values["name"],
            corrections=form.corrections,
            priority=values["priority"],
            **form.limits,
        )
        if "start" in request.POST:
            run_verbs.start_run(fork, by=request.user.get_username())
    except VerbError as error:
        form.add_error(None, str(error))
        return render(request, "runs/fork.html", context, status=422)
    return redirect(fork)


def _fresh_form(request: HttpRequest, run: TrainingRun) -> ForkForm:
    valid = run.checkpoints.filter(damage="").order_by("-step", "-id")
    chosen = valid.filter(file=request.GET.get("checkpoint", "")).first() or valid.first()
    name = _("%(name)s from epoch %(epoch)d") % {"name": run.name[:90], "epoch": chosen.epoch} if chosen else ""
    about = {"name": name, "priority": run_verbs.copied_priority(run), "checkpoint": chosen.file if chosen else ""}
    if chosen:
        about["epochs"] = default_epochs(chosen, run.config["epochs"])
    return ForkForm(run, user=request.user, initial={**run.config, **about})


def lineage(user: AnyUser, run: TrainingRun) -> dict[str, object]:
    """The origin of the run and the runs that were created from it, as far as the user may see them.

    "how" is fork (from a step), weights (alone) or copy.
    """
    origin = run.forked_from
    is_seen = origin is not None and can(user, Verb.SEE, origin)
    is_alike = origin is not None and is_seen and origin.task == run.task
    start = str(run.config.get("start_from", ""))
    how = "weights" if start.startswith(f"run/{run.forked_from_id}/") else "copy"
    if run.forked_checkpoint:
        how = "fork"
    file = run.forked_checkpoint or start.rpartition("/")[2]  # shown by its name where it is no longer kept
    forks = visible_to(user, TrainingRun.objects.filter(forked_from=run)).order_by("pk")
    trial = Trial.objects.filter(run=run).select_related("sweep").first()
    return {
        "trial": trial if trial and can(user, Verb.SEE, trial.sweep) else None,
        "origin": origin if is_seen else None,
        "hidden_origin": origin is not None and not is_seen,
        "how": how,
        "began": Checkpoint.objects.filter(run_id=run.forked_from_id, file=file).first() or file if file else file,
        "changes": config_changes(origin.config, run.config) if origin is not None and is_alike else [],
        "forks": forks[:FORKS_SHOWN],
        "fork_count": forks.count(),
    }
