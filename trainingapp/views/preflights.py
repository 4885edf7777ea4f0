"""The preflight check of a run that does not exist yet."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from trainingapp.accounts.users import signed_in
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.forms import draft_form
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import require
from trainingapp.views.jobs import started_job


@require_POST
def preflight_start(request: HttpRequest) -> HttpResponse:
    """Submit a job that trains a few steps of the run in the form. The name of the run may still be missing."""
    require(request, RUN_VERBS["check"].permission)
    form = draft_form(request.POST, request.user, name=request.POST.get("name") or _("Check"))
    if not form.is_valid():
        problems = [
            f"{form[name].label}: {' '.join(map(str, found))}" if name in form.fields else " ".join(map(str, found))
            for name, found in form.errors.items()
        ]
        return _refused(request, " ".join(problems))
    try:
        job = run_verbs.check_first(form.cleaned_data["dataset"], form.config, owner=signed_in(request.user))
    except VerbError as error:
        return _refused(request, str(error))
    return started_job(request, job)


def _refused(request: HttpRequest, problem: str) -> HttpResponse:
    template = "_problem_line.html" if getattr(request, "htmx", None) else "runs/preflight_refused.html"
    return render(request, template, {"problem": problem}, status=422)
