"""The list of runs: what its address chooses, and the page of rows that it shows. Page, CSV, API and command use it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Count, QuerySet
from django.db.models.functions import Coalesce
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import CONDITIONS_LENGTH
from trainingapp.models import Dataset, Sweep, Tag, TrainingRun, Trial
from trainingapp.models.run import LARGE_COLUMNS, LARGE_COLUMNS_OF_DATASET, Status
from trainingapp.models.text import stored_number
from trainingapp.presentation.text import Text
from trainingapp.runs.columns import Column, shown_columns
from trainingapp.runs.conditions import conditions
from trainingapp.runs.keyset import Key, Keys, in_order

RUNS_ON_A_PAGE = 25
NEWEST_FIRST = "-created"
MOST_COLUMNS = 40
#: Tags that the facet and the field of the selection offer.
TAGS_OFFERED = 200
GROUPS: dict[str, Text] = {"dataset": _("Dataset"), "parent": _("Run and its forks"), "sweep": _("Sweep")}


@dataclass(frozen=True)
class RunQuery:
    """What an address chooses. What it names and does not exist is ignored, except in `conditions`."""

    conditions: str = ""
    status: str = ""
    task: str = ""
    dataset: int | None = None
    owner: str = ""
    tag: str = ""
    sweep: int | None = None
    starred: bool = False
    archived: bool = False
    sort: str = NEWEST_FIRST
    #: Names of columns; empty for the default ones.
    columns: tuple[str, ...] = ()
    group: str = ""

    @classmethod
    def of(cls, given: QueryDict) -> Self:
        known = shown_columns()
        named = dict.fromkeys(name for text in given.getlist("columns") for name in text.split(",") if name in known)
        named.pop("name", None)  # always there
        chosen = tuple(named)[:MOST_COLUMNS]
        sort, status = given.get("sort", ""), given.get("status", "")
        return cls(
            conditions=given.get("q", "").strip()[:CONDITIONS_LENGTH].replace("\0", ""),
            status=status if status in Status.values else "",
            task=given.get("task", "").replace("\0", ""),
            dataset=stored_number(given.get("dataset", "")),
            owner=given.get("owner", "").replace("\0", ""),
            tag=given.get("tag", "").replace("\0", ""),
            sweep=stored_number(given.get("sweep", "")),
            starred=given.get("starred") == "1",
            archived=given.get("archived") == "1",
            sort=sort if sort.removeprefix("-") in known else NEWEST_FIRST,
            columns=chosen if chosen != default_columns() else (),
            group=given.get("group", "") if given.get("group") in GROUPS else "",
        )

    def encoded(self, **changes: object) -> str:
        """Its query string with these changes, in the shortest form: "" for the list as it is at first."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # the names are those of fields
        values: dict[str, object] = {
            "q": changed.conditions,
            **{
                name: getattr(changed, name) for name in ("status", "task", "dataset", "owner", "tag", "sweep", "group")
            },
            "starred": "1" if changed.starred else "",
            "archived": "1" if changed.archived else "",
            "sort": changed.sort if changed.sort != NEWEST_FIRST else "",
            "columns": ",".join(changed.columns),
        }
        return urlencode({name: value for name, value in values.items() if value}, safe=",/")

    @property
    def order_column(self) -> Column:
        return shown_columns()[self.sort.removeprefix("-")]

    @property
    def is_descending(self) -> bool:
        return self.sort.startswith("-")

    def shown(self) -> list[Column]:
        """The columns of the table beside the name of the run."""
        known = shown_columns()
        return [known[name] for name in self.columns or default_columns()]


def default_columns() -> tuple[str, ...]:
    return tuple(name for name, column in shown_columns().items() if column.is_default)


def found_runs(user: AnyUser, query: RunQuery) -> QuerySet[TrainingRun]:
    """The runs that the user may see and the query lets through, in no order. Raises ConditionError."""
    rows = visible_to(user, TrainingRun.objects.filter(archived_at__isnull=not query.archived))
    rows = rows.filter(conditions(query.conditions)) if query.conditions else rows
    if query.tag:
        rows = rows.filter(pk__in=TrainingRun.tags.through.objects.filter(tag__name=query.tag).values("trainingrun"))
    if query.sweep:
        rows = rows.filter(pk__in=Trial.objects.filter(sweep=query.sweep, run__isnull=False).values("run"))
    if query.starred and isinstance(user, User):
        rows = rows.filter(pk__in=TrainingRun.starred_by.through.objects.filter(user=user).values("trainingrun"))
    return rows.order_by()


