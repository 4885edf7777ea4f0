"""The list of runs: its page, the same as CSV, what is done to selected runs, stars and saved views."""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts.permissions import Verb, can, refusal, visible_to
from trainingapp.accounts.users import signed_in
from trainingapp.contract.limits import MAX_TAGS, NAME_LENGTH, NOTE_LENGTH, TAG_LENGTH
from trainingapp.models import SavedView, Sweep, TrainingRun
from trainingapp.models.run import LARGE_COLUMNS
from trainingapp.models.text import stored_numbers
from trainingapp.models.verbs import DeletionSize, FieldError, VerbError
from trainingapp.presentation.badges import star_button
from trainingapp.presentation.labels import STATUSES, task_label
from trainingapp.presentation.text import Text
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.columns import NAME, SECTIONS, Column, shown_columns
from trainingapp.runs.conditions import ConditionError
from trainingapp.runs.forms import mark_errors, ready_datasets
from trainingapp.runs.keyset import KeysetPage, KeysetPaginator, as_position
from trainingapp.runs.organizing import save_view, star_run, tag_names
from trainingapp.runs.run_list import (
    GROUPS,
    RUNS_ON_A_PAGE,
    Facets,
    Option,
    RunQuery,
    csv_rows,
    faceted,
    found_runs,
    grouped,
    keyed,
    listed,
    tags_offered,
    with_cells,
)
from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import controlled_run, visible_run
from trainingapp.views.journal import unseen_restart

#: What chooses a page in the address of the list; the links of filters and columns lead to the first one.
PLACES = frozenset({"page", "before", "after"})
#: Runs that one request of the selection may name.
MOST_SELECTED = 200


@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    """The runs that the address chooses, as a page; htmx gets the table alone."""
    query = RunQuery.of(request.GET)
    is_part = request.headers.get("HX-Target") == "runs" and "HX-History-Restore-Request" not in request.headers
    context = _table(request, query) | {"section": "runs", "query": query}
    if not is_part:
        context |= {
            "has_datasets": ready_datasets(request.user).exists(),
            "creates": can(request.user, RUN_VERBS["create"].permission),
            "restart": unseen_restart(request),
        }
    response = render(request, "runs/_table.html" if is_part else "runs/list.html", context)
    if is_part and query.encoded() != request.META["QUERY_STRING"] and PLACES.isdisjoint(request.GET):
        # The form sends its empty fields too: the browser shows the short address.
        response.headers["HX-Push-Url"] = _address(query.encoded())
    return response


def _address(encoded: str) -> str:
    return f"{reverse('run_list')}{'?' if encoded else ''}{encoded}"


def _table(request: HttpRequest, query: RunQuery) -> dict[str, object]:
    """The context of the table, with its facets, columns and pages."""
    seen = visible_to(request.user, TrainingRun.objects.all())
    problem = None
    try:
        found = found_runs(request.user, query)
    except ConditionError as error:
        found, problem = seen.none(), error
    facets = Facets(found, query)
    shown = query.shown()
    page = _page(request.GET, with_cells(faceted(found, query), shown), query, facets.total)
    groups = grouped(request.user, listed(request.user, page.rows, shown), query, found, facets)
    statuses, selects = facets.counts("status"), can(request.user, Verb.CREATE)
    views = SavedView.objects.filter(user_id=signed_in(request.user).pk)
    # Tags have a field of their own; the others are possible for none of the runs listed.
    left_out = ("tag", "archive" if query.archived else "restore")
    return {
        "page": page,
        "groups": groups,
        "columns": [(column, *_sorting(query, column.name)) for column in (NAME, *shown)],
        "sorts": _sorts(query, [NAME, *shown]),
        "width": len(shown) + (3 if selects else 2),
        "pills": [*_pills(query, statuses), *_more_pills(query)],
        "facets": _facets(query, facets),
        "problem": _place(query.conditions, problem) if problem else None,
        "sections": _sections(query, {column.name for column in shown}),
        "group_choices": [(name, label, name == query.group) for name, label in GROUPS.items()],
        "views": [(view, _address(view.query), view.query == query.encoded()) for view in views],
        "encoded": query.encoded(),
        "sweep": visible_to(request.user, Sweep.objects.filter(pk=query.sweep)).first() if query.sweep else None,
        "without_sweep": _address(query.encoded(sweep=None)),
        "tags": tags_offered(),
        "has_runs": bool(facets.total) or seen.exists(),
        "verbs": [verb for verb in RUN_VERBS.for_selection().values() if verb.name not in left_out],
        "selects": selects,
    }


