"""Pages of the library of weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, sees
from trainingapp.accounts.users import AnyUser, signed_in
from trainingapp.contract.limits import ALIAS_LENGTH
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Job, TrainingRun, Weights
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.numbers import metric
from trainingapp.runs.forms import ShareForm
from trainingapp.views.access import controlled_run, explain_missing_task, require, visible_weights, weights_seen_by
from trainingapp.views.files import attachment
from trainingapp.views.redirects import leave_for
from trainingapp.weights import verbs as weights_verbs
from trainingapp.weights.aliases import USUAL, aliases_of, remove_alias, set_alias
from trainingapp.weights.forms import AboutForm, ExportForm, SaveForm, UploadForm

WEIGHTS_ON_A_PAGE = 30
DEEPEST = 4
#: Entries of the audit trail on the page of a model; the audit page has the rest.
ENTRIES_SHOWN = 50
#: Versions, and metrics of them, in the table of a model. The list of models finds the others by name.
VERSIONS_SHOWN = 50
VERSION_METRICS = 4
#: Metrics that the list shows, the first that there is.
MAIN_METRICS = ("ap", "top1", "mean_iou", "ap50", "macro_f1", "dice", "pixel_accuracy", "loss")


@require_safe
def weights_list(request: HttpRequest) -> HttpResponse:
    """The library as a tree: what was trained from what. By task, alias and search text; htmx gets the table alone."""
    query, task = request.GET.get("q", "").strip(), request.GET.get("task", "")
    alias = request.GET.get("alias", "").strip().lower()
    seen = weights_seen_by(request.user)
    found = seen.filter(Q(name__icontains=query) | Q(note__icontains=query) | Q(architecture__icontains=query))
    if alias:
        found = found.filter(aliases__alias=alias)
    rows = found.filter(task=task) if task in TASKS else found
    page = Paginator(tree_order(rows.values_list("pk", "parent_id")), WEIGHTS_ON_A_PAGE).get_page(
        request.GET.get("page")
    )
    listed = seen.annotate(parent_is_seen=sees(request.user, Weights, "parent_id"))
    by_pk = listed.select_related("owner", "parent", "run").in_bulk([pk for pk, _depth in page])
    aliases = aliases_of(by_pk)
    context = {
        "page": page,
        "rows": [
            ShownRow(weights=by_pk[pk], depth=depth, result=main_metric(by_pk[pk]), aliases=aliases.get(pk, []))
            for pk, depth in page
        ],
        "alias": alias,
        "aliases": list(seen.exclude(aliases=None).values_list("aliases__alias", flat=True).distinct()),
        "query": query,
        "task": task,
        "counts": [(name, found.filter(task=name).count()) for name in TASKS],
        "total": found.count(),
        "has_weights": seen.exists(),
        "creates": can(request.user, Verb.CREATE),
        "section": "weights",
    }
    is_part = request.headers.get("HX-Target") == "weights" and "HX-History-Restore-Request" not in request.headers
    return render(request, "weights/_table.html" if is_part else "weights/list.html", context)


def tree_order(pairs: Iterable[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """(pk, depth) of each, children below their parent, otherwise in the order given."""
    pairs = list(pairs)
    known = {pk for pk, _parent in pairs}
    children: dict[int | None, list[int]] = {}
    for pk, parent in pairs:
        children.setdefault(parent if parent in known else None, []).append(pk)
    ordered, stack = [], [(pk, 0) for pk in reversed(children.get(None, []))]
    while stack:
        pk, depth = stack.pop()
        ordered.append((pk, min(depth, DEEPEST)))
        stack += [(child, depth + 1) for child in reversed(children.get(pk, []))]
    return ordered


class ShownRow(TypedDict):
    """A row of the list: how deep it is indented, its aliases, and the (name, value) of its most important metric."""

    weights: Weights
    depth: int
    aliases: list[str]
    result: tuple[str, str] | None


class ShownVersion(TypedDict):
    """A version in the table of all versions: its aliases, and its values of the metrics that the table shows."""

    weights: Weights
    aliases: list[str]
    values: list[tuple[str, float | None]]


def main_metric(weights: Weights) -> tuple[str, str] | None:
    """(name, value) of the main metric."""
    wanted = [weights.config.get("best_metric", ""), *MAIN_METRICS]
    name = next((name for name in wanted if name in weights.metrics), None)
    return (name, metric(weights.metrics[name], name)) if name else None


def versions_table(weights: Weights, reader: AnyUser) -> tuple[list[str], list[ShownVersion], int]:
    """The metrics that are shown, the newest versions of the name, and how many the reader may see in all."""
    seen = weights_seen_by(reader).filter(name=weights.name)
    listed = list(seen.order_by("-version").annotate(run_is_seen=sees(reader, TrainingRun, "run_id"))[:VERSIONS_SHOWN])
    wanted = [weights.config.get("best_metric", ""), *MAIN_METRICS]
    names = [name for name in dict.fromkeys(wanted) if any(name in one.metrics for one in listed)]
    names = names[:VERSION_METRICS]
    aliases = aliases_of([one.pk for one in listed])
    rows = [
        ShownVersion(
            weights=one, aliases=aliases.get(one.pk, []), values=[(name, one.metrics.get(name)) for name in names]
        )
        for one in listed
    ]
    return names, rows, seen.count()


@require_safe
def weights_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One entry: what it is, where it comes from, what was made from it. htmx asks again until its file is made."""
    weights = visible_weights(request, pk)
    uses = weights_verbs.weights_uses(weights, request.user)
    ancestors: list[Weights] = []
    parent = weights.parent
    while parent is not None and parent not in ancestors:
        ancestors.append(parent)
        parent = parent.parent
    metrics, versions, version_count = versions_table(weights, request.user)
    context = {
        "section": "weights",
        "weights": weights,
        "changes": can(request.user, Verb.CHANGE, weights),
        "deletes": can(request.user, Verb.DELETE, weights),
        "creates": can(request.user, Verb.CREATE),
        "is_installed": weights.task in TASKS,
        "sharing": ShareForm(weights) if can(request.user, Verb.SHARE, weights) else None,
        "trail": audit.entries_of(weights)[:ENTRIES_SHOWN],
        "uses": uses,
        "versions": versions,
        "version_count": version_count,
        "version_metrics": metrics,
        "aliases": aliases_of([weights.pk]).get(weights.pk, []),
        "usual_aliases": USUAL,
        "alias_length": ALIAS_LENGTH,
        "ancestors": [one for one in reversed(ancestors) if can(request.user, Verb.SEE, one)],
        "origin_is_seen": weights.run is not None and can(request.user, Verb.SEE, weights.run),
        "exports": weights.report.get("exports", {}),
        "export_jobs": weights_verbs.exports_of(weights, request.user),
    }
    is_part = request.headers.get("HX-Target") == "entry"
    return render(request, "weights/_entry.html" if is_part else "weights/detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def weights_save(request: HttpRequest, pk: int) -> HttpResponse:
    """Save a checkpoint of a run: the best one, or that of ?file=."""
    run = controlled_run(request, pk)
    saved = list(run.checkpoints.all())
    label = _("%(file)s, epoch %(epoch)d")
    best = _("best")
    checkpoints = [
        (one.file, label % {"file": one.file, "epoch": one.epoch} + (f" ({best})" if one.is_best else ""))
        for one in saved
    ]
    wanted = request.GET.get("file", "")
    initial: dict[str, object] = {"name": run.name}
    initial["file"] = wanted or next((one.file for one in saved if one.is_best), "")
    form = SaveForm(_posted(request), checkpoints=checkpoints, initial=initial)
    if form.is_valid():
        try:
            weights = weights_verbs.save_weights(run, **form.cleaned_data, by=signed_in(request.user))
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            return redirect(weights)
    form.mark()
    context = {"form": form, "run": run, "has_checkpoints": bool(checkpoints), "section": "weights"}
    return render(request, "weights/save.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def weights_upload(request: HttpRequest) -> HttpResponse:
    """Take in a file of weights; a worker finds out how much of it fits the network that the form names."""
    require(request, Verb.CREATE)
    form = UploadForm(_posted(request), request.FILES or None)
    is_htmx = bool(getattr(request, "htmx", None))
    if form.is_valid():
        values = dict(form.cleaned_data)
        file = values.pop("file")
        path = Path(file.temporary_file_path())
        owner = signed_in(request.user)
        try:
            weights = weights_verbs.upload_weights(owner=owner, path=path, file_name=file.name, **values)
        except VerbError as error:
            form.add_error("file", str(error))
        else:
            return leave_for(request, weights.get_absolute_url())
    form.mark()
    architectures = sorted({name for task in TASKS.values() for name in task.architectures})
    context = {"form": form, "architectures": architectures, "section": "weights"}
    template = "weights/_upload_form.html" if is_htmx else "weights/upload.html"
    return render(request, template, context, status=422 if form.is_bound else 200)


def _posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to: an empty POST is one too."""
    return request.POST if request.method == "POST" else None


@require_http_methods(["GET", "HEAD", "POST"])
def weights_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change name, note and licence."""
    weights = visible_weights(request, pk, Verb.CHANGE)
    initial = {name: getattr(weights, name) for name in ("name", "note", "licence")}
    form = AboutForm(_posted(request), initial=initial)
    if form.is_valid():
        try:
            return redirect(weights_verbs.update_weights(weights, **form.cleaned_data))
        except VerbError as error:
            form.add_error(None, str(error))
    form.mark()
    context = {"form": form, "weights": weights, "section": "weights"}
    return render(request, "weights/edit.html", context, status=422 if form.is_bound else 200)


@require_POST
def weights_alias(request: HttpRequest, pk: int) -> HttpResponse:
    """Give the version an alias, or take the one of `remove` from it."""
    weights = visible_weights(request, pk, Verb.CHANGE)
    removed = request.POST.get("remove", "")
    try:
        if removed:
            remove_alias(weights, removed)
            done = _("“%(name)s” no longer has the alias “%(alias)s”.")
        else:
            set_alias(weights, request.POST.get("alias", ""), by=request.user)
            done = _("“%(name)s” now has the alias “%(alias)s”.")
    except VerbError as error:
        messages.error(request, str(error))
    else:
        alias = (removed or request.POST["alias"]).strip().lower()
        messages.success(request, done % {"name": weights, "alias": alias})
    return redirect(f"{weights.get_absolute_url()}#versions")


@require_http_methods(["GET", "HEAD", "POST"])
def weights_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, saying how much goes and what was made from it, and delete."""
    weights = visible_weights(request, pk, Verb.DELETE)
    if request.method == "POST":
        try:
            weights_verbs.delete_weights(weights)
        except VerbError as error:
            messages.error(request, str(error))
            return redirect(weights)
        messages.success(request, _("“%(name)s” and its files were deleted.") % {"name": weights})
        return redirect("weights_list")
    size, uses = weights_verbs.weights_deletion_size(weights), weights_verbs.weights_uses(weights, request.user)
    aliases = aliases_of([weights.pk]).get(weights.pk, [])
    context = {"weights": weights, "size": size, "uses": uses, "aliases": aliases, "section": "weights"}
    return render(request, "weights/delete.html", context)


@require_safe
def weights_download(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The file as stored."""
    weights = visible_weights(request, pk, Verb.DOWNLOAD)
    return attachment(weights.path, f"{file_stem(weights)}.safetensors", sha256=weights.sha256)


def file_stem(weights: Weights) -> str:
    return f"{slugify(weights.name) or 'weights'}-v{weights.version}"


@require_http_methods(["GET", "HEAD", "POST"])
def weights_export(request: HttpRequest, pk: int) -> HttpResponse:
    """Choose formats and have them packed; the page then follows the job."""
    weights = visible_weights(request, pk)
    require(request, Verb.CREATE)
    if request.method != "POST" and explain_missing_task(request, weights.task):
        return redirect(weights)
    form = ExportForm(_posted(request), task=weights.task)
    if form.is_valid():
        try:
            formats, by = form.cleaned_data["formats"], signed_in(request.user)
            job = weights_verbs.export_weights(weights, formats=formats, options=form.options(), by=by)
        except VerbError as error:
            form.add_error(None, str(error))
        else:
            return redirect(f"{reverse('weights_export', args=[weights.pk])}?job={job.pk}")
    form.mark()
    own = Job.objects.filter(owner_id=request.user.pk, kind=Job.Kind.EXPORT)[:50]
    shown = next((each for each in own if str(each.pk) == request.GET.get("job")), None)
    context = {"form": form, "weights": weights, "job": shown, "section": "weights"}
    context["export_jobs"] = [] if shown else weights_verbs.exports_of(weights, request.user)
    context["result_template"] = "jobs/_export.html"
    return render(request, "weights/export.html", context, status=422 if form.is_bound else 200)
