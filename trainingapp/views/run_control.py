"""Pressing the buttons of a run: what each answers, also when somebody was quicker."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from trainingapp.accounts.permissions import Verb, can
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.run_page import further_rights, part_context
from trainingapp.views.access import controlled_run

RunVerb = Callable[..., TrainingRun]
ORDERS: dict[str, RunVerb] = {
    "checkpoint": run_verbs.checkpoint_now,
    "evaluate": run_verbs.evaluate_now,
    "retry": run_verbs.retry_run,
}
#: What is said after a press that changed nothing, because it was so already, and after one whose effect is not seen
#: at once.
ALREADY: dict[str, str | Promise] = {
    "start": _("It was started already."),
    "pause": _("A pause was asked for already."),
    "resume": _("It goes on already."),
    "stop": _("A stop was asked for already."),
    "retry": _("It goes on already."),
    "force_stop": _("It is being stopped by force already."),
    "checkpoint": _("A checkpoint was asked for already; it is saved at the next step."),
    "evaluate": _("An evaluation was asked for already; it is made at the next step."),
}
ASKED: dict[str, str | Promise] = {
    "checkpoint": _("A checkpoint is saved at the next step."),
    "evaluate": _("An evaluation is made at the next step; training goes on after it."),
}


@require_POST
def run_order(request: HttpRequest, pk: int, command: str) -> HttpResponse:
    """Have a checkpoint saved or an evaluation made, or a failed run tried again."""
    return answer_verb(request, controlled_run(request, pk), command, ORDERS[command])


@require_safe
def run_force_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask before a trainer is killed, saying what that costs."""
    run = controlled_run(request, pk)
    context = {"section": "runs", "possible": "force_stop" in run_verbs.possible_verbs(run)}
    return render(request, "runs/force_stop.html", context_of(request, run) | context)


def answer_verb(request: HttpRequest, run: TrainingRun, name: str, verb: RunVerb) -> HttpResponse:
    """Do it. htmx gets the header anew, with a notice where there is something to say; others go to the page."""
    before = _state(run)
    try:
        verb(run, by=request.user.get_username())
    except VerbError as error:
        level, text = "error", str(error)
    else:
        level, text = "info", str((ALREADY if _state(run) == before else ASKED).get(name, ""))
    if not getattr(request, "htmx", None):
        if text:
            messages.add_message(request, messages.ERROR if level == "error" else messages.INFO, text)
        return redirect(run)
    response = render(request, "runs/_header.html", context_of(request, run))
    event = "studio:problem" if level == "error" else "studio:notice"
    return trigger_client_event(response, event, {"message": text}) if text else response


def context_of(request: HttpRequest, run: TrainingRun) -> dict[str, Any]:
    """What the parts of the run's page are rendered with for this user."""
    controls = can(request.user, Verb.CONTROL, run)
    return part_context(run, controls=controls, may=further_rights(request.user, run), reader=request.user)


def _state(run: TrainingRun) -> tuple[object, ...]:
    return run.status, run.requested_action, run.request_seq, run.not_before
