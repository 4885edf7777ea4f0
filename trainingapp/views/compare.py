"""The comparison of runs: metrics, curves and configurations side by side."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import signed_in
from trainingapp.models import TrainingRun
from trainingapp.models.text import stored_numbers
from trainingapp.runs.comparison import (
    At,
    ComparedRun,
    Comparison,
    ComparisonError,
    comparable_runs,
    compare,
    markdown,
)
from trainingapp.runs.interval_jobs import request_intervals, unfinished_job
from trainingapp.runs.parallel import parallel_plot
from trainingapp.runs.regressions import class_table
from trainingapp.runs.significance import significance
from trainingapp.views.access import require
from trainingapp.views.compared_images import images_part
from trainingapp.views.jobs import started_job
from trainingapp.views.redirects import leave_for

CLASSES_ON_A_PAGE = 100


@dataclass(frozen=True)
class Address:
    """The query of the page: what its links change one by one."""

    numbers: list[int]
    base: int | None
    hidden: list[int]
    at: At
    tab: str

    @classmethod
    def of(cls, request: HttpRequest) -> "Address":
        """?runs= is a list separated by commas, or repeated as a form sends it. What is no number is ignored."""
        query = request.GET
        base = _numbers([query.get("base", "")])
        return cls(
            _numbers(query.getlist("runs")),
            base[0] if base else None,
            _numbers(query.getlist("hide")),
            "newest" if query.get("at") == "newest" else "best",
            query.get("tab", "") if query.get("tab") in TABS else "",
        )

    def link(self, **changes: object) -> str:
        """The query with some parts changed; what is not set is left out. `tab` "" is the first one."""
        values = {
            "runs": _joined(self.numbers),
            "base": self.base or "",
            "hide": _joined(self.hidden),
            "at": "" if self.at == "best" else self.at,
            "tab": self.tab,
        } | {name: _joined(value) if isinstance(value, list) else value for name, value in changes.items()}
        return f"?{urlencode({name: value for name, value in values.items() if value}, safe=',')}"


@dataclass(frozen=True)
class RunChip:
    """A run with the links that change what is compared."""

    item: ComparedRun
    base_link: str
    hide_link: str
    remove_link: str


#: The parts of the page that are opened by ?tab=; without it the metrics and the charts.
TABS = {
    "": gettext_lazy("Metrics and charts"),
    "significance": gettext_lazy("Significance"),
    "config": gettext_lazy("Config"),
    "classes": gettext_lazy("Per class"),
    "images": gettext_lazy("Images"),
}


def _numbers(texts: list[str]) -> list[int]:
    parts = [part.strip() for text in texts for part in text.split(",")]
    return list(dict.fromkeys(stored_numbers(parts)))


def _joined(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def _seen(request: HttpRequest) -> QuerySet[TrainingRun]:
    return visible_to(request.user, TrainingRun.objects.all())


def _comparison(request: HttpRequest, address: Address) -> Comparison | None:
    return compare(_seen(request), address.numbers, base=address.base, hidden=address.hidden, at=address.at)


@require_safe
def compare_page(request: HttpRequest) -> HttpResponse:
    """The runs of ?runs=, with differences from ?base=; ?tab= opens another part."""
    address = Address.of(request)
    context: dict[str, object] = {"section": "runs", "address": address}
    try:
        comparison = _comparison(request, address)
    except ComparisonError as error:
        return render(request, "compare/refused.html", context | {"problem": str(error)}, status=422)
    if comparison is None:
        return render(request, "compare/refused.html", context)
    context |= {
        "comparison": comparison,
        "chips": [_chip(item, comparison, address) for item in comparison.items],
        "tabs": [(name, label, address.link(tab=name)) for name, label in TABS.items()],
        "ends": [("best", _("Best epoch"), address.link(at="")), ("newest", _("Newest"), address.link(at="newest"))],
        "query": address.link(tab="").removeprefix("?"),
        "offered": comparable_runs(_seen(request), comparison.task, comparison.numbers),
        "markdown": markdown(comparison),
    }
    context |= _tab_context(request, comparison, address.tab)
    return render(request, "compare/compare.html", context)


def _tab_context(request: HttpRequest, comparison: Comparison, tab: str) -> dict[str, object]:
    """What the chosen part needs, so that a part that is not open costs nothing."""
    if tab == "config":
        return {"parallel": parallel_plot(comparison)}
    if tab == "significance":
        found = significance(comparison)
        user = signed_in(request.user)
        job = unfinished_job(found.key, user) if found.is_too_long else None
        return {"significance": found, "job": job, "may_compute": can(user, Verb.CREATE)}
    if tab == "classes":
        order = "class" if request.GET.get("order") == "class" else ""
        table = class_table(comparison, request.GET.get("column", ""), by_spread=not order)
        page = Paginator(table.rows, CLASSES_ON_A_PAGE).get_page(request.GET.get("page"))
        return {"table": table, "page": page, "order": order}
    return {"part": images_part(request, comparison)} if tab == "images" else {}


@require_POST
def compare_intervals(request: HttpRequest) -> HttpResponse:
    """Start a job that computes the intervals of ?runs=, which take too long for the page."""
    require(request, Verb.CREATE)
    address = Address.of(request)
    query = address.link(tab="significance")
    try:
        comparison = _comparison(request, address)
    except ComparisonError:
        comparison = None
    if comparison and (found := significance(comparison)).is_too_long:
        owner = signed_in(request.user)
        return started_job(request, request_intervals(comparison, found.key, owner=owner, query=query))
    return leave_for(request, f"{reverse('compare')}{query}")  # the page shows them, or why there are none


def _chip(item: ComparedRun, comparison: Comparison, address: Address) -> RunChip:
    own = item.run.pk
    hidden = [number for number in address.hidden if number != own]
    others = [number for number in comparison.numbers if number != own]
    return RunChip(
        item,
        base_link=address.link(base=own, hide=hidden),
        hide_link=address.link(hide=hidden if item.is_hidden else [*hidden, own]),
        remove_link=address.link(runs=others, hide=hidden, base="" if item.is_base else address.base or ""),
    )


@require_safe
def compare_curves(request: HttpRequest) -> JsonResponse:
    """The curves of the runs of ?runs= that are not in ?hide=."""
    try:
        comparison = _comparison(request, Address.of(request))
    except ComparisonError as error:
        return JsonResponse({"problem": str(error)}, status=422)
    return JsonResponse({"curves": list(comparison.curves()) if comparison else []})


@require_safe
def compare_markdown(request: HttpRequest) -> HttpResponse:
    """The tables as a Markdown file."""
    try:
        comparison = _comparison(request, Address.of(request))
    except ComparisonError as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    text = markdown(comparison) if comparison else ""
    response = HttpResponse(text, content_type="text/markdown; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="comparison.md"'
    return response
