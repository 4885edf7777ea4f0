"""The search page, and the parts of the command palette, which shows the same in a dialog."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from trainingapp.runs.search import run_of_path, search
from trainingapp.views.access import is_local

#: Parts that the palette fetches by ?part=, and their templates.
PARTS = {"dialog": "search/_palette.html", "results": "search/_options.html", "shortcuts": "search/_shortcuts.html"}


@never_cache
@require_safe
def search_page(request: HttpRequest) -> HttpResponse:
    """Pages, actions, runs, datasets and models with the words of ?q=; actions are those of the run of ?from=."""
    back_to = request.GET.get("from", "")
    back_to = back_to if back_to.startswith("/") and is_local(request, back_to) else "/"
    query = request.GET.get("q", "").replace("\0", "")
    template = PARTS.get(request.GET.get("part", ""), "search/search.html")
    context: dict[str, object] = {"query": query, "back_to": back_to, "section": "search"}
    if template != PARTS["shortcuts"]:
        run = run_of_path(request.user, back_to)
        context["groups"] = search(request.user, query, run=run, back_to=back_to, has_script="part" in request.GET)
    return render(request, template, context)