def faceted(rows: QuerySet[TrainingRun], query: RunQuery) -> QuerySet[TrainingRun]:
    """Those of the chosen status, task, dataset and owner."""
    exact = {
        "status": query.status,
        "task": query.task,
        "dataset": query.dataset,
        "owner__username": query.owner,
    }
    return rows.filter(**{name: value for name, value in exact.items() if value})


def keyed(rows: QuerySet[TrainingRun], query: RunQuery) -> tuple[QuerySet[TrainingRun], Keys]:
    """The rows with what they are ordered by, and the keys of the order."""
    keys = query.order_column.keys(descending=query.is_descending)
    rows = query.order_column.joined(rows)
    if query.group == "dataset":
        return rows, (Key("dataset__name", kind="text"), *keys)
    if query.group == "parent":
        return rows.annotate(family=Coalesce("forked_from_id", "pk")), (Key("family", is_descending=True), *keys)
    if query.group == "sweep":
        return rows, (Key("trial__sweep_id", is_descending=True, is_nullable=True), *keys)
    return rows, keys


def ordered(rows: QuerySet[TrainingRun], query: RunQuery) -> QuerySet[TrainingRun]:
    return in_order(*keyed(rows, query))


def with_cells(rows: QuerySet[TrainingRun], shown: Sequence[Column]) -> QuerySet[TrainingRun]:
    """With all that the cells of these columns read, and without large columns that they do not read."""
    needed = {column.path.partition("__")[0] for column in shown}
    large = [name for name in ("config", *LARGE_COLUMNS) if name not in needed]
    return rows.select_related("dataset", "owner").defer(*large, *LARGE_COLUMNS_OF_DATASET)


@dataclass(frozen=True)
class Option:
    """A value of a facet, with the runs that it would show."""

    value: str
    label: Text
    count: int
    is_chosen: bool


class Facets:
    """The values of status, task, dataset and owner among the found runs, and how many runs have each.

    The counts of a facet heed what is chosen in the others.
    """

    NAMES = ("status", "task", "dataset", "owner")

    def __init__(self, rows: QuerySet[TrainingRun], query: RunQuery) -> None:
        self.query = query
        # An index has all that is counted, unless conditions read more.
        groups = rows.values_list(*self.NAMES).annotate(Count("pk"))
        self._groups: list[tuple[list[Any], int]] = [(values, count) for *values, count in groups]
        datasets = {values[2] for values, _count in self._groups} | {query.dataset}
        self.datasets: dict[int, str] = dict(Dataset.objects.filter(pk__in=datasets - {None}).values_list("pk", "name"))
        owners = {values[3] for values, _count in self._groups}
        self._owners = dict(User.objects.filter(pk__in=owners).values_list("pk", "username"))

    def counts(self, facet: str) -> dict[object, int]:
        """The number of runs by value of the facet; under None that of all its values."""
        place = self.NAMES.index(facet)
        chosen = [self.query.status, self.query.task, self.query.dataset, self.query.owner]
        found: Counter[object] = Counter()
        for (status, task, dataset, owner), count in self._groups:
            values = [status, task, dataset, self._owners.get(owner, "")]
            others = (value == wanted or not wanted for value, wanted in zip(values, chosen, strict=True))
            if all(holds or number == place for number, holds in enumerate(others)):
                found[values[place]] += count
                found[None] += count
        return found

    @cached_property
    def total(self) -> int:
        """The runs that all facets together let through."""
        counts = self.counts("status")
        return counts[self.query.status] if self.query.status else counts[None]

    def by_dataset(self) -> dict[object, int]:
        """The runs of each dataset that all facets let through."""
        counts = self.counts("dataset")
        return {key: count for key, count in counts.items() if not self.query.dataset or key == self.query.dataset}

    def options(self, facet: str, labels: Mapping[object, Text]) -> list[Option]:
        """The values that occur, and the chosen one."""
        counts, chosen = self.counts(facet), getattr(self.query, facet)
        values = {key for key in counts if key is not None} | ({chosen} if chosen else set())
        found = [Option(str(key), labels.get(key, str(key)), counts[key], key == chosen) for key in values]
        return sorted(found, key=lambda option: str(option.label).casefold())


def tags_offered() -> list[str]:
    return list(Tag.objects.values_list("name", flat=True)[:TAGS_OFFERED])


@dataclass(frozen=True)
class ListedRun:
    """A row of the table."""

    run: TrainingRun
    #: Each with its column and the name of that.
    cells: list[tuple[Column, str, object]]
    tags: list[str]
    is_starred: bool


@dataclass(frozen=True)
class Group:
    """Rows below one heading; without a title they stand alone."""

    rows: list[ListedRun]
    title: str = ""
    url: str = ""
    count: int = 0


