"""The downtime journal: what was found after restarts, and what was done."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from trainingapp.accounts.permissions import is_administrator, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.models import JournalEntry, TrainingRun

ENTRIES_ON_A_PAGE = 50
#: Number of the newest entry that the reader of this session has put away.
SEEN_KEY = "journal_seen"
BANNER_DAYS = 7


@dataclass(frozen=True)
class Restart:
    """What one worker found."""

    worker: str
    entries: list[JournalEntry]

    @property
    def newest(self) -> JournalEntry:
        return self.entries[0]

    @property
    def lost(self) -> int:
        """Runs that were not resumed, because recovering them had failed too often."""
        return sum(entry.action == "failed" for entry in self.entries)

    @property
    def resumed(self) -> int:
        return sum(bool(entry.action) for entry in self.entries) - self.lost


def unseen_restart(request: HttpRequest) -> Restart | None:
    """What the newest restart found, for the banner; None without a recent one, or after it was dismissed."""
    since = timezone.now() - timedelta(days=BANNER_DAYS)
    lately = _seen_by(request.user).filter(found_at__gte=since)
    newest = lately.filter(pk__gt=request.session.get(SEEN_KEY, 0)).first()
    return Restart(newest.found_by, list(lately.filter(found_by=newest.found_by))) if newest else None


def _seen_by(user: AnyUser) -> QuerySet[JournalEntry]:
    """Entries of the runs that the user may see, and those that have outlived their run."""
    seen = visible_to(user, TrainingRun.objects.all())
    return JournalEntry.objects.filter(Q(run=None) | Q(run__in=seen))


@require_safe
def journal(request: HttpRequest) -> HttpResponse:
    """Every entry, newest first, by the worker that wrote it."""
    entries = _seen_by(request.user).select_related("run")
    page = Paginator(entries, ENTRIES_ON_A_PAGE).get_page(request.GET.get("page"))
    restarts = [Restart(worker, list(entries)) for worker, entries in groupby(page, lambda entry: entry.found_by)]
    # The owner and the visibility of a deleted run are no longer known.
    context = {"page": page, "restarts": restarts, "names_deleted": is_administrator(request.user)}
    return render(request, "journal/list.html", {**context, "section": "journal"})


@require_POST
def journal_seen(request: HttpRequest) -> HttpResponse:
    """Dismiss the banner. htmx removes it from the page, others are redirected."""
    newest = _seen_by(request.user).first()
    request.session[SEEN_KEY] = newest.pk if newest else 0
    return HttpResponse() if getattr(request, "htmx", None) else redirect("run_list")
