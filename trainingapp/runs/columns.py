"""The columns of the list of runs: each can be shown, sorted by, exported as CSV and named in conditions.

The fixed columns are declared here. Every metric and every field of a configuration is a column too, derived from the
registry of tasks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from django.db.models import F, FilteredRelation, Q, QuerySet
from django.db.models.lookups import In
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.config import config_fields
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.setting import ConfigField, OldSwitch
from trainingapp.contract.tasks.registry import METRICS, TASKS
from trainingapp.models import RunValue, TrainingRun
from trainingapp.models.run_value import SOURCES
from trainingapp.presentation.choices import label_text
from trainingapp.presentation.labels import metric_label, task_label
from trainingapp.presentation.numbers import NO_VALUE, metric, setting_value
from trainingapp.presentation.run_cells import CELLS
from trainingapp.presentation.text import Text
from trainingapp.runs.keyset import Key, KeyKind, Keys

#: How the values of a column are typed in conditions, and compared.
Kind = Literal["number", "seconds", "time", "flag", "text", "status", "tag"]
Section = Literal["run", "metrics", "configuration"]
SECTIONS: dict[Section, Text] = {"run": _("Run"), "metrics": _("Last metrics"), "configuration": _("Configuration")}


@dataclass(frozen=True, kw_only=True)
class Column:
    """`name` stands in addresses, saved views, conditions and API requests, and stays."""

    name: str
    label: Text
    #: Where the value is, as a path of the ORM. What `config` and `metrics` have is sorted and filtered by the rows of
    #: `RunValue` that repeat it.
    path: str
    kind: Kind
    #: The content of the cell of a run.
    cell: Callable[[TrainingRun], object]
    #: Its plain value, for CSV.
    value: Callable[[TrainingRun], object]
    section: Section = "run"
    #: Further names in conditions.
    aliases: tuple[str, ...] = ()
    #: Whether the table shows it where the address names no columns.
    is_default: bool = False
    #: The cell of `presentation/run_cells.py` that the event stream updates, if it is one.
    live: str = ""
    #: Of a setting that was a switch in version 0.1: conditions with yes and no still find its choices.
    old_switch: OldSwitch | None = None
    #: Of a number: what may stand in its place, such as auto. Only = and != apply to it.
    words: tuple[str, ...] = ()
    #: Whether it can be shown and sorted by. The others are named in conditions only.
    is_shown: bool = True

    @property
    def is_number(self) -> bool:
        return self.kind in ("number", "seconds")

    @property
    def listed_as(self) -> str:
        """The name of the value in `RunValue`; "" for a column of the run or of its dataset."""
        source, _separator, name = self.path.partition("__")
        return name if source in SOURCES else ""

    def keys(self, *, descending: bool) -> Keys:
        """The order by this column, the same on each page, of rows that are `joined`."""
        if self.path == "status":  # its index has the newest run of each status first
            rest = (Key("created_at", not descending, kind="moment"), Key("pk", not descending))
            return Key("status", descending, kind="text"), *rest
        if self.path == "pk":
            return (Key("pk", descending),)
        kind: KeyKind = _KEY_KINDS.get(self.kind, "number")
        if self.listed_as:
            path, is_nullable = f"listed__{_part(self)}", True
        else:
            path = self.path
            is_nullable = "__" not in path and bool(getattr(TrainingRun._meta.get_field(path), "null", False))
        return Key(path, descending, is_nullable, kind), Key("pk", descending)

    def joined(self, runs: QuerySet[TrainingRun]) -> QuerySet[TrainingRun]:
        """The runs with their value of this column, as `listed`, where it is a row of `RunValue`."""
        if not self.listed_as:
            return runs
        return runs.annotate(listed=FilteredRelation("values", condition=Q(values__name=self.listed_as)))

    def matches(self, lookup: str, value: object) -> Q:
        """The runs whose value passes the lookup of the ORM, such as "lt" or "exact"."""
        if not self.listed_as:
            return Q(**{f"{self.path}__{lookup}": value})
        part = "text" if isinstance(value, str) else "number"
        found = RunValue.objects.filter(name=self.listed_as, **{f"{part}__{lookup}": value})
        # The sum keeps SQLite from looking up each of the found runs by its number, in whole and in no order. It walks
        # the index with the order of the list instead, and ends with the page.
        return Q(In(F("pk") + 0, found.values("run")))


_KEY_KINDS: dict[str, KeyKind] = {"text": "text", "time": "moment"}


def _part(column: Column) -> str:
    """The column of `RunValue` that has the values of this one."""
    return "text" if column.kind == "text" else "number"


def _plain(name: str) -> Callable[[TrainingRun], object]:
    return lambda run: getattr(run, name)


def _setting(name: str) -> Callable[[TrainingRun], object]:
    """The cell of a value of the configuration that has a column of its own in the database."""
    return lambda run: setting_value(getattr(run, name))


def _moment(name: str) -> Callable[[TrainingRun], object]:
    def cell(run: TrainingRun) -> object:
        value = getattr(run, name)
        if value is None:
            return NO_VALUE
        local = timezone.localtime(value)
        text = date_format(local, "SHORT_DATETIME_FORMAT")
        return format_html('<time class="numbers" datetime="{}">{}</time>', local.isoformat(), text)

    return cell


def _status(run: TrainingRun) -> object:
    """The badge, with the progress of a run that has begun and is not finished."""
    badge = format_html('<div data-cell="badge">{}</div>', CELLS["badge"](run))
    if run.is_finished or not run.total_steps:
        return badge
    return format_html('{}<div class="mt-1" data-cell="progress">{}</div>', badge, CELLS["progress"](run))


#: What the first column, with the name of the run, sorts by.
NAME = Column(name="name", label=_("Run"), path="name", kind="text", cell=_plain("name"), value=_plain("name"))
_FIXED = (
    NAME,
    Column(
        name="status",
        label=_("Status"),
        path="status",
        kind="status",
        cell=_status,
        value=lambda run: run.shown_status,
        is_default=True,
    ),
    Column(
        name="best",
        label=_("Best"),
        path="best_metric",
        kind="number",
        cell=CELLS["best"],
        live="best",
        value=_plain("best_metric"),
        is_default=True,
    ),
    Column(
        name="val_loss",
        label=_("Val. loss"),
        path="val_loss",
        kind="number",
        cell=lambda run: metric(run.val_loss),
        value=_plain("val_loss"),
        aliases=("val/loss", "loss"),
        is_default=True,
    ),
    Column(
        name="epochs",
        label=_("Epochs"),
        path="total_epochs",
        kind="number",
        cell=_plain("total_epochs"),
        value=_plain("total_epochs"),
        is_default=True,
    ),
    Column(
        name="lr",
        label=_("LR"),
        path="learning_rate",
        kind="number",
        cell=_setting("learning_rate"),
        value=_plain("learning_rate"),
        aliases=("learning_rate",),
        is_default=True,
    ),
    Column(
        name="batch",
        label=_("Batch"),
        path="batch_size",
        kind="number",
        cell=_setting("batch_size"),
        value=_plain("batch_size"),
        aliases=("batch_size",),
        is_default=True,
    ),
    Column(
        name="size",
        label=_("Image size"),
        path="image_size",
        kind="number",
        cell=_setting("image_size"),
        value=_plain("image_size"),
        aliases=("image_size", "imgsz"),
        is_default=True,
    ),
    Column(
        name="model",
        label=_("Model"),
        path="architecture",
        kind="text",
        cell=lambda run: run.architecture or NO_VALUE,
        value=_plain("architecture"),
        aliases=("architecture",),
        is_default=True,
    ),
    Column(
        name="dataset",
        label=_("Dataset"),
        path="dataset__name",
        kind="text",
        cell=lambda run: run.dataset.name,
        value=lambda run: run.dataset.name,
        is_default=True,
    ),
    Column(
        name="time",
        label=_("Time"),
        path="elapsed_s",
        kind="seconds",
        cell=CELLS["time"],
        live="time",
        value=_plain("elapsed_s"),
        aliases=("duration",),
        is_default=True,
    ),
    Column(
        name="created",
        label=_("Created"),
        path="created_at",
        kind="time",
        cell=_moment("created_at"),
        value=_plain("created_at"),
        is_default=True,
    ),
    Column(
        name="owner",
        label=_("Owner"),
        path="owner__username",
        kind="text",
        cell=lambda run: run.owner.get_username(),
        value=lambda run: run.owner.get_username(),
    ),
    Column(
        name="task",
        label=_("Task"),
        path="task",
        kind="text",
        cell=lambda run: task_label(run.task),
        value=_plain("task"),
    ),
    Column(
        name="priority",
        label=_("Priority"),
        path="priority",
        kind="number",
        cell=_plain("priority"),
        value=_plain("priority"),
    ),
    Column(
        name="finished",
        label=_("Finished"),
        path="finished_at",
        kind="time",
        cell=_moment("finished_at"),
        value=_plain("finished_at"),
    ),
    Column(
        name="updated",
        label=_("Updated"),
        path="updated_at",
        kind="time",
        cell=_moment("updated_at"),
        value=_plain("updated_at"),
    ),
    Column(name="id", label=_("Number"), path="pk", kind="number", cell=_plain("pk"), value=_plain("pk")),
    Column(
        name="epoch",
        label=_("Epoch"),
        path="epoch",
        kind="number",
        cell=_plain("epoch"),
        value=_plain("epoch"),
        is_shown=False,
    ),
    Column(
        name="note",
        label=_("Note"),
        path="note",
        kind="text",
        cell=_plain("note"),
        value=_plain("note"),
        is_shown=False,
    ),
    Column(name="tag", label=_("Tag"), path="tags__name", kind="tag", cell=str, value=str, is_shown=False),
)


def _metric_columns() -> Iterator[Column]:
    """The newest value of each metric of validation, and of the loss of training."""
    yield _metric_column("train/loss", METRICS["loss"], ())
    for name, known in METRICS.items():
        if name != "loss":
            yield _metric_column(f"val/{name}", known, (name, known.label))


def _metric_column(key: str, known: Metric, aliases: tuple[str, ...]) -> Column:
    name = key.partition("/")[2]

    def label() -> str:
        text = str(metric_label(name))
        return gettext("%(metric)s, training") % {"metric": text} if key.startswith("train/") else text

    return Column(
        name=key,
        label=lazy(label, str)(),
        path=f"metrics__{key}",
        kind="number",
        cell=lambda run: metric(run.metrics.get(key), name),
        value=lambda run: run.metrics.get(key),
        section="metrics",
        aliases=aliases,
    )


def _config_column(field: ConfigField) -> Column:
    kinds: dict[str, Kind] = {"whole": "number", "number": "number", "switch": "flag"}
    return Column(
        name=field.name,
        label=lazy(label_text, str)(field.setting.label),
        path=f"config__{field.name}",
        kind=kinds.get(field.kind, "text"),
        cell=lambda run: setting_value(run.config.get(field.name), field.name),
        value=lambda run: run.config.get(field.name),
        section="configuration",
        old_switch=field.setting.old_switch,
        words=field.words,
    )


def columns() -> dict[str, Column]:
    """All columns by name, those of the tasks that are registered now included."""
    return _columns(tuple(TASKS))


@lru_cache(maxsize=4)
def _columns(tasks: tuple[str, ...]) -> dict[str, Column]:
    fixed = {name for column in _FIXED for name in (column.name, *column.aliases)}
    fields = {field.name: field for task in TASKS for field in config_fields(task).values()}
    of_config = [_config_column(field) for name, field in fields.items() if name not in fixed]
    return {column.name: column for column in (*_FIXED, *_metric_columns(), *of_config)}


def shown_columns() -> dict[str, Column]:
    """Those that a table can show and sort by."""
    return {name: column for name, column in columns().items() if column.is_shown}


def column_named(word: str) -> Column | None:
    """The column that a condition means: by its name or another one, in any case, with - or _ between words."""
    return _by_word(tuple(TASKS)).get(_folded(word))


def condition_names() -> list[str]:
    """The words that `column_named` knows, for a suggestion."""
    return list(_by_word(tuple(TASKS)))


@lru_cache(maxsize=4)
def _by_word(tasks: tuple[str, ...]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for column in _columns(tasks).values():
        for word in (column.name, *column.aliases):
            found.setdefault(_folded(word), column)
    return found


def _folded(word: str) -> str:
    return word.casefold().replace("-", "_").replace(" ", "_")