def _page(given: QueryDict, rows: QuerySet[TrainingRun], query: RunQuery, total: int) -> KeysetPage[TrainingRun]:
    """The page that the address chooses: after or before a position, by its number, or else the first one."""
    rows, keys = keyed(rows, query)
    pages = KeysetPaginator(rows, keys, RUNS_ON_A_PAGE, total=total)
    if "page" in given:
        return pages.numbered(str(given["page"]))
    if (before := as_position(given.get("before", ""), keys)) is not None:
        return pages.before(before)
    return pages.after(as_position(given.get("after", ""), keys))


def _place(text: str, problem: ConditionError) -> dict[str, str]:
    """What is wrong with the conditions, and the text around the place."""
    before, wrong, after = text[: problem.start], text[problem.start : problem.end], text[problem.end :]
    return {"before": before, "wrong": wrong, "after": after, "text": str(problem)}


def _sorting(query: RunQuery, name: str) -> tuple[str, str]:
    """Where the heading of a column leads, and how the list is sorted by it now: ascending, descending or ""."""
    is_now = query.sort.removeprefix("-") == name
    ascends = is_now and not query.is_descending
    # Numbers and times are mostly looked at from the greatest down.
    first, second = (name, f"-{name}") if shown_columns()[name].kind in ("text", "status") else (f"-{name}", name)
    following = second if query.sort == first else first
    return _address(query.encoded(sort=following)), ("ascending" if ascends else "descending") if is_now else ""


def _sorts(query: RunQuery, shown: Iterable[Column]) -> list[tuple[str, str, bool]]:
    """The orders to choose from: the columns of the table, upwards and downwards."""
    found = {
        f"{minus}{column.name}": f"{column.label} {arrow}"
        for column in shown
        for minus, arrow in (("", "↑"), ("-", "↓"))
    }
    if query.sort not in found:
        found[query.sort] = f"{query.order_column.label} {'↓' if query.is_descending else '↑'}"
    return [(name, label, name == query.sort) for name, label in found.items()]


def _pills(query: RunQuery, counts: dict[object, int]) -> list[dict[str, object]]:
    """The facet of the status, and what stands beside it: the user's stars and the archive."""
    pills: list[dict[str, object]] = [
        {
            "label": _("All"),
            "count": counts.get(None, 0),
            "url": _address(query.encoded(status="")),
            "is_now": not query.status,
        }
    ]
    for name in TrainingRun.Status.values:
        if name in counts or name == query.status:
            url = _address(query.encoded(status=name))
            count = counts.get(name, 0)
            is_now = name == query.status
            look = STATUSES[name]
            pills.append({"icon": look.icon, "label": look.label, "count": count, "url": url, "is_now": is_now})
    return pills


def _more_pills(query: RunQuery) -> list[dict[str, object]]:
    """What each user has starred, and the archive; each is switched on and off."""
    starred = {"icon": "bi-star-fill", "label": _("Starred"), "url": _address(query.encoded(starred=not query.starred))}
    url = _address(query.encoded(archived=not query.archived, status=""))
    archived = {"icon": "bi-archive-fill", "label": _("Archived"), "url": url}
    return [{**starred, "is_now": query.starred, "count": None}, {**archived, "is_now": query.archived, "count": None}]


def _facets(query: RunQuery, facets: Facets) -> list[tuple[str, str, str, list[Option]]]:
    """The facets that are chosen from a list: name, label, label of no choice, options."""
    tasks = {name: task_label(str(name)) for name in facets.counts("task") if name}
    datasets: dict[object, Text] = dict(facets.datasets.items())
    found = [
        ("task", _("Task"), _("All tasks"), facets.options("task", tasks)),
        ("dataset", _("Dataset"), _("All datasets"), facets.options("dataset", datasets)),
        ("owner", _("Owner"), _("All owners"), facets.options("owner", {})),
    ]
    return [
        (name, label, every, options)
        for name, label, every, options in found
        if len(options) > 1 or getattr(query, name)
    ]


