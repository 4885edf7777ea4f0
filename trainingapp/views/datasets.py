"""Pages of the datasets."""

import uuid
from pathlib import Path
from typing import TypedDict

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.codes import TITLES
from trainingapp.datasets.decisions import CANCELLED
from trainingapp.datasets.forms import ConfirmForm, ImportForm
from trainingapp.datasets.importing.importer import check_upload
from trainingapp.datasets.options import ImportOptions
from trainingapp.datasets.reading_choices import ReadingForm, current_reading, reading_view
from trainingapp.datasets.report import DatasetError, Level, ReportItem, item_text, rendered_items
from trainingapp.datasets.storing import store_jobs
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError
from trainingapp.runs.forms import ShareForm
from trainingapp.views.access import controlled_dataset, require, visible_dataset
from trainingapp.views.dataset_figures import figures_context
from trainingapp.views.dataset_images import images_context, lacks_outlines
from trainingapp.views.redirects import leave_for

DATASETS_ON_A_PAGE = 25
#: Entries of the audit trail on the page of a dataset; the audit page has the rest.
ENTRIES_SHOWN = 50
#: Findings listed below a heading of the report; the others are below their own heading.
FILES_NAMED = 3
#: Reasons shown at the field of a source that is refused immediately.
REASONS_NAMED = 5
#: States after the import, in which the report is that of the import.
DECIDED = (Dataset.Status.READY, Dataset.Status.REFUSED)
#: States in which a worker processes the dataset; the page is updated regularly.
AT_WORK = (Dataset.Status.INSPECTING, Dataset.Status.IMPORTING)


@require_safe
def dataset_list(request: HttpRequest) -> HttpResponse:
    """All datasets, newest first."""
    seen = visible_to(request.user, Dataset.objects.all())
    rows = seen.select_related("owner").annotate(run_count=Count("runs")).order_by("-created_at", "-pk")
    page = Paginator(rows, DATASETS_ON_A_PAGE).get_page(request.GET.get("page"))
    importing = any(dataset.status in AT_WORK for dataset in page)
    template = "datasets/_table.html" if getattr(request, "htmx", None) else "datasets/list.html"
    context = {"page": page, "importing": importing, "section": "datasets", "creates": can(request.user, Verb.CREATE)}
    return render(request, template, context)


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_import(request: HttpRequest) -> HttpResponse:
    """Start an import from an uploaded archive or a folder of the server."""
    require(request, Verb.CREATE)
    form = ImportForm(request.POST or None, request.FILES or None, user=request.user)
    if form.is_valid() and (dataset := _started_import(request, form)):
        page = reverse("dataset_detail", args=[dataset.pk])
        return leave_for(request, page)
    context = {
        "section": "datasets",
        "form": form,
        "max_bytes": settings.MAX_UPLOAD_BYTES,
        "import_dirs": settings.IMPORT_DIRS,
    }
    template = "datasets/_import_form.html" if getattr(request, "htmx", None) else "datasets/import.html"
    return render(request, template, context, status=422 if form.is_bound else 200)


def _started_import(request: HttpRequest, form: ImportForm) -> Dataset | None:
    """The new dataset; None when the source is refused, with the reason as an error of the form."""
    upload = form.cleaned_data["archive"]
    source: Path
    if upload:  # Django has stored it on the right disk already, so that it is renamed, not copied
        source = Path(upload.temporary_file_path()).rename(settings.UPLOADS_DIR / f"{uuid.uuid4().hex}.zip")
    else:
        source = form.cleaned_data["folder"]
    try:
        if upload:
            check_upload(source)
        name = form.cleaned_data["name"]
        return dataset_verbs.start_import(owner=request.user, name=name, source=source, source_is_upload=bool(upload))
    except (DatasetError, VerbError) as error:
        items = error.items[:REASONS_NAMED] if isinstance(error, DatasetError) else []
        form.add_error("archive" if upload else "folder", "\n".join(map(item_text, items)) or str(error))
        if upload:
            source.unlink(missing_ok=True)
        return None


