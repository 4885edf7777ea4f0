"""What the command palette and the search page find: pages, actions of a run, runs, datasets and models.

Each list is short, and no query reads more than a bounded number of rows: names are searched among the newest objects,
numbers are looked up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from django.conf import settings
from django.db.models import Max, Model, Q, QuerySet
from django.urls import reverse
from django.utils import translation
from django.utils.translation import get_language_info
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import Verb, can, visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import SEARCH_LENGTH
from trainingapp.models import Dataset, Sweep, TrainingRun, Weights
from trainingapp.models.text import row_numbered, stored_number
from trainingapp.presentation.labels import STATUSES, task_label
from trainingapp.presentation.text import Text
from trainingapp.runs.verb_registry import RUN_VERBS

M = TypeVar("M", bound=Model)

#: Objects of each kind that are shown, and fewer while nothing is typed.
SHOWN, SHOWN_AT_FIRST = 8, 5
#: Names are searched among so many of the newest objects.
SEARCHED = 20_000
Kind = Literal["action", "page", "run", "sweep", "dataset", "model"]


@dataclass(frozen=True)
class Entry:
    """One thing to go to or to do. With `posts`, `url` is posted to; with `toggles`, the page does it by itself."""

    label: Text
    icon: str
    url: str = ""
    detail: Text = ""
    posts: bool = False
    #: Fields that are posted with it.
    fields: tuple[tuple[str, str], ...] = ()
    toggles: str = ""


@dataclass(frozen=True)
class Group:
    """Entries of one kind under their heading."""

    kind: Kind
    title: Text
    entries: list[Entry]


@dataclass(frozen=True)
class Place:
    """A page of the studio. `permission` is what it requires of a user; None for everyone who is signed in."""

    label: Text
    icon: str
    route: str
    permission: Verb | None = None


PLACES = (
    Place(_("New run"), "bi-plus-lg", "run_new", Verb.CREATE),
    Place(_("Home"), "bi-house", "home"),
    Place(_("Runs"), "bi-activity", "run_list"),
    Place(_("Compare runs"), "bi-bar-chart-line", "compare"),
    Place(_("Sweeps"), "bi-sliders2", "sweep_list"),
    Place(_("New sweep"), "bi-plus-lg", "sweep_new", Verb.CREATE),
    Place(_("Datasets"), "bi-images", "dataset_list"),
    Place(_("Import dataset"), "bi-upload", "dataset_import", Verb.CREATE),
    Place(_("Queue"), "bi-hourglass-split", "queue"),
    Place(_("Devices"), "bi-pc-display", "device_list"),
    Place(_("Models"), "bi-box-seam", "weights_list"),
    Place(_("Upload model"), "bi-upload", "weights_upload", Verb.CREATE),
    Place(_("Notifications"), "bi-bell", "notification_list"),
    Place(_("Notification settings"), "bi-sliders", "notification_settings"),
    Place(_("Account"), "bi-person-gear", "account"),
    Place(_("API tokens"), "bi-key", "token_list"),
    Place(_("API documentation"), "bi-code-slash", "api_docs"),
    Place(_("Downtime journal"), "bi-journal-text", "journal"),
    Place(_("Disk"), "bi-hdd", "disk", Verb.ADMINISTER),
    Place(_("Audit trail"), "bi-journal-check", "audit", Verb.ADMINISTER),
    Place(_("Administration"), "bi-sliders", "admin:index", Verb.ADMINISTER),
)


def search(
    user: AnyUser, query: str, *, run: TrainingRun | None = None, back_to: str = "/", has_script: bool = True
) -> list[Group]:
    """What the user may go to or do, by kind; kinds without entries are left out.

    `run` is the run that is shown now, whose actions are among the entries. `back_to` is where a change of the language
    leads. Without a script there are no entries that a page does by itself.
    """
    words = query.strip()[:SEARCH_LENGTH]
    groups = [
        Group("action", run.name if run is not None else _("Actions"), _matching(_run_actions(user, run), words)),
        Group("page", _("Go to"), _matching(_places(user), words)),
        Group("run", _("Runs"), _runs(user, words)),
        Group("sweep", _("Sweeps"), _sweeps(user, words)),
        Group("dataset", _("Datasets"), _datasets(user, words)),
        Group("model", _("Models"), _models(user, words)),
        Group("action", _("Display"), _matching(_display(back_to, has_script=has_script), words)),
    ]
    return [group for group in groups if group.entries]


def run_of_path(user: AnyUser, path: str) -> TrainingRun | None:
    """The run whose page has this path, where the user may see it."""
    parts = path.split("/")
    number = parts[2] if len(parts) > 3 and parts[:2] == ["", "runs"] else ""
    return row_numbered(visible_to(user, TrainingRun.objects.all()), number)


def _run_actions(user: AnyUser, run: TrainingRun | None) -> Iterator[Entry]:
    """What the buttons and the menu of the run's page offer to the user now."""
    if run is None:
        return
    for verb in RUN_VERBS:
        is_offered = verb.placement != "elsewhere" and (verb.posts or verb.opens_page)
        if is_offered and verb.is_possible(run) and verb.is_permitted(user, run):
            yield Entry(verb.label, verb.icon, verb.url(run), posts=not verb.opens_page)


