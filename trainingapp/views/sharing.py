"""Setting who else sees an object."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.accounts.permissions import Verb
from trainingapp.accounts.sharing import Shareable
from trainingapp.models import Sweep
from trainingapp.models.verbs import VerbError
from trainingapp.runs.forms import ShareForm
from trainingapp.runs.sweeps.verbs import share_sweep
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import controlled_dataset, controlled_run, visible_sweep, visible_weights


@require_POST
def run_share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share a run, or stop sharing it."""
    run = controlled_run(request, pk, RUN_VERBS["share"].permission)
    return answer_share(request, run, back=reverse("run_activity", args=[run.pk]))


@require_POST
def dataset_share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share a dataset, or stop sharing it."""
    return answer_share(request, controlled_dataset(request, pk, Verb.SHARE))


@require_POST
def weights_share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share weights, or stop sharing them."""
    return answer_share(request, visible_weights(request, pk, Verb.SHARE))


@require_POST
def sweep_share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share a sweep and the runs of its trials, or stop sharing them."""
    return answer_share(request, visible_sweep(request, pk, Verb.SHARE))


def answer_share(request: HttpRequest, item: Shareable, *, back: str = "") -> HttpResponse:
    """Apply the form and return to the page of the object, or to `back`."""
    form = ShareForm(item, request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose who sees this from the list."))
        return redirect(back or item)
    try:
        if isinstance(item, Sweep):
            share_sweep(item, form.visibility, form.team, by=request.user)
        else:
            sharing_verbs.share(item, form.visibility, form.team, by=request.user)
    except VerbError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("Saved. Shared with: %(who)s") % {"who": form.chosen_label})
    return redirect(back or item)