@require_safe
def dataset_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One dataset: the progress of its import, its report, its classes and its images."""
    dataset = visible_dataset(request, pk)
    controls = can(request.user, Verb.CONTROL, dataset)
    reading = _reading_form(dataset) if controls and dataset.can_be_read_again else None
    form = None
    if dataset.status == Dataset.Status.PROPOSED and controls:
        form = _confirm_form(dataset, reading or _reading_form(dataset))
    return _detail(request, dataset, form, reading)


def _reading_form(dataset: Dataset, data: QueryDict | None = None) -> ReadingForm:
    return ReadingForm(data, offers=dataset.reading.get("offers", []), current=current_reading(dataset.options))


def _confirm_form(dataset: Dataset, reading: ReadingForm, data: QueryDict | None = None) -> ConfirmForm:
    entered = ImportOptions.model_validate(dataset.options) if dataset.options else None
    return ConfirmForm(data, proposal=dataset.proposal, reading=reading, entered=entered)


def _detail(
    request: HttpRequest, dataset: Dataset, form: ConfirmForm | None, reading: ReadingForm | None
) -> HttpResponse:
    """The page of a dataset, or the part that htmx requests; `form` has the options of its import, `reading` those of
    reading its source again."""
    report = dataset.report if dataset.status in DECIDED else dataset.proposal.get("report", [])
    if dataset.is_inspecting:  # an earlier proposal is about another way to read the source
        report = []
    context: dict[str, object] = {
        "section": "datasets",
        "dataset": dataset,
        "controls": can(request.user, Verb.CONTROL, dataset),
        "deletes": can(request.user, Verb.DELETE, dataset),
        "creates": can(request.user, Verb.CREATE),
        "sharing": ShareForm(dataset) if can(request.user, Verb.SHARE, dataset) else None,
        "trail": audit.entries_of(dataset)[:ENTRIES_SHOWN],
        "form": form,
        "reading_form": reading,
        "reading": reading_view(dataset.reading) if dataset.reading and not dataset.is_inspecting else None,
        "report": grouped_report(report),
        "at_work": dataset.status in AT_WORK,
        "is_cancelled": any(item["code"] == CANCELLED for item in report),
    }
    if dataset.status in AT_WORK and can(request.user, Verb.CONTROL, dataset):
        context["cancel_url"] = reverse("dataset_cancel", args=[dataset.pk])
    if dataset.status == Dataset.Status.READY:
        context |= images_context(request, dataset) | figures_context(dataset)
        context["lacks_outlines"] = lacks_outlines(dataset)
        if settings.OBJECT_STORE_URL:
            context |= {"has_object_store": True, "store_job": store_jobs(dataset).first()}
    if any(item["code"] == "same_content" for item in report):
        context["same_content"] = _same_content(request, dataset)
    target = request.headers.get("HX-Target")
    parts = {"dataset": "_body.html", "images": "_images.html", "dataset-store": "_store.html"}
    template = f"datasets/{parts[target]}" if target in parts else ""
    is_bound = any(one is not None and one.is_bound for one in (form, reading))
    return render(request, template or "datasets/detail.html", context, status=422 if is_bound else 200)


def _same_content(request: HttpRequest, dataset: Dataset) -> QuerySet[Dataset]:
    """Other ready datasets with the same content that the user may see."""
    others = visible_to(request.user, Dataset.objects.filter(status=Dataset.Status.READY)).exclude(pk=dataset.pk)
    return others.filter(fingerprint=dataset.fingerprint) if dataset.fingerprint else others.none()


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_confirm(request: HttpRequest, pk: int) -> HttpResponse:
    """Import the proposal with the options of the form. A GET request, as after signing in, is redirected."""
    dataset = controlled_dataset(request, pk)
    if request.method != "POST":
        return redirect(dataset)
    if dataset.status != Dataset.Status.PROPOSED:
        messages.warning(request, _("“%(name)s” is no longer waiting for confirmation.") % {"name": dataset.name})
        return redirect(dataset)
    reading = _reading_form(dataset, request.POST)
    form = _confirm_form(dataset, reading, request.POST)
    if reading.is_valid() and reading.reading != reading.current:
        # What the page shows is no longer how the source would be read: it is inspected before it is imported.
        return _read_again(request, dataset, form.draft(reading.reading))
    if not form.is_valid() or not reading.is_valid():
        return _detail(request, dataset, form, reading)
    try:
        dataset_verbs.confirm_import(dataset, form.options, by=request.user.get_username())
    except VerbError as error:
        messages.error(request, str(error))
    return redirect(dataset)


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_read_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Inspect the source again with the choices of the review. A GET request, as after signing in, is redirected."""
    dataset = controlled_dataset(request, pk)
    if request.method != "POST":
        return redirect(dataset)
    reading = _reading_form(dataset, request.POST)
    form = _confirm_form(dataset, reading, request.POST) if dataset.is_proposed else None
    if not reading.is_valid():
        return _detail(request, dataset, form, reading)
    entered = ImportOptions.model_validate(dataset.options)
    options = form.draft(reading.reading) if form else entered.model_copy(update={"reading": reading.reading})
    return _read_again(request, dataset, options)