def _places(user: AnyUser) -> Iterator[Entry]:
    for place in PLACES:
        if place.permission is None or can(user, place.permission):
            yield Entry(place.label, place.icon, reverse(place.route))


def _display(back_to: str, *, has_script: bool) -> Iterator[Entry]:
    if has_script:
        yield Entry(_("Switch between light and dark theme"), "bi-circle-half", toggles="theme")
        yield Entry(_("Keyboard shortcuts"), "bi-keyboard", toggles="shortcuts")
    for code, _label in settings.LANGUAGES:
        fields = (("language", code), ("next", back_to))
        label = get_language_info(code)["name_local"]
        yield Entry(label, "bi-translate", reverse("set_language"), _("Language"), posts=True, fields=fields)


def _matching(entries: Iterable[Entry], words: str) -> list[Entry]:
    """Those with all words in their label, in the language of the reader or in English."""
    wanted = words.casefold().split()
    found = []
    for entry in entries:
        with translation.override("en"):
            english = str(entry.label)
        text = f"{entry.label} {english}".casefold()
        if all(word in text for word in wanted):
            found.append(entry)
    return found


def _newest(user: AnyUser, rows: QuerySet[M], words: str, **listed: None) -> QuerySet[M]:
    """The newest rows that the user may see and whose name has the words or whose number they are.

    `listed` are columns that must be null in rows that are found otherwise than by their number.
    """
    seen = visible_to(user, rows).order_by("-pk")
    if not words:
        return seen.filter(**listed)[:SHOWN_AT_FIRST]
    newest = rows.model._default_manager.aggregate(newest=Max("pk"))["newest"] or 0
    found = Q(**listed, name__icontains=words, pk__gt=newest - SEARCHED)
    number = stored_number(words.removeprefix("#"))
    if number is not None:
        found |= Q(pk=number)
    return seen.filter(found)[:SHOWN]


def _runs(user: AnyUser, words: str) -> list[Entry]:
    rows = TrainingRun.objects.only("name", "status", "task", "heartbeat_at", "requested_action")
    return [
        Entry(run.name, STATUSES[run.shown_status].icon, run.get_absolute_url(), f"#{run.pk} · {task_label(run.task)}")
        for run in _newest(user, rows, words, archived_at=None)
    ]


def _sweeps(user: AnyUser, words: str) -> list[Entry]:
    rows = _newest(user, Sweep.objects.only("name", "status"), words)
    return [Entry(row.name, STATUSES[row.status].icon, row.get_absolute_url(), f"#{row.pk}") for row in rows]


def _datasets(user: AnyUser, words: str) -> list[Entry]:
    rows = _newest(user, Dataset.objects.only("name", "status"), words)
    return [Entry(row.name, "bi-images", row.get_absolute_url(), f"#{row.pk}") for row in rows]


def _models(user: AnyUser, words: str) -> list[Entry]:
    rows = _newest(user, Weights.objects.only("name", "version", "task"), words)
    return [
        Entry(row.name, "bi-box-seam", row.get_absolute_url(), f"v{row.version} · {task_label(row.task)}")
        for row in rows
    ]
