"""The buttons of a run: the route that performs a verb, and the page that asks before a force stop."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from trainingapp.accounts.permissions import Verb, can
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs.run_page import further_rights, part_context
from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import controlled_run


class VerbConverter:
    """A path converter for the verbs that a POST performs. Any other word belongs to another route, or to none."""

    regex = "[a-z_]+"

    def to_python(self, value: str) -> RunVerb:
        verb = RUN_VERBS.posted().get(value)
        if verb is None:
            raise ValueError(value)
        return verb

    def to_url(self, value: RunVerb | str) -> str:
        return value if isinstance(value, str) else value.name


@require_POST
def run_control(request: HttpRequest, pk: int, verb: RunVerb) -> HttpResponse:
    """Perform the verb. htmx gets the new header, with a notice where there is something to tell; others the page."""
    run = controlled_run(request, pk, verb.permission)
    before = _state(run)
    try:
        verb.perform(run, user=request.user)
    except VerbError as error:
        level, text = "error", str(error)
    else:
        level, text = "info", str(verb.already if _state(run) == before else verb.accepted)
    if not getattr(request, "htmx", None):
        if text:
            messages.add_message(request, messages.ERROR if level == "error" else messages.INFO, text)
        return redirect(run)
    response = render(request, "runs/_header.html", context_of(request, run))
    event = "studio:problem" if level == "error" else "studio:notice"
    return trigger_client_event(response, event, {"message": text}) if text else response


@require_safe
def run_force_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask before a trainer is killed, and show what is lost."""
    verb = RUN_VERBS["force_stop"]
    run = controlled_run(request, pk, verb.permission)
    context = {"section": "runs", "possible": verb.is_possible(run)}
    return render(request, "runs/force_stop.html", context_of(request, run) | context)


def context_of(request: HttpRequest, run: TrainingRun) -> dict[str, Any]:
    """The context of the parts of the run's page for this user."""
    controls = can(request.user, Verb.CONTROL, run)
    context = part_context(run, controls=controls, may=further_rights(request.user, run), reader=request.user)
    return dict(context)


def _state(run: TrainingRun) -> tuple[object, ...]:
    return run.status, run.requested_action, run.request_seq, run.not_before, run.archived_at