def _read_again(request: HttpRequest, dataset: Dataset, options: ImportOptions) -> HttpResponse:
    try:
        dataset_verbs.read_again(dataset, options, by=request.user.get_username())
    except VerbError as error:
        messages.error(request, str(error))
    return redirect(dataset)


@require_POST
def dataset_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel the inspection or the import."""
    dataset = controlled_dataset(request, pk)
    try:
        dataset_verbs.cancel_import(dataset, by=request.user.get_username())
    except VerbError as error:
        messages.warning(request, str(error))
    return redirect(dataset)


@require_POST
def dataset_store(request: HttpRequest, pk: int) -> HttpResponse:
    """Copy the dataset into the object store, or compare it with its copy there."""
    dataset = controlled_dataset(request, pk)
    try:
        dataset_verbs.store_dataset(dataset, by=request.user.get_username())
    except VerbError as error:
        messages.warning(request, str(error))
    return redirect(dataset)


class ReportGroup(TypedDict):
    """The findings of one level and category with their texts: the first few and `others`.

    `count` is the number of files or images of all, `more` that of the others.
    """

    level: Level
    code: str
    title: str
    items: list[ReportItem]
    others: list[ReportItem]
    count: int
    more: int


def grouped_report(report: list[ReportItem]) -> list[ReportGroup]:
    """The report by level and category, errors first."""
    groups: dict[tuple[Level, str], list[ReportItem]] = {}
    for item in sorted(report, key=lambda item: (item["level"] != "error", item["code"])):
        groups.setdefault((item["level"], item["code"]), []).append(item)
    shown: list[ReportGroup] = []
    for (level, code), items in groups.items():
        count = sum(item.get("count", 1) for item in items)
        texts = rendered_items(items)
        first, others = texts[:FILES_NAMED], texts[FILES_NAMED:]
        title = str(TITLES.get(code, first[0]["message"]))
        more = count - sum(item.get("count", 1) for item in first)
        shown.append(
            {
                "level": level,
                "code": code,
                "title": title,
                "items": first,
                "others": others,
                "count": count,
                "more": more,
            }
        )
    return shown


@require_http_methods(["GET", "HEAD", "POST"])
def dataset_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete the dataset after a page that shows its size and the runs that use it."""
    dataset = controlled_dataset(request, pk, Verb.DELETE)
    if request.method == "POST":
        try:
            dataset_verbs.delete_dataset(dataset)
        except VerbError as error:
            messages.error(request, str(error))
            return redirect(dataset)
        messages.success(request, _("“%(name)s” and its files were deleted.") % {"name": dataset.name})
        return redirect("dataset_list")
    size = dataset_verbs.dataset_deletion_size(dataset)
    runs, twins = visible_to(request.user, dataset.runs.all())[:50], _same_content(request, dataset)
    return render(request, "datasets/delete.html", {"dataset": dataset, "size": size, "runs": runs, "twins": twins})
