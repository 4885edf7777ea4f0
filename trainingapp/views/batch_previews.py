"""A training batch before its run exists, requested in the form of a run."""

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
def batch_preview_start(request: HttpRequest) -> HttpResponse:
    """Submit a job that draws the first batch of the run in the form. The name of the run may still be missing."""
    require(request, RUN_VERBS["preview"].permission)
    form = draft_form(request.POST, request.user, name=_("Preview"))
    if not form.is_valid():
        problems = [f"{form[name].label}: {' '.join(map(str, found))}" for name, found in form.errors.items()]
        return _refused(request, " ".join(problems))
    try:
        job = run_verbs.preview_batch(form.cleaned_data["dataset"], form.config, owner=signed_in(request.user))
    except VerbError as error:
        return _refused(request, str(error))
    return started_job(request, job)


def _refused(request: HttpRequest, problem: str) -> HttpResponse:
    template = "_problem_line.html" if getattr(request, "htmx", None) else "runs/batch_preview_refused.html"
    return render(request, template, {"problem": problem}, status=422)