def _sections(query: RunQuery, chosen: Iterable[str]) -> list[tuple[object, list[tuple[object, bool]]]]:
    """The columns to choose from, by section."""
    known = [column for column in shown_columns().values() if column.name != "name"]
    return [
        (label, [(column, column.name in chosen) for column in known if column.section == section])
        for section, label in SECTIONS.items()
    ]


class Echo:
    """A file for `csv.writer` that returns each line instead of keeping it."""

    def write(self, text: str) -> str:
        return text


@require_safe
def run_list_csv(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """All runs that the address chooses, with its columns, as CSV."""
    query = RunQuery.of(request.GET)
    try:
        found = faceted(found_runs(request.user, query), query)
    except ConditionError as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    writer = csv.writer(Echo())
    lines: Iterator[str] = (writer.writerow([_plain(value) for value in row]) for row in csv_rows(found, query))
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="runs.csv"'
    return response


def _plain(value: object) -> object:
    """A value as a cell; a text so that no spreadsheet takes it for a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


# What is done to selected runs


@require_POST
def runs_selected(request: HttpRequest) -> HttpResponse:
    """Perform a verb on the selected runs; each for which it is refused is named with the reason."""
    back = redirect(_address(RunQuery.of(QueryDict(request.POST.get("query", ""))).encoded()))
    name = request.POST.get("verb", "")
    if name == "compare":
        return redirect(f"{reverse('compare')}?runs={','.join(str(run.pk) for run in selected(request))}")
    values: dict[str, object] = {}
    if name in ("tag", "untag"):
        values = {"add" if name == "tag" else "remove": request.POST.get("tag", "")}
    verb = RUN_VERBS.for_selection().get("tag" if name == "untag" else name)
    runs = selected(request)
    if verb is None:
        messages.error(request, _("Choose what to do with the selected runs."))
    elif not runs:
        messages.error(request, _("Select at least one run."))
    elif verb.is_destructive:
        return redirect(f"{reverse('runs_delete')}?{urlencode({'run': [run.pk for run in runs]}, doseq=True)}")
    elif values and not any(str(value).replace(",", "").strip() for value in values.values()):
        messages.error(request, _("Enter a tag."))
    else:
        _perform_each(request, verb, runs, values)
    return back


def selected(request: HttpRequest) -> list[TrainingRun]:
    """The runs that a form or an address names and the user may see, by their numbers."""
    given = request.POST if request.method == "POST" else request.GET
    numbers = stored_numbers(given.getlist("run"))[:MOST_SELECTED]
    rows = TrainingRun.objects.filter(pk__in=numbers).select_related("owner", "dataset")
    return list(visible_to(request.user, rows).defer(*LARGE_COLUMNS).order_by("pk"))


def _perform_each(request: HttpRequest, verb: RunVerb, runs: list[TrainingRun], values: dict[str, object]) -> None:
    """Perform the verb on each run; show for how many it was done, and why not for the others."""
    done, refused = [], []
    for run in runs:
        if not verb.is_permitted(request.user, run):
            refused.append(f"{run.name}: {refusal(verb.permission)}")
            continue
        try:
            verb.perform(run, user=request.user, **values)
        except VerbError as error:
            refused.append(str(error))
        else:
            done.append(run)
    if len(done) == 1:
        messages.success(request, str(verb.done) % {"name": done[0].name})
    elif done:
        text = ngettext("Done for %(count)d run.", "Done for %(count)d runs.", len(done))
        messages.success(request, text % {"count": len(done)})
    for text in dict.fromkeys(refused):
        messages.error(request, text)


@require_http_methods(["GET", "HEAD", "POST"])
def runs_delete(request: HttpRequest) -> HttpResponse:
    """Ask, with what the deletion of the selected runs frees, and delete them."""
    verb = RUN_VERBS["delete"]
    runs = selected(request)
    may = [run for run in runs if verb.is_permitted(request.user, run) and verb.is_possible(run)]
    if request.method == "POST":
        done, refused = 0, []
        for run in may:
            try:
                run_verbs.delete_run(run, by=request.user.get_username())
            except VerbError as error:
                refused.append(str(error))
            else:
                done += 1
        if done:
            text = ngettext("%(count)d run was deleted.", "%(count)d runs were deleted.", done)
            messages.success(request, text % {"count": done})
        for text in refused:
            messages.error(request, text)
        return redirect("run_list")
    sizes = [(run, run_verbs.deletion_size(run)) for run in may]
    total = DeletionSize(sum(size.bytes for _run, size in sizes), sum(size.files for _run, size in sizes))
    context = {"section": "runs", "sizes": sizes, "total": total, "kept": [run for run in runs if run not in may]}
    return render(request, "runs/delete_selected.html", context)


# One run


class LabelsForm(forms.Form):
    """The tags and the note of a run."""

    tags = forms.CharField(
        label=gettext_lazy("Tags"),
        required=False,
        max_length=MAX_TAGS * (TAG_LENGTH + 2),
        help_text=gettext_lazy("Separate tags by commas. Everyone who sees the run sees its tags and its note."),
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off", "list": "tag-names"}),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=NOTE_LENGTH,
        widget=forms.Textarea({"class": "form-control", "rows": 8}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def run_labels(request: HttpRequest, pk: int) -> HttpResponse:
    """Tags and note of a run."""
    run = controlled_run(request, pk, RUN_VERBS["tag"].permission)
    present = [tag.name for tag in run.tags.all()]
    form = LabelsForm(request.POST or None, initial={"tags": ", ".join(present), "note": run.note})
    mark_errors(form)
    context = {"section": "runs", "run": run, "form": form, "tags": tags_offered()}
    if request.method == "POST" and form.is_valid():
        try:
            _set_labels(run, present, form.cleaned_data, request.user.get_username())
        except FieldError as error:
            form.add_error("note" if error.field == "text" else "tags", str(error))
            mark_errors(form)
        else:
            messages.success(request, _("Saved."))
            return redirect(run)
    return render(request, "runs/labels.html", context, status=422 if request.method == "POST" else 200)


def _set_labels(run: TrainingRun, present: list[str], values: dict[str, str], by: str) -> None:
    """Make the tags and the note what the form says. Raises FieldError."""
    try:
        wanted = tag_names(values["tags"])
    except ValueError as error:
        raise FieldError("add", str(error)) from None
    kept = {name.casefold() for name in wanted}
    gone = ", ".join(name for name in present if name.casefold() not in kept)
    run_verbs.tag_run(run, add=", ".join(wanted), remove=gone, by=by)
    run_verbs.note_run(run, values["note"], by=by)


@require_POST
def run_star(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark the run for this user, or take the mark away: `on` is 1 or 0. htmx gets the button."""
    run, is_starred = visible_run(request, pk), request.POST.get("on") == "1"
    star_run(run, signed_in(request.user), is_starred=is_starred)
    if getattr(request, "htmx", None):
        return HttpResponse(star_button(run, is_starred))
    return redirect(_address(RunQuery.of(QueryDict(request.POST.get("query", ""))).encoded()))


# Saved views


@require_POST
def view_save(request: HttpRequest) -> HttpResponse:
    """Save the present list under a name."""
    query = RunQuery.of(QueryDict(request.POST.get("query", ""))).encoded()
    try:
        view = save_view(signed_in(request.user), request.POST.get("name", "")[: NAME_LENGTH + 1], query)
    except VerbError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The view “%(name)s” was saved.") % {"name": view.name})
    return redirect(_address(query))


@require_POST
def view_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a saved view of the user."""
    view = get_object_or_404(SavedView, pk=pk, user_id=signed_in(request.user).pk)
    view.delete()
    messages.success(request, _("The view “%(name)s” was deleted.") % {"name": view.name})
    return redirect(_address(view.query))
