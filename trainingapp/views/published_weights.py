"""Pages of the published weights: what is in the cache, and how more gets into it."""

from pathlib import Path

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts.permissions import Verb, can
from trainingapp.accounts.users import signed_in
from trainingapp.contract.limits import PATH_LENGTH, SEARCH_LENGTH
from trainingapp.models.verbs import VerbError
from trainingapp.views.access import require
from trainingapp.views.jobs import started_job
from trainingapp.views.redirects import leave_for
from trainingapp.weights import published
from trainingapp.weights.forms import MarkedForm

STATES = ("", "cached", "missing")


class ManyFilesInput(forms.FileInput):
    """An input for several files, which Django's own refuses."""

    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Several files; the value is their list."""

    def clean(self, data: object, initial: object = None) -> list[UploadedFile]:
        given = data if isinstance(data, list) else [data]
        return [super(ManyFilesField, self).clean(one, initial) for one in given if one]


class ImportForm(MarkedForm):
    """A zip or files of weights, or a folder of the server."""

    uploads = ManyFilesField(
        label=gettext_lazy("Files"),
        required=False,
        help_text=gettext_lazy(
            "A zip with any folders in it, or the files themselves. Files of Hugging Face, which are all called "
            "model.safetensors, need a folder or a name such as timm--resnet10t.c3_in1k.safetensors."
        ),
        widget=ManyFilesInput({"class": "form-control", "accept": ".zip,.safetensors,.pt,.pth,.bin", "multiple": True}),
    )
    folder = forms.CharField(
        label=gettext_lazy("Or a folder on the server"),
        required=False,
        max_length=PATH_LENGTH,
        help_text=gettext_lazy("For example the cache of another machine: ~/.cache/torch or ~/.cache/huggingface."),
        widget=forms.TextInput({"class": "form-control", "placeholder": "/srv/weights"}),
    )

    @property
    def max_bytes(self) -> int:
        """The limit that the script of the page checks before an upload."""
        return int(settings.MAX_UPLOAD_BYTES)

    def clean(self) -> dict[str, object]:
        uploads, folder = self.cleaned_data.get("uploads", []), self.cleaned_data.get("folder")
        if bool(uploads) == bool(folder) and not self.errors:
            self.add_error("uploads", _("Choose files, or name a folder."))
        if sum(file.size or 0 for file in uploads) > settings.MAX_UPLOAD_BYTES:
            limit = settings.MAX_UPLOAD_BYTES // 1024**2
            self.add_error("uploads", _("The files are larger than the limit of %(limit)s MB.") % {"limit": limit})
        return self.cleaned_data


@require_safe
def published_list(request: HttpRequest) -> HttpResponse:
    """All published weights, with what they are for; htmx gets the table alone."""
    query, state = request.GET.get("q", "").strip()[:SEARCH_LENGTH], request.GET.get("state", "")
    state = state if state in STATES else ""
    everything = published.entries()
    found = [one for one in everything if not query or _matches(one, query.casefold())]
    cached = sum(one.is_cached for one in found)
    context = {
        "entries": [one for one in found if not state or one.is_cached == (state == "cached")],
        "filters": [
            (None, _("All"), len(found)),
            ("cached", _("In the cache"), cached),
            ("missing", _("Not in the cache"), len(found) - cached),
        ],
        "query": query,
        "only": state or None,
        "cached_bytes": sum(one.size_bytes for one in everything),
        "mode": settings.PUBLISHED_WEIGHTS,
        "fetches": can(request.user, Verb.CREATE) and settings.PUBLISHED_WEIGHTS == "download",
        "administers": can(request.user, Verb.ADMINISTER),
        "section": "weights",
    }
    is_part = request.headers.get("HX-Target") == "published" and "HX-History-Restore-Request" not in request.headers
    return render(request, "weights/_published_table.html" if is_part else "weights/published.html", context)


def _matches(one: published.Entry, query: str) -> bool:
    texts = (one.name, one.published.licence, one.published.data, *one.networks)
    return any(query in text.casefold() for text in texts)


@require_POST
def published_fetch(request: HttpRequest) -> HttpResponse:
    """Have a worker download a file; the row then follows the job."""
    require(request, Verb.CREATE)
    try:
        job = published.request_fetch(request.POST.get("name", ""), by=signed_in(request.user))
    except VerbError as error:
        if getattr(request, "htmx", None):
            return render(request, "_problem_line.html", {"problem": str(error)}, status=422)
        messages.error(request, str(error))
        return redirect("published_list")
    return started_job(request, job)


@require_http_methods(["GET", "HEAD", "POST"])
def published_import(request: HttpRequest) -> HttpResponse:
    """Take in a zip, files or a folder of the server; a worker checks and copies them."""
    require(request, Verb.ADMINISTER)
    form = ImportForm(request.POST if request.method == "POST" else None, request.FILES or None)
    if form.is_valid():
        folder = form.cleaned_data["folder"]
        uploads = [(file.name or "", Path(file.temporary_file_path())) for file in form.cleaned_data["uploads"]]
        try:
            job = published.request_import(
                uploads, folder=Path(folder).expanduser() if folder else None, by=signed_in(request.user)
            )
        except VerbError as error:
            form.add_error("folder" if folder else "uploads", str(error))
        else:
            return leave_for(request, reverse("job", args=[job.pk]))
    form.mark()
    template = "_published_form" if getattr(request, "htmx", None) else "published_import"
    context = {"form": form, "section": "weights"}
    return render(request, f"weights/{template}.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def published_delete(request: HttpRequest) -> HttpResponse:
    """Ask, saying how much goes, and delete the file of ?name=."""
    require(request, Verb.ADMINISTER)
    name = (request.POST if request.method == "POST" else request.GET).get("name", "")
    try:
        found = published.entry(name)
        if request.method == "POST":
            freed = published.delete_published(name, by=signed_in(request.user))
            text = _("“%(name)s” was deleted, %(bytes)s freed.")
            messages.success(request, text % {"name": name, "bytes": filesizeformat(freed)})
            return redirect("published_list")
    except VerbError as error:
        if request.method != "POST":
            raise Http404 from None
        messages.error(request, str(error))
        return redirect("published_list")
    if not found.is_cached:
        raise Http404
    return render(request, "weights/published_delete.html", {"entry": found, "section": "weights"})
