"""The page of a run: a frame with its header and progress, and tabs with addresses of their own.

A tab is rendered when it is opened: with the frame for a browser, alone for htmx. The stream renders the parts of the
frame; the script fetches the open tab again when something happens that it shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import can, visible_to
from trainingapp.contract.limits import SEARCH_LENGTH
from trainingapp.contract.system_series import INTERVAL_S
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.text import row_numbered, stored_number
from trainingapp.presentation.messages import rendered_list
from trainingapp.presentation.text import Text
from trainingapp.runs.bottleneck import sentence, step_time
from trainingapp.runs.comparison import comparable_runs
from trainingapp.runs.evaluation_images import USUAL_CONFIDENCE, Gallery
from trainingapp.runs.evaluations import EvaluationError, newest, read
from trainingapp.runs.forms import ShareForm, config_changes, config_of
from trainingapp.runs.log_search import search_log
from trainingapp.runs.run_page import LOG_LINES, charts_of_machine, log_events
from trainingapp.runs.series_files import has_parquet
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.access import visible_run
from trainingapp.views.run_control import context_of
from trainingapp.views.run_forks import lineage

#: Entries of the audit trail on the page of a run; the audit page has the rest.
ENTRIES_SHOWN = 50
#: Images of the newest validation on the overview.
SAMPLES_SHOWN = 8
#: Attempts that the activity lists, newest first.
ATTEMPTS_SHOWN = 50


@dataclass(frozen=True)
class Tab:
    """A tab: its partial is runs/_tab_{name}.html. `follows` is what makes the script fetch it again."""

    name: str
    label: Text
    icon: str
    route: str
    follows: str = ""


#: In the order in which they are shown. A run is opened with the first.
TABS = (
    Tab("overview", _("Overview"), "bi-speedometer2", "run_detail", "status validation checkpoint"),
    Tab("charts", _("Charts"), "bi-graph-up", "run_charts", "validation"),
    Tab("evaluation", _("Evaluation"), "bi-clipboard-data", "evaluation"),
    Tab("checkpoints", _("Checkpoints"), "bi-save", "run_checkpoints", "status checkpoint"),
    Tab("log", _("Log"), "bi-text-left", "run_log"),
    Tab("system", _("System"), "bi-cpu", "run_system"),
    Tab("config", _("Config"), "bi-sliders", "run_config"),
    Tab("activity", _("Activity"), "bi-clock-history", "run_activity", "status"),
)


def wants_part(request: HttpRequest, target: str) -> bool:
    """Whether htmx asks for the element `target` alone, and not for a page of the history."""
    return request.headers.get("HX-Target") == target and "HX-History-Restore-Request" not in request.headers


def render_tab(
    request: HttpRequest, run: TrainingRun, name: str, context: Mapping[str, object], *, status: int = 200
) -> HttpResponse:
    """The page of the run with this tab open; htmx gets the tab alone."""
    is_part = wants_part(request, "run-tab")
    frame = {
        "section": "runs",
        "tab": next(tab for tab in TABS if tab.name == name),
        "tabs": [(tab, reverse(tab.route, args=[run.pk])) for tab in TABS],
        "tab_template": f"runs/_tab_{name}.html",
        "is_part": is_part,
        "creates": can(request.user, RUN_VERBS["create"].permission),
    }
    template = "runs/_tab.html" if is_part else "runs/page.html"
    response = render(request, template, context_of(request, run) | frame | dict(context), status=status)
    patch_vary_headers(response, ["HX-Target"])
    return response


@require_safe
def run_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """What a reader wants to know first: how the run is doing, what is special about it, and its best checkpoint."""
    run = visible_run(request, pk)
    context = {
        "told": [row for row in config_of(run) if row.is_told],
        "corrections": rendered_list(run.corrections),
        "lineage": lineage(request.user, run),
        **_samples(run),
    }
    return render_tab(request, run, "overview", context)


def _samples(run: TrainingRun) -> dict[str, object]:
    """A few images of the newest validation with their predictions; nothing where there is none."""
    found = newest(run)
    if found is None:
        return {}
    try:
        content = read(run, found.epoch)
    except EvaluationError as error:
        return {"problem": str(error)}
    cards = Gallery(run, content).fixed(most=SAMPLES_SHOWN)
    confidence = USUAL_CONFIDENCE if content.best_confidence is None else content.best_confidence
    return {"content": content, "validation": found, "cards": cards, "confidence": confidence}


@require_safe
def run_charts(request: HttpRequest, pk: int) -> HttpResponse:
    """All charts, with one toolbar."""
    run = visible_run(request, pk)
    others = comparable_runs(visible_to(request.user, TrainingRun.objects.all()), run.task, [run.pk])
    context = {"compare_from": [run.pk], "comparable": others, "has_parquet": has_parquet()}
    return render_tab(request, run, "charts", context)


@require_safe
def run_system(request: HttpRequest, pk: int) -> HttpResponse:
    """What the run uses of its machine, and what limits its speed; fetched again when the first measurement arrives,
    then after each epoch."""
    run = visible_run(request, pk)
    charts, time = charts_of_machine(run), step_time(run)
    context = {
        "charts": charts,
        "step_time": time,
        "bottleneck": sentence(time) if time else "",
        "interval_s": INTERVAL_S,
        "follows": "validation" if charts else "system",
        "nothing": "" if charts else _nothing_measured(run),
    }
    return render_tab(request, run, "system", context)


def _nothing_measured(run: TrainingRun) -> Text:
    if run.status == TrainingRun.Status.RUNNING:
        return _("The first measurement of GPU, CPU and memory appears here a few seconds after the first step.")
    if not run.attempt:
        return _("The use of GPU, CPU and memory is recorded while the run trains.")
    return _(
        "Nothing was measured: the run took only a few seconds, or was trained by an earlier version. "
        "Attempts from now on record the use of GPU, CPU and memory."
    )


@require_safe
def run_log(request: HttpRequest, pk: int) -> HttpResponse:
    """The newest lines of the log, or those below number ?before=, which htmx puts above the ones that are shown.

    With ?q= the lines of the whole log that contain the text, a part at a time, from number ?after= on.
    """
    run = visible_run(request, pk)
    if query := request.GET.get("q", "").replace("\0", "").strip()[:SEARCH_LENGTH]:
        after = stored_number(request.GET.get("after", "")) or 0
        part = search_log(run, query, after=after, limit=LOG_LINES)
        searched = {"run": run, "events": part.lines, "query": query, "next": part.next, "is_older": True}
        return render_tab(request, run, "log", searched)
    before = stored_number(request.GET.get("before", ""))
    events = log_events(run, before=run.event_seq + 1 if before is None else before)
    context = {"run": run, "events": events, "older": events[0].seq if events and events[0].seq > 1 else None}
    if wants_part(request, "log-older"):
        return render(request, "runs/_log_page.html", context)
    return render_tab(request, run, "log", context | {"is_older": before is not None})


@require_safe
def run_config(request: HttpRequest, pk: int) -> HttpResponse:
    """The configuration: what was changed (?show=changed) or all of it, and its difference from run ?against=."""
    run = visible_run(request, pk)
    rows, only_changed = config_of(run), request.GET.get("show") == "changed"
    seen = visible_to(request.user, TrainingRun.objects.filter(task=run.task).exclude(pk=run.pk))
    against = row_numbered(seen, request.GET.get("against") or str(run.forked_from_id or ""))
    context = {
        "config": [row for row in rows if row.is_told] if only_changed else rows,
        "only_changed": only_changed,
        "corrections": rendered_list(run.corrections),
        "against": against,
        "differences": config_changes(against.config, run.config) if against else [],
        "comparable": comparable_runs(visible_to(request.user, TrainingRun.objects.all()), run.task, [run.pk]),
    }
    return render_tab(request, run, "config", context)


@require_safe
def run_activity(request: HttpRequest, pk: int) -> HttpResponse:
    """The attempts of the run, who sees it, who did what, and which runs belong to it."""
    run = visible_run(request, pk)
    started = run.events.filter(type=RunEvent.Type.STATUS, data__state="started").order_by("-seq")
    context = {
        "attempts": started[:ATTEMPTS_SHOWN],
        "sharing": ShareForm(run) if can(request.user, RUN_VERBS["share"].permission, run) else None,
        "lineage": lineage(request.user, run),
        "trail": audit.entries_of(run)[:ENTRIES_SHOWN],
    }
    return render_tab(request, run, "activity", context)
