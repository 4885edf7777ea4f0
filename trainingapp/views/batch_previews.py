"""A batch as the model will see it, for the form of a run."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from trainingapp.accounts.permissions import Verb
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.sentences import in_readers_language
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.forms import RunForm
from trainingapp.supervision import batch_preview
from trainingapp.views.access import require


@require_POST
def batch_preview_start(request: HttpRequest) -> HttpResponse:
    """Take the form of a run as it stands and have its first batch drawn. Its name may still be missing."""
    require(request, Verb.CREATE)
    values = request.POST.copy()
    values["name"] = _("Preview")
    task = values.get("task", "")
    form = RunForm(values, task=task if task in TASKS else DEFAULT_TASK, user=request.user)
    if not form.is_valid():
        problems = [f"{form[name].label}: {' '.join(map(str, found))}" for name, found in form.errors.items()]
        return _part(request, {"problem": " ".join(problems)}, status=422)
    try:
        preview_id = run_verbs.preview_batch(form.cleaned_data["dataset"], form.config, owner=request.user)
    except VerbError as error:
        return _part(request, {"problem": str(error)}, status=422)
    if not getattr(request, "htmx", None):
        return redirect("batch_preview", preview_id)
    return _part(request, {"preview_id": preview_id})


@require_safe
def batch_preview_state(request: HttpRequest, preview_id: str) -> HttpResponse:
    """How the preview stands; htmx asks again until there is an image or an error."""
    found = batch_preview.look(preview_id, request.user.pk)
    if found is None:
        raise Http404
    return _part(request, {"preview_id": preview_id, "preview": found, "problem": in_readers_language(found.error)})


@require_safe
@cache_control(private=True, max_age=3600)
def batch_preview_image(request: HttpRequest, preview_id: str) -> HttpResponse:
    """The image."""
    found = batch_preview.look(preview_id, request.user.pk)
    if found is None or found.image is None:
        raise Http404
    return HttpResponse(found.image.read_bytes(), content_type="image/webp")


def _part(request: HttpRequest, context: dict[str, object], status: int = 200) -> HttpResponse:
    template = "runs/_batch_preview.html" if getattr(request, "htmx", None) else "runs/batch_preview.html"
    return render(request, template, context, status=status)
