"""The forms of the pages. The fields of a run's configuration are made from the metadata of RunConfig."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict

from django import forms
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import QueryDict
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.text import format_lazy
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from pydantic import JsonValue
from pydantic import ValidationError as ConfigError

from trainingapp.accounts.permissions import visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.architectures import missing_library
from trainingapp.contract.config import RunConfig, config_defaults, config_fields, correct_config, known_label
from trainingapp.contract.limits import MAX_LIMIT_HOURS, MAX_PRIORITY, MAX_RECOVERIES, NAME_LENGTH
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.tasks import LIBRARY_MISSING
from trainingapp.contract.number_text import field_number
from trainingapp.contract.setting import ConfigField, Setting, When
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.models import Checkpoint, Dataset, Sweep, Team, TrainingRun, Trial, Weights
from trainingapp.models.sharing import Visibility
from trainingapp.models.text import row_numbered
from trainingapp.presentation.choices import choice_label, label_text, unit_text
from trainingapp.presentation.messages import rendered
from trainingapp.presentation.validation_errors import error_text
from trainingapp.runs.limits import Limits
from trainingapp.scheduling.placement import linked_hosts, most_devices, read_cluster
from trainingapp.weights.published import outlook_of

Given = Mapping[str, object] | None
"""What a form is filled from: a request's POST data, or nothing for a new form."""

CHECKPOINTS_OFFERED = 200
LABEL_MODE = "label_mode"
PRETRAINED = "pretrained"
#: The columns of a run that limit it.
LIMITS = ("soft_limit_h", "hard_limit_h", "max_recoveries")


class PlainNumberInput(forms.NumberInput):
    """Holds 0.00002 and 5, where Django's writes 2e-05 and 5.0."""

    def format_value(self, value: object) -> str | None:
        return field_number(value) if isinstance(value, float) else super().format_value(value)


def range_text(field: ConfigField) -> str:
    """The bounds of a number, shown beside its help; empty where one is missing."""
    if field.minimum is None or field.maximum is None:
        return ""
    bounds = {"least": field_number(field.minimum), "most": field_number(field.maximum)}
    match field.is_open_below, field.is_open_above:
        case False, False if field.words:
            bounds["words"] = ", ".join(field.words)
            text = gettext("Range: %(least)s to %(most)s, or %(words)s.")
        case False, False:
            text = gettext("Range: %(least)s to %(most)s.")
        case True, False:
            text = gettext("Range: above %(least)s, up to %(most)s.")
        case False, True:
            text = gettext("Range: %(least)s to below %(most)s.")
        case _:
            text = gettext("Range: above %(least)s, below %(most)s.")
    return text % bounds


