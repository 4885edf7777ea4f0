"""Pages of the datasets."""

import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRedirect

from trainingapp import lifecycle
from trainingapp.dataset_forms import ImportForm
from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.importer import check_upload
from trainingapp.datasets.previews import picture_page, thumbnail
from trainingapp.models import Dataset
from trainingapp.permissions import can_control
from trainingapp.views.access import controlled_dataset

DATASETS_ON_A_PAGE = 25
PICTURES_ON_A_PAGE = 60
#: Files named below one line of the report; the rest is counted.
FILES_NAMED = 20


@require_safe
def dataset_list(request: HttpRequest) -> HttpResponse:
    """All datasets, newest first."""
    rows = Dataset.objects.select_related("owner").annotate(run_count=Count("runs")).order_by("-created_at", "-pk")
    page = Paginator(rows, DATASETS_ON_A_PAGE).get_page(request.GET.get("page"))
    importing = any(dataset.status == Dataset.Status.IMPORTING for dataset in page)
    template = "datasets/_table.html" if getattr(request, "htmx", None) else "datasets/list.html"
    return render(request, template, {"page": page, "importing": importing, "section": "datasets"})


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_import(request: HttpRequest) -> HttpResponse:
    """Upload a zip or name a folder of the server; a worker does the rest."""
    form = ImportForm(request.POST or None, request.FILES or None, user=request.user)
    if form.is_valid() and (dataset := _started_import(request, form)):
        page = reverse("dataset_detail", args=[dataset.pk])
        return HttpResponseClientRedirect(page) if getattr(request, "htmx", None) else redirect(page)
    context = {
        "section": "datasets",
        "form": form,
        "max_bytes": settings.MAX_UPLOAD_BYTES,
        "import_dirs": settings.IMPORT_DIRS,
    }
    template = "datasets/_import_form.html" if getattr(request, "htmx", None) else "datasets/import.html"
    return render(request, template, context, status=422 if form.is_bound else 200)


def _started_import(request: HttpRequest, form: ImportForm) -> Dataset | None:
    """The new dataset; None when the source is refused, with the reason in the form."""
    upload = form.cleaned_data["archive"]
    source: Path = _kept_upload(upload) if upload else form.cleaned_data["folder"]
    try:
        if upload:
            check_upload(source)
        name = form.cleaned_data["name"]
        return lifecycle.start_import(owner=request.user, name=name, source=source, source_is_upload=bool(upload))
    except (DatasetError, lifecycle.VerbError) as error:
        form.add_error("archive" if upload else "folder", str(error))
        if upload:
            source.unlink(missing_ok=True)
        return None


def _kept_upload(upload: TemporaryUploadedFile) -> Path:
    """The uploaded file under a name of its own: it lies on the right disk already."""
    return Path(upload.temporary_file_path()).rename(settings.UPLOADS_DIR / f"{uuid.uuid4().hex}.zip")


@require_safe
def dataset_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One dataset: how its import goes, what was found wrong, its classes and its pictures."""
    dataset = get_object_or_404(Dataset.objects.select_related("owner"), pk=pk)
    context: dict[str, Any] = {
        "section": "datasets",
        "dataset": dataset,
        "controls": can_control(request.user, dataset),
    }
    if dataset.status == Dataset.Status.READY:
        context |= _pictures(request, dataset) | {"classes": _class_counts(dataset)}
    context["report"] = grouped_report(dataset.report)
    target = request.headers.get("HX-Target")
    template = {"dataset": "datasets/_body.html", "pictures": "datasets/_pictures.html"}.get(target or "")
    return render(request, template or "datasets/detail.html", context)


def _pictures(request: HttpRequest, dataset: Dataset) -> dict[str, Any]:
    """One page of the pictures that the filter lets through."""
    split = request.GET.get("split", "") if request.GET.get("split") in ("train", "val") else ""
    label = request.GET.get("class", "")
    number = max(1, int(request.GET.get("page", "1"))) if request.GET.get("page", "1").isdecimal() else 1
    chosen = int(label) if label.isdecimal() and int(label) < len(dataset.classes) else None
    offset = (number - 1) * PICTURES_ON_A_PAGE
    found = picture_page(dataset, split=split or None, label=chosen, offset=offset, limit=PICTURES_ON_A_PAGE)
    pages = Paginator(range(found.total), PICTURES_ON_A_PAGE).get_page(number)
    shown = [(picture, dataset.classes[picture.label]) for picture in found.pictures]
    return {"pictures": shown, "page": pages, "split": split, "label": chosen}


def _class_counts(dataset: Dataset) -> list[dict[str, Any]]:
    """Pictures of each class by split; `share` is that of the largest class."""
    rows = [
        {"name": name, **{split: dataset.counts.get(split, {}).get(name, 0) for split in ("train", "val")}}
        for name in dataset.classes
    ]
    most = max((row["train"] + row["val"] for row in rows), default=1) or 1
    return [row | {"total": row["train"] + row["val"], "most": most} for row in rows]


def grouped_report(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The report by level and code, errors first: {level, code, message, files, count, more}."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in sorted(report, key=lambda item: (item["level"] != "error", item["code"])):
        groups.setdefault((item["level"], item["code"]), []).append(item)
    shown = []
    for (level, code), items in groups.items():
        count = sum(item.get("count", 1) for item in items)
        named = items[:FILES_NAMED]
        more = count - sum(item.get("count", 1) for item in named)
        shown.append({"level": level, "code": code, "items": named, "count": count, "more": more})
    return shown


@require_safe
@cache_control(private=True, max_age=86_400, immutable=True)
def dataset_picture(request: HttpRequest, pk: int, path: str) -> HttpResponse:
    """A small picture. The pictures of a dataset never change."""
    dataset = get_object_or_404(Dataset, pk=pk, status=Dataset.Status.READY)
    try:
        return HttpResponse(thumbnail(dataset, path).read_bytes(), content_type="image/webp")
    except FileNotFoundError:
        raise Http404 from None


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, saying how much goes and which runs stand in the way, and delete."""
    dataset = controlled_dataset(request, pk)
    if request.method == "POST":
        try:
            lifecycle.delete_dataset(dataset)
        except lifecycle.VerbError as error:
            messages.error(request, str(error))
            return redirect(dataset)
        messages.success(request, _("“%(name)s” and its files were deleted.") % {"name": dataset.name})
        return redirect("dataset_list")
    size = lifecycle.dataset_deletion_size(dataset)
    return render(request, "datasets/delete.html", {"dataset": dataset, "size": size, "runs": dataset.runs.all()[:50]})
