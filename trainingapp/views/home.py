"""The first page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from trainingapp.accounts.permissions import can
from trainingapp.runs import home as page
from trainingapp.runs.forms import ready_datasets
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.journal import unseen_restart

#: What the list of runs took when this was its address.
_OF_THE_LIST = {"q", "status", "page"}


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What runs, what needs attention and what has come out; htmx gets the part that changes."""
    if _OF_THE_LIST & request.GET.keys():
        return redirect(f"{reverse('run_list')}?{request.META['QUERY_STRING']}")
    context: dict[str, object] = {
        "section": "home",
        "cards": page.running_cards(request.user),
        "attention": page.needs_attention(request.user),
        "results": page.recent_results(request.user),
        "strip": page.strip(),
        "steps": page.first_steps(request.user),
        "spark_box": f"0 0 {page.SPARK_WIDTH:g} {page.SPARK_HEIGHT:g}",
    }
    if request.headers.get("HX-Target") == "home" and "HX-History-Restore-Request" not in request.headers:
        return render(request, "home/_home.html", context)
    context |= {
        "creates": can(request.user, RUN_VERBS["create"].permission),
        "has_datasets": ready_datasets(request.user).exists(),
        "restart": unseen_restart(request),
    }
    return render(request, "home/home.html", context)