class ChoiceSelect(forms.Select):
    """A select whose options name the field that rules them out, and its values that allow them, for form.js."""

    def __init__(self, attrs: dict[str, JsonValue], choice_when: Mapping[str, When]) -> None:
        super().__init__(attrs)
        self.choice_when = choice_when

    def create_option(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        option = super().create_option(*arguments, **options)
        if when := self.choice_when.get(str(option["value"])):
            option["attrs"] |= {"data-choice-when": when.field, "data-choice-when-is": " ".join(when.values)}
        return option


class ModelSelect(ChoiceSelect):
    """A select whose options cannot be chosen where the library of the network is not installed."""

    def create_option(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        option = super().create_option(*arguments, **options)
        if package := missing_library(str(option["value"])):
            option["label"] = gettext("%(name)s (needs %(package)s)") % {"name": option["label"], "package": package}
            option["attrs"]["disabled"] = True
        return option


class DatasetSelect(forms.Select):
    """A select whose options say how many labels the images of the dataset can have, for form.js."""

    def create_option(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        option = super().create_option(*arguments, **options)
        if dataset := getattr(option["value"], "instance", None):
            option["attrs"]["data-label-mode"] = dataset.label_mode
        return option


class FieldTexts(TypedDict):
    label: str
    help_text: str


def config_field(field: ConfigField, value: JsonValue = None, choices: Sequence[tuple[str, str]] = ()) -> forms.Field:
    """A form field for one field of RunConfig. Bounds are attributes of the widget; RunConfig itself checks them.

    `choices` are offered instead of the field's own. `value` is offered too where it is not among these, such as a
    network of a cloned run that the list does not name.
    """
    texts = FieldTexts(label=label_text(field.setting.label), help_text=gettext(field.setting.help))
    if field.kind == "choice" or choices:
        offered = list(choices) or [(item, str(choice_label(field.name, item))) for item in field.choices]
        if value and not any(item == value for item, _label in offered):
            offered.append((str(value), str(value)))
        select = ModelSelect if field.name == "model" else ChoiceSelect
        widget: forms.Widget = select(_attributes(field, "form-select"), field.setting.choice_when)
        return forms.ChoiceField(choices=offered, widget=widget, required=field.default != "", **texts)
    if field.kind == "switch":
        widget = forms.CheckboxInput(_attributes(field, "form-check-input") | {"role": "switch"})
        return forms.BooleanField(required=False, widget=widget, **texts)
    if field.kind == "text" or field.words:
        return forms.CharField(widget=forms.TextInput(_attributes(field, "form-control")), **texts)
    bounds = {name: bound for name, bound in (("min", field.minimum), ("max", field.maximum)) if bound is not None}
    step = "1" if field.kind == "whole" else "any"
    widget = PlainNumberInput(_attributes(field, "form-control") | bounds | {"step": step})
    kind = forms.IntegerField if field.kind == "whole" else forms.FloatField
    return kind(widget=widget, **texts)


def _attributes(field: ConfigField, css: str) -> dict[str, JsonValue]:
    """HTML attributes of the widget. form.js hides the field by `data-when` and `data-when-is`."""
    attributes = {"class": css, "data-default": field.default}
    if when := field.setting.when:
        attributes |= {"data-when": when.field, "data-when-is": " ".join(when.values)}
    return attributes


def ready_datasets(user: AnyUser) -> QuerySet[Dataset]:
    """The ready datasets that the user may see."""
    return visible_to(user, Dataset.objects.filter(status=Dataset.Status.READY))


def datasets_for(task: str, user: AnyUser) -> QuerySet[Dataset]:
    """Those with the annotations that the task needs. SQLite cannot look into a JSON list by itself."""
    ready = ready_datasets(user)
    fit = [pk for pk, tasks in ready.values_list("pk", "tasks") if task in tasks]
    return ready.filter(pk__in=fit)


def starting_points(task: str, present: str, user: AnyUser) -> list[tuple[str, str]]:
    """The initial weights that the user may choose: models, newest first, then the best and the last checkpoint of
    each run. `present` is among them in any case."""
    # Of many thousand checkpoints the newest are read, by their numbers and one by one: a join would sort all.
    of_task = visible_to(user, TrainingRun.objects.filter(pk=OuterRef("run_id"), task=task))
    kept = Checkpoint.objects.filter(Q(is_best=True) | Q(is_last=True), Exists(of_task)).order_by("-pk")
    # Django asks the database also where no run can be seen.
    rows = [] if of_task.query.is_empty() else list(kept.values_list("run_id", "file", "epoch")[:CHECKPOINTS_OFFERED])
    numbers = {run for run, _file, _epoch in rows}
    runs = TrainingRun.objects.filter(pk__in=numbers).values_list("pk", "name", "config__model")
    shown = {pk: {"run": name, "model": model or ""} for pk, name, model in runs}
    models = visible_to(user, Weights.objects.filter(task=task, state=Weights.State.READY)).order_by("-created_at")
    text = gettext("Model: %(name)s (%(model)s)")
    found = [("", gettext("Random weights"))]
    found += [
        (model.start_name, text % {"name": model, "model": model.architecture})
        for model in models[:CHECKPOINTS_OFFERED]
    ]
    label = gettext("%(run)s, epoch %(epoch)d (%(model)s)")
    found += [
        (f"run/{run}/{file}", label % {**shown[run], "epoch": epoch}) for run, file, epoch in rows if run in shown
    ]
    return found if any(value == present for value, _label in found) else [*found, (present, present)]


class ShareForm(forms.Form):
    """Who can see a run, a dataset, a model or a sweep: one choice, with an option for each team of the owner.

    After is_valid(), `visibility` and `team` hold the choice.
    """

    who = forms.ChoiceField(label=_("Shared with"), widget=forms.Select({"class": "form-select"}))

    def __init__(self, item: TrainingRun | Dataset | Weights | Sweep, data: Given = None) -> None:
        super().__init__(data)
        self.teams = {str(team.pk): team for team in Team.objects.filter(members=item.owner_id)}
        if item.team is not None:
            self.teams.setdefault(str(item.team_id), item.team)
        self.initial["who"] = str(item.team_id) if item.team_id else item.visibility
        self.fields["who"].choices = [  # type: ignore[attr-defined]
            (Visibility.EVERYBODY, gettext("Everyone who can sign in")),
            *((pk, gettext("The team %(name)s") % {"name": team.name}) for pk, team in self.teams.items()),
            (Visibility.PRIVATE, gettext("Private")),
        ]

    @property
    def team(self) -> Team | None:
        return self.teams.get(self.cleaned_data["who"])

    @property
    def chosen_label(self) -> str:
        """Who sees the object now, as the choice names it."""
        choices = dict(self.fields["who"].choices)  # type: ignore[attr-defined]
        return str({str(value): label for value, label in choices.items()}[self.cleaned_data["who"]])

    @property
    def visibility(self) -> str:
        return Visibility.TEAM if self.team else str(self.cleaned_data["who"])


def mark_errors(form: forms.Form) -> None:
    """Mark fields with errors for browsers and screen readers."""
    for name in form.errors if form.is_bound else ():
        if name in form.fields:
            attributes = form.fields[name].widget.attrs
            attributes["aria-invalid"] = "true"
            attributes["class"] = f"{attributes.get('class', '')} is-invalid".strip()


@dataclass(frozen=True)
class LimitField:
    bound: forms.BoundField
    unit: str


class LimitsForm(forms.Form):
    """The limits of a run. An empty field takes the value of the studio, which is its placeholder.

    After is_valid(), `limits` holds the three values; None means the studio's.
    """

    soft_limit_h = forms.FloatField(
        label=_("Time limit"),
        help_text=_("Ends the run after saving a checkpoint; it can be resumed. 0: no limit."),
        required=False,
        min_value=0,
        max_value=MAX_LIMIT_HOURS,
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )
    hard_limit_h = forms.FloatField(
        label=_("Hard time limit"),
        help_text=_("Kills the trainer if it is still running. 0: no limit."),
        required=False,
        min_value=0,
        max_value=MAX_LIMIT_HOURS,
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )
    max_recoveries = forms.IntegerField(
        label=_("Automatic restarts"),
        help_text=_("Number of times that the run is restarted automatically after a crash."),
        required=False,
        min_value=0,
        max_value=MAX_RECOVERIES,
        widget=forms.NumberInput({"class": "form-control"}),
    )

    def __init__(self, data: Given = None, *, initial: Given = None) -> None:
        super().__init__(data, initial=dict(initial or {}))
        for name, value in studio_limits().items():
            self.fields[name].widget.attrs["placeholder"] = field_number(value)

    @property
    def limits(self) -> Limits:
        values = self.cleaned_data
        return Limits(
            soft_limit_h=values.get("soft_limit_h"),
            hard_limit_h=values.get("hard_limit_h"),
            max_recoveries=values.get("max_recoveries"),
        )

    def clean(self) -> dict[str, object]:
        values = super().clean() or self.cleaned_data
        own = {name: values.get(name) for name in ("soft_limit_h", "hard_limit_h")}
        soft_h, hard_h = (studio_limits()[name] if value is None else value for name, value in own.items())
        if any(value is not None for value in own.values()) and 0 < hard_h < soft_h:
            text = gettext("Must not exceed the hard time limit of %(hours)s hours.")
            self.add_error("soft_limit_h", text % {"hours": f"{hard_h:g}"})
        return values

    def limit_fields(self) -> list[LimitField]:
        units = (gettext("hours"), gettext("hours"), gettext("times"))
        return [LimitField(self[name], unit) for name, unit in zip(LIMITS, units, strict=True)]

    def has_own_limits(self) -> bool:
        """Whether a limit differs from the studio's or has an error, and so must be visible."""
        return any(self[name].errors or self[name].value() not in (None, "") for name in LIMITS)


def devices_text() -> str:
    """The devices that a run can get together, as a sentence behind others; empty where no host is known."""
    most = most_devices(read_cluster())
    slots = ngettext("%(count)d CPU slot", "%(count)d CPU slots", most.slots) % {"count": most.slots}
    if not most.gpus:
        return " " + gettext("Available here: %(slots)s.") % {"slots": slots} if most.slots else ""
    gpus = ngettext("%(count)d GPU", "%(count)d GPUs", most.gpus) % {"count": most.gpus}
    return " " + gettext("Available on one host: %(gpus)s, or %(slots)s.") % {"gpus": gpus, "slots": slots}


def hosts_text() -> str:
    """How many hosts can train a run together, as a sentence behind others; empty where none can."""
    count = linked_hosts(read_cluster())
    return " " + gettext("Set up here: %(count)d.") % {"count": count} if count > 1 else ""


def studio_limits() -> dict[str, float]:
    """The limits of runs without limits of their own."""
    return {
        "soft_limit_h": settings.SOFT_TIME_LIMIT_HOURS,
        "hard_limit_h": settings.HARD_TIME_LIMIT_HOURS,
        "max_recoveries": settings.MAX_RECOVERIES,
    }


class RunForm(LimitsForm):
    """A new run of one task: its name, dataset, priority and limits, and every field of its configuration.

    After is_valid(), `config` is the checked RunConfig and `corrections` lists what was corrected.
    """

    task = forms.CharField(widget=forms.HiddenInput())

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        help_text=_("Identifies the run in lists."),
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    dataset = forms.ModelChoiceField(
        label=_("Dataset"),
        queryset=Dataset.objects.none(),
        empty_label=_("Choose a dataset"),
        widget=DatasetSelect({"class": "form-select"}),
    )
    priority = forms.IntegerField(
        label=_("Priority"),
        min_value=-MAX_PRIORITY,
        max_value=MAX_PRIORITY,
        initial=0,
        help_text=_("Runs with a higher priority start first."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    config: RunConfig
    corrections: list[Message]
    #: Whether it says what automatic published weights would be; a run that continues from a checkpoint keeps its own.
    tells_pretrained = True

    def __init__(self, data: Given = None, *, task: str, user: AnyUser | None = None, initial: Given = None) -> None:
        super().__init__(data, initial=initial)
        self.user = user or AnonymousUser()  # sees no dataset and no checkpoint
        self.task_name = task
        self.initial["task"] = task
        self.fields["dataset"].queryset = datasets_for(task, self.user)  # type: ignore[attr-defined]
        self.config_fields = {name: field for name, field in config_fields(task).items() if not field.is_fixed}
        model = str(self.initial.get("model") or self.config_fields["model"].default)
        self.defaults = config_defaults(task, model)
        if LABEL_MODE in self.config_fields:
            self._follow_dataset()
        for name, field in self.config_fields.items():
            if name in self.initial and field.setting.old_switch:  # of a run of an older version
                self.initial[name] = field.setting.old_switch.choice(self.initial[name])
            present = self.initial.get(name)
            choices = starting_points(task, present or "", self.user) if name == "start_from" else ()
            self.fields[name] = config_field(field, present, choices)
            self.initial.setdefault(name, self.defaults[name])
        if LABEL_MODE in self.fields:
            self.fields[LABEL_MODE].disabled = True  # the dataset decides
        help_text = self.fields["device_count"].help_text
        # Read from the database when it is shown.
        self.fields["device_count"].help_text = format_lazy("{}{}", help_text, lazy(cache(devices_text), str)())
        help_text = self.fields["hosts_at_most"].help_text
        self.fields["hosts_at_most"].help_text = format_lazy("{}{}", help_text, lazy(cache(hosts_text), str)())
        if PRETRAINED in self.fields and self.tells_pretrained:
            help_text = self.fields[PRETRAINED].help_text
            self.fields[PRETRAINED].help_text = format_html(
                '{} <span id="pretrained-outlook" class="d-block fw-semibold wrap-anywhere">{}</span>',
                help_text,
                self._pretrained_outlook(),
            )
        self._prepare()
        mark_errors(self)

    def _pretrained_outlook(self) -> str:
        """What the run would start from with the values that the form shows at first; the page follows changes."""
        # A bound field would keep the help text of before.
        return outlook_of(self.task_name, self.data if self.is_bound else self.initial)

    def _follow_dataset(self) -> None:
        """Take the label mode of the dataset that is chosen, and the defaults that suit it."""
        dataset = self._chosen_dataset()
        mode = dataset.label_mode if dataset else self.defaults[LABEL_MODE]
        self.initial[LABEL_MODE] = self.defaults[LABEL_MODE] = mode
        for name, field in self.config_fields.items():
            if not field.setting.can_choose(self.defaults[name], self.defaults):
                self.defaults[name] = field.default_beside(self.defaults)

    def _chosen_dataset(self) -> Dataset | None:
        """The dataset that the form shows at first; None while none is chosen."""
        given = str(self.data.get("dataset") if self.is_bound else self.initial.get("dataset"))
        offered: QuerySet[Dataset] = self.fields["dataset"].queryset  # type: ignore[attr-defined]
        return row_numbered(offered, given)

    def _prepare(self) -> None:
        """Hook for forms with more fields, which must be there before the first validation."""

    def model_defaults(self) -> dict[str, Mapping[str, JsonValue]]:
        """For form.js: the values that suit each network better than the general defaults, which are under ""."""
        new = TASKS[self.task_name].config.new_run_defaults()
        general = {name: new.get(name, field.default) for name, field in self.config_fields.items()}
        suited = {name: one.defaults for name, one in TASKS[self.task_name].architectures.items() if one.defaults}
        return {"": general, **suited}

    def clean(self) -> dict[str, object]:
        super().clean()
        values = {name: self.cleaned_data[name] for name in self.config_fields if name in self.cleaned_data}
        values["task"] = self.task_name
        dataset = self.cleaned_data.get("dataset")
        if LABEL_MODE in values and isinstance(dataset, Dataset):
            values[LABEL_MODE] = dataset.label_mode
        try:
            config, corrections = correct_config(values)
        except ConfigError as error:
            for item in error.errors():
                name = str(item["loc"][-1]) if item["loc"] else None
                self.add_error(name if name in self.fields else None, error_text(item))
        else:
            self.config, self.corrections = config, corrections
            if package := missing_library(config.model):
                message = LIBRARY_MISSING(name=config.model, package=package, extra=package)
                self.add_error("model", rendered(message))
        return self.cleaned_data

    def sections(self) -> Iterator["FormSection"]:
        """The configuration's fields by section."""
        by_section = itertools.groupby(self.config_fields.values(), key=lambda field: field.setting.section)
        for section, fields in by_section:
            shown = [self._shown(field) for field in fields]
            advanced = [field for field in shown if field.setting.advanced]
            yield FormSection(
                key=section.key,
                title=gettext(section.title),
                fields=[field for field in shown if not field.setting.advanced],
                advanced=advanced,
                is_open=any(field.bound.errors or field.is_changed for field in advanced),
            )

    def _shown(self, field: ConfigField) -> "ShownField":
        bound = self[field.name]
        return ShownField(
            bound=bound,
            setting=field.setting,
            unit=unit_text(field.setting.unit),
            range=range_text(field),
            is_switch=field.kind == "switch",
            is_changed=bound.field.has_changed(self.defaults[field.name], bound.value()),
        )


@dataclass(frozen=True)
class ShownField:
    """A field of the configuration in the form. `is_changed`: it differs from the default that suits the network."""

    bound: forms.BoundField
    setting: Setting
    unit: str
    range: str
    is_switch: bool
    is_changed: bool


@dataclass(frozen=True)
class FormSection:
    """A section of the form. `is_open`: an advanced field has an error or a changed value, and so must be visible."""

    key: str
    title: str
    fields: list[ShownField]
    advanced: list[ShownField]
    is_open: bool


@dataclass(frozen=True)
class ConfigRow:
    """A field of a stored configuration for pages. `has_effect`: false where another field rules it out.

    `is_told`: it belongs to what is special about the run, because it is not the default, or although it is.
    """

    name: str
    label: str
    section: str
    value: JsonValue
    default: JsonValue
    unit: str
    has_effect: bool
    is_told: bool = False

    @property
    def is_changed(self) -> bool:
        return self.value != self.default


def config_table(config: Mapping[str, JsonValue], told: Collection[str] = ()) -> list[ConfigRow]:
    """A stored configuration for people, in the order of the form.

    `told` are fields that belong to what is special about the run with any value, as those that a sweep varies.
    The fields of a task that is not installed are shown by their names, as they are stored.
    """
    task = str(config.get("task", DEFAULT_TASK))
    if task not in TASKS:
        return [ConfigRow(name, name, "", value, value, "", has_effect=True) for name, value in config.items()]
    defaults = {**config_defaults(task, str(config["model"])), "task": task}
    rows: dict[str, ConfigRow] = {}
    for name, field in config_fields(task).items():
        value = config.get(name, field.default)
        default = field.default_beside(config) if defaults[name] == field.default else defaults[name]
        other = rows.get(field.setting.told_with or "")
        rows[name] = ConfigRow(
            name=name,
            label=label_text(field.setting.label),
            section=gettext(field.setting.section.title),
            value=value,
            default=default,
            unit="" if value in field.words or known_label(name, value) else unit_text(field.setting.unit, value),
            has_effect=field.setting.has_effect(config),
            is_told=value != default or name in told or (other is not None and other.is_changed),
        )
    return list(rows.values())


def config_of(run: TrainingRun) -> list[ConfigRow]:
    """The configuration of a run for people; what the sweep of a trial varies is told."""
    trial = Trial.objects.filter(run=run).values_list("params", flat=True).first()
    return config_table(run.config, trial or ())


@dataclass(frozen=True)
class ConfigChange:
    """A field with different values in two configurations."""

    name: str
    label: str
    old: JsonValue
    old_unit: str
    new: JsonValue
    unit: str


def config_changes(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> list[ConfigChange]:
    """Where two stored configurations of one task differ, for people."""
    before = {row.name: row for row in config_table(old)}
    return [
        ConfigChange(row.name, row.label, before[row.name].value, before[row.name].unit, row.value, row.unit)
        for row in config_table(new)
        if row.name in before and before[row.name].value != row.value
    ]


def draft_form(posted: QueryDict, user: AnyUser, *, name: str) -> RunForm:
    """The posted form of a run that is not stored yet, with this name: the user's own may be missing."""
    values = posted.copy()
    values["name"] = name
    task = values.get("task", "")
    return RunForm(values, task=task if task in TASKS else DEFAULT_TASK, user=user)