def listed(user: AnyUser, runs: Sequence[TrainingRun], shown: Sequence[Column]) -> list[ListedRun]:
    """The runs as rows, with their tags and the user's stars."""
    numbers = [run.pk for run in runs]
    tags: dict[int, list[str]] = {}
    marks = TrainingRun.tags.through.objects.filter(trainingrun__in=numbers).order_by("tag__name")
    for number, name in marks.values_list("trainingrun", "tag__name"):
        tags.setdefault(number, []).append(name)
    stars = TrainingRun.starred_by.through.objects.filter(trainingrun__in=numbers, user_id=user.pk)
    starred = set(stars.values_list("trainingrun", flat=True))
    named = [(column, str(column.label)) for column in shown]  # translated once, and not for each row
    found = []
    for run in runs:
        cells = [(column, label, column.cell(run)) for column, label in named]
        found.append(ListedRun(run, cells, tags.get(run.pk, []), run.pk in starred))
    return found


def grouped(
    user: AnyUser, rows: Sequence[ListedRun], query: RunQuery, found: QuerySet[TrainingRun], facets: Facets
) -> list[Group]:
    """The rows of a page in their groups, each with the number of its runs on all pages."""
    if query.group == "dataset":
        return _by_dataset(rows, facets)
    if query.group == "sweep":
        return _by_sweep(user, rows, found)
    return _by_family(user, rows, found) if query.group == "parent" else [Group(list(rows))]


def _by_dataset(rows: Sequence[ListedRun], facets: Facets) -> list[Group]:
    counts = facets.by_dataset()
    groups: dict[int, Group] = {}
    for row in rows:
        dataset = row.run.dataset
        new = Group([], dataset.name, dataset.get_absolute_url(), counts.get(dataset.pk, 0))
        groups.setdefault(dataset.pk, new).rows.append(row)
    return list(groups.values())


def _by_sweep(user: AnyUser, rows: Sequence[ListedRun], found: QuerySet[TrainingRun]) -> list[Group]:
    """Runs with the sweep that they are trials of, those of none last."""
    sweep_of = dict(Trial.objects.filter(run__in=[row.run.pk for row in rows]).values_list("run_id", "sweep_id"))
    sweeps = visible_to(user, Sweep.objects.filter(pk__in=sweep_of.values())).in_bulk()
    counted = found.filter(trial__sweep__in=sweep_of.values()).order_by().values_list("trial__sweep")
    counts = dict(counted.annotate(Count("pk")))
    groups: dict[int | None, Group] = {}
    for row in rows:
        number = sweep_of.get(row.run.pk)
        sweep = sweeps.get(number or 0)
        if number not in groups:
            title, url = (sweep.name, sweep.get_absolute_url()) if sweep else (str(_("A private sweep")), "")
            groups[number] = Group([]) if number is None else Group([], title, url, counts.get(number, 0))
        groups[number].rows.append(row)
    return list(groups.values())


def _by_family(user: AnyUser, rows: Sequence[ListedRun], found: QuerySet[TrainingRun]) -> list[Group]:
    """Runs with the run that they were made from; the name of one that the user may not see stays hidden."""
    families: dict[int, list[ListedRun]] = {}
    for row in rows:
        families.setdefault(row.run.forked_from_id or row.run.pk, []).append(row)
    whole = found.annotate(family=Coalesce("forked_from_id", "pk")).filter(family__in=families)
    counts = dict(whole.order_by().values_list("family").annotate(Count("pk")))
    parents = visible_to(user, TrainingRun.objects.filter(pk__in=families)).only("name")
    names = {run.pk: run for run in parents}
    groups = []
    for number, members in families.items():
        parent = names.get(number)
        if counts.get(number, 0) < 2 and members[0].run.pk == number:
            groups.append(Group(members))
            continue
        title, url = (parent.name, parent.get_absolute_url()) if parent else (str(_("A private run")), "")
        groups.append(Group(members, title, url, counts.get(number, 0)))
    return groups


def csv_rows(found: QuerySet[TrainingRun], query: RunQuery) -> Iterator[list[object]]:
    """The heading and a row for each run, in the order of the list, read some at a time."""
    chosen = query.shown()
    yield ["id", "name", "tags", *(column.name for column in chosen)]
    numbers = list(ordered(found, query).values_list("pk", flat=True))
    for start in range(0, len(numbers), 500):
        batch = numbers[start : start + 500]
        rows = with_cells(TrainingRun.objects.filter(pk__in=batch), chosen).prefetch_related("tags").order_by()
        runs = {run.pk: run for run in rows}
        for run in (runs[number] for number in batch if number in runs):
            tags = ", ".join(tag.name for tag in run.tags.all())
            yield [run.pk, run.name, tags, *(column.value(run) for column in chosen)]
