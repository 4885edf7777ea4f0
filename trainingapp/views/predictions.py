"""Predictions: the page to try a model on images, and the files of jobs."""

import re
import uuid
from pathlib import Path

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts.permissions import Verb
from trainingapp.accounts.users import signed_in
from trainingapp.contract.model_card import EXPORT_FILES
from trainingapp.contract.run_directory import PREVIEW_FILE
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.models import Job, Weights
from trainingapp.models.verbs import VerbError
from trainingapp.runs.forms import datasets_for
from trainingapp.views.access import explain_missing_task, require, visible_weights
from trainingapp.views.files import attachment
from trainingapp.views.jobs import own_job, started_job
from trainingapp.weights import verbs as weights_verbs
from trainingapp.weights.forms import ManyForm
from trainingapp.weights.predictions import PREDICTIONS_FILE, script_data

#: Kind -> the images in its folder that its page shows.
IMAGES = {
    Job.Kind.PREDICT: re.compile(r"(shown|masks)/[0-9]{1,3}\.(webp|png)"),
    Job.Kind.BATCH_PREVIEW: re.compile(re.escape(PREVIEW_FILE)),
}
#: Files of a job that may be fetched: address -> (kind, file in its folder).
FILES = {
    "predictions.json": (Job.Kind.PREDICT, PREDICTIONS_FILE),
    "predictions.jsonl": (Job.Kind.PREDICT_MANY, "predictions.jsonl"),
    "export.zip": (Job.Kind.EXPORT, "export.zip"),
}


@require_http_methods(["GET", "HEAD", "POST"])
def weights_try(request: HttpRequest, pk: int) -> HttpResponse:
    """A page to drop images on; with POST, the job that looks at them."""
    weights = _usable_weights(request, pk)
    if request.method != "POST" and explain_missing_task(request, weights.task):
        return redirect(weights)
    problem = ""
    if request.method == "POST":
        images = [(file.name or "", file) for file in request.FILES.getlist("images")]
        try:
            job = weights_verbs.predict(weights, images=images, by=signed_in(request.user))  # type: ignore[arg-type]
        except VerbError as error:
            problem = str(error)
        else:
            return started_job(request, job)
        if getattr(request, "htmx", None):
            return render(request, "_problem_line.html", {"problem": problem}, status=422)
    return _try_page(request, weights, _many_form(request, weights), problem)


def _usable_weights(request: HttpRequest, pk: int) -> Weights:
    """A model, for a user who may start jobs. Raises Http404 or PermissionDenied."""
    weights = visible_weights(request, pk)
    require(request, Verb.CREATE)
    return weights


def _try_page(request: HttpRequest, weights: Weights, form: ManyForm, problem: str = "") -> HttpResponse:
    context = {
        "section": "weights",
        "weights": weights,
        "form": form,
        "problem": problem,
        "most": weights_verbs.MOST_IMAGES,
        "formats": EXPORT_FILES,
    }
    return render(request, "weights/try.html", context, status=422 if problem or form.is_bound else 200)


def _many_form(request: HttpRequest, weights: Weights, data: QueryDict | None = None) -> ManyForm:
    with_folders = dataset_verbs.may_import_from_somewhere(request.user)
    initial: dict[str, object] = {"dataset": weights.dataset_id, "split": "val"}
    datasets = datasets_for(weights.task, request.user)
    return ManyForm(data, datasets=datasets, with_folders=with_folders, initial=initial)


@require_POST
def weights_predict_many(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a split of a dataset, or a folder, looked at as a whole."""
    weights = _usable_weights(request, pk)
    form = _many_form(request, weights, request.POST)
    if form.is_valid():
        values, by = form.cleaned_data, signed_in(request.user)
        try:
            if dataset := values["dataset"]:
                job = weights_verbs.predict_dataset(
                    weights, dataset, split=values["split"] or "val", by=signed_in(request.user)
                )
            else:
                job = weights_verbs.predict_folder(weights, Path(values["folder"]), by=by)
            return started_job(request, job)
        except VerbError as error:
            form.add_error(None, str(error))
    if not getattr(request, "htmx", None):
        form.mark()
        return _try_page(request, weights, form)
    problems = " ".join(str(text) for found in form.errors.values() for text in found)
    return render(request, "_problem_line.html", {"problem": problems}, status=422)


@require_safe
@cache_control(private=True, max_age=3600)
def job_image(request: HttpRequest, pk: uuid.UUID, path: str) -> HttpResponse:
    """An image of a prediction, its mask, or a preview of a batch."""
    job = own_job(request, pk)
    file = job.folder / path
    shown = IMAGES.get(Job.Kind(job.kind)) if job.kind in Job.Kind.values else None
    if shown is None or not shown.fullmatch(path) or not file.is_file():
        raise Http404
    return HttpResponse(file.read_bytes(), content_type=f"image/{path.rpartition('.')[2]}")


@require_safe
def job_boxes(request: HttpRequest, pk: uuid.UUID) -> JsonResponse:
    """What the script of the page draws from."""
    job = own_job(request, pk)
    if job.kind != Job.Kind.PREDICT:
        raise Http404
    return JsonResponse(script_data(job))


@require_safe
def job_file(request: HttpRequest, pk: uuid.UUID, name: str) -> StreamingHttpResponse:
    """What a job has made, to be kept."""
    job = own_job(request, pk)
    kind, file = FILES[name]
    if job.kind != kind or job.state != Job.State.DONE:
        raise Http404
    card = job.params["card"]
    stem = f"{card['name']}-v{card['version']}-{file}"
    return attachment(job.folder / file, re.sub(r"[^A-Za-z0-9._-]+", "-", stem), sha256=job.result.get("sha256", ""))
