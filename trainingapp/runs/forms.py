"""The forms of the pages. The fields of a run's configuration are made from RunConfig: nothing is written twice."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError as ConfigError
from pydantic_core import ErrorDetails

from trainingapp.accounts.permissions import visible_to
from trainingapp.contract.config import RunConfig, config_defaults, config_schema, correct_config
from trainingapp.contract.number_text import field_number
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.models import Checkpoint, Dataset, Team, Weights
from trainingapp.models.sharing import Visibility
from trainingapp.presentation.choices import choice_label
from trainingapp.runs.limits import MOST_HOURS, MOST_RECOVERIES

#: Sections of the form in their order, with their titles.
SECTIONS: dict[str, str | Promise] = {
    "model": _("Model"),
    "training": _("Training"),
    "boxes": _("Boxes"),
    "pixels": _("Pixels"),
    "augmentation": _("Augmentation"),
    "optimizer": _("Optimizer"),
    "saving": _("Saving and stopping"),
    "machine": _("Machine"),
}
#: Fields that only count with some choices of another one: name -> (other field, choices).
RELEVANT: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("SGD", "RMSprop")),
    "warmup_epochs": ("scheduler", ("cosine", "step", "linear", "constant")),
    "step_epochs": ("scheduler", ("step",)),
    "step_factor": ("scheduler", ("step",)),
    "freeze_epochs": ("freeze", ("backbone",)),
    "dice_weight": ("loss_type", ("combined",)),
    "device_count": ("device", ("cpu",)),
    "class_weights": ("loss_type", ("cross_entropy", "focal", "combined")),
    **dict.fromkeys(
        ("flip_horizontal", "flip_vertical", "crop", "colour", "auto_augment", "erasing"), ("augmentation", ("custom",))
    ),
}
CHECKPOINTS_OFFERED = 200
#: The columns of a run that limit it.
LIMITS = ("soft_limit_h", "hard_limit_h", "max_recoveries")
#: Units after the number one.
ONE = {
    "epochs": gettext_noop("epoch"),
    "images": gettext_noop("image"),
    "steps": gettext_noop("step"),
    "batches": gettext_noop("batch"),
    "boxes": gettext_noop("box"),
    "minutes": gettext_noop("minute"),
    "days": gettext_noop("day"),
    "checkpoints": gettext_noop("checkpoint"),
    "processes": gettext_noop("process"),
    "threads": gettext_noop("thread"),
    "slots": gettext_noop("slot"),
}
#: What is wrong, in plain words, by pydantic's kind of error.
PLAIN_WORDS: dict[str, str | Promise] = {
    "greater_than": _("Must be more than %(gt)s."),
    "greater_than_equal": _("Must be at least %(ge)s."),
    "less_than": _("Must be less than %(lt)s."),
    "less_than_equal": _("Must be at most %(le)s."),
    "multiple_of": _("Must be a multiple of %(multiple_of)s."),
    "literal_error": _("Choose one of %(expected)s."),
    "string_pattern_mismatch": _("This is not one of the values that the help names."),
    "int_parsing": _("Enter a whole number."),
    "int_from_float": _("Enter a whole number."),
    "int_type": _("Enter a whole number."),
    "int_parsing_size": _("This number is too large."),
    "float_parsing": _("Enter a number."),
    "float_type": _("Enter a number."),
    "finite_number": _("Enter a finite number."),
    "bool_parsing": _("Choose yes or no."),
    "extra_forbidden": _("There is no such setting."),
    "missing": _("This is needed."),
    "string_too_short": _("Too short: at least %(min_length)s."),
    "string_too_long": _("Too long: at most %(max_length)s."),
    "string_type": _("Enter a text."),
    "uuid_parsing": _("This is no id."),
    "model_attributes_type": _("Send an object with fields."),
    "dict_type": _("Send an object with fields."),
    "list_type": _("Send a list."),
}


def plain_words(error: ErrorDetails) -> str:
    """A sentence for people about one error that pydantic found."""
    context = error.get("ctx", {})
    if error["type"] in PLAIN_WORDS:
        shown = {name: field_number(value) if isinstance(value, float) else value for name, value in context.items()}
        return str(PLAIN_WORDS[error["type"]]) % shown
    text = str(context.get("error", error["msg"]))
    return gettext(text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


class PlainNumberInput(forms.NumberInput):
    """Holds 0.00002 and 5, where Django's writes 2e-05 and 5.0."""

    def format_value(self, value: Any) -> str | None:
        return field_number(value) if isinstance(value, float) else super().format_value(value)


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """HTML attributes for the limits of a number."""
    pairs = {"min": ("minimum", "exclusiveMinimum"), "max": ("maximum", "exclusiveMaximum")}
    found = {name: next((schema[key] for key in keys if key in schema), None) for name, keys in pairs.items()}
    return {name: value for name, value in found.items() if value is not None}


def _limits_help(schema: dict[str, Any]) -> str:
    bounds = _bounds(schema)
    if len(bounds) < 2:
        return ""
    return gettext("From %(least)s to %(most)s.") % {
        "least": field_number(bounds["min"]),
        "most": field_number(bounds["max"]),
    }


def _widget_attributes(name: str, schema: dict[str, Any], css: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"class": css, "data-default": schema.get("default")}
    if name in RELEVANT:
        other, choices = RELEVANT[name]
        attributes |= {"data-when": other, "data-when-is": " ".join(choices)}
    return attributes


def config_field(name: str, schema: dict[str, Any], value: Any = None) -> forms.Field:
    """A form field for one field of RunConfig. Limits are the widget's attributes; RunConfig itself checks them.

    `value` is offered too where it is not among those that the schema lists, such as a network of a cloned run.
    """
    common: dict[str, Any] = {"label": _(schema["label"]), "help_text": gettext(schema["description"])}
    if "enum" in schema:
        widget: forms.Widget = forms.Select(_widget_attributes(name, schema, "form-select"))
        offered = [*schema["enum"], *([value] if value and value not in schema["enum"] else [])]
        choices = [(item, choice_label(name, item)) for item in offered]
        return forms.ChoiceField(choices=choices, widget=widget, **common)
    if schema["type"] == "boolean":
        widget = forms.CheckboxInput(_widget_attributes(name, schema, "form-check-input") | {"role": "switch"})
        return forms.BooleanField(required=False, widget=widget, **common)
    attributes = _widget_attributes(name, schema, "form-control")
    if schema["type"] == "string":
        return forms.CharField(widget=forms.TextInput(attributes), **common)
    common["help_text"] = " ".join(filter(None, [common["help_text"], _limits_help(schema)]))
    step = "1" if schema["type"] == "integer" else "any"
    widget = PlainNumberInput(attributes | _bounds(schema) | {"step": step})
    kind = forms.IntegerField if schema["type"] == "integer" else forms.FloatField
    return kind(widget=widget, **common)


def ready_datasets(user: Any) -> QuerySet[Dataset]:
    """The ready datasets that the user may see."""
    return visible_to(user, Dataset.objects.filter(status=Dataset.Status.READY))


def datasets_for(task: str, user: Any) -> QuerySet[Dataset]:
    """Those whose annotations suffice for the task. SQLite cannot look into a JSON list by itself."""
    ready = ready_datasets(user)
    fit = [pk for pk, tasks in ready.values_list("pk", "tasks") if task in tasks]
    return ready.filter(pk__in=fit)


def starting_points(task: str, present: str, user: Any) -> list[tuple[str, str]]:
    """What a run can take its first weights from, of all that the user sees: the library, newest first, then the best
    and the last checkpoint of each run.

    `present` stays among them, whatever it is.
    """
    kept = Q(is_best=True) | Q(is_last=True)
    seen = visible_to(user, Checkpoint.objects.filter(kept, run__task=task))
    rows = seen.select_related("run").order_by("-created_at")
    found = [("", gettext("New weights")), *_library(task, user)]
    for row in rows[:CHECKPOINTS_OFFERED]:
        label = gettext("%(run)s, epoch %(epoch)d (%(model)s)")
        shown = label % {"run": row.run.name, "epoch": row.epoch, "model": row.run.config.get("model", "")}
        found.append((f"run/{row.run_id}/{row.file}", shown))
    return found if any(value == present for value, _label in found) else [*found, (present, present)]


def _library(task: str, user: Any) -> list[tuple[str, str]]:
    """Entries of the library that a run can start from."""
    seen = visible_to(user, Weights.objects.filter(task=task, state=Weights.State.READY))
    label = gettext("Library: %(name)s (%(model)s)")
    rows = seen.order_by("-created_at")[:CHECKPOINTS_OFFERED]
    return [(row.start_name, label % {"name": row, "model": row.architecture}) for row in rows]


class ShareForm(forms.Form):
    """Who sees a run, a dataset or weights: one choice, in which each team of the owner stands by itself.

    After is_valid(), `visibility` and `team` say it.
    """

    who = forms.ChoiceField(label=_("Shared with"), widget=forms.Select({"class": "form-select"}))

    def __init__(self, item: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teams = {str(team.pk): team for team in Team.objects.filter(members=item.owner_id)}
        if item.team is not None:
            self.teams.setdefault(str(item.team_id), item.team)
        self.initial["who"] = str(item.team_id) if item.team_id else item.visibility
        self.fields["who"].choices = [  # type: ignore[attr-defined]
            (Visibility.EVERYBODY, gettext("Everybody who can sign in")),
            *((pk, gettext("The team %(name)s") % {"name": team.name}) for pk, team in self.teams.items()),
            (Visibility.PRIVATE, gettext("Nobody else")),
        ]

    @property
    def team(self) -> Team | None:
        return self.teams.get(self.cleaned_data["who"])

    @property
    def visibility(self) -> str:
        return Visibility.TEAM if self.team else str(self.cleaned_data["who"])


def mark_errors(form: forms.Form) -> None:
    """Have the fields that are wrong say so to browsers and screen readers."""
    for name in form.errors if form.is_bound else ():
        if name in form.fields:
            attributes = form.fields[name].widget.attrs
            attributes["aria-invalid"] = "true"
            attributes["class"] = f"{attributes.get('class', '')} is-invalid".strip()


class LimitsForm(forms.Form):
    """What a run may take. A field that is left empty takes the studio's value, which it shows.

    After is_valid(), `limits` has the three values; None stands for the studio's.
    """

    soft_limit_h = forms.FloatField(
        label=_("Time limit"),
        help_text=_("Then the run saves a checkpoint and ends; it can be resumed. 0 for no limit."),
        required=False,
        min_value=0,
        max_value=MOST_HOURS,
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )
    hard_limit_h = forms.FloatField(
        label=_("Hard time limit"),
        help_text=_("Then its trainer is killed, should it still run. 0 for no limit."),
        required=False,
        min_value=0,
        max_value=MOST_HOURS,
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )
    max_recoveries = forms.IntegerField(
        label=_("Automatic restarts"),
        help_text=_("How often the run goes on by itself after a crash."),
        required=False,
        min_value=0,
        max_value=MOST_RECOVERIES,
        widget=forms.NumberInput({"class": "form-control"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in studio_limits().items():
            self.fields[name].widget.attrs["placeholder"] = field_number(value)

    @property
    def limits(self) -> dict[str, Any]:
        return {name: self.cleaned_data.get(name) for name in LIMITS}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        own = {name: values.get(name) for name in ("soft_limit_h", "hard_limit_h")}
        soft_h, hard_h = (studio_limits()[name] if value is None else value for name, value in own.items())
        if any(value is not None for value in own.values()) and 0 < hard_h < soft_h:
            text = gettext("Must not be above the hard time limit, %(hours)s hours.")
            self.add_error("soft_limit_h", text % {"hours": f"{hard_h:g}"})
        return values

    def limit_fields(self) -> list[dict[str, Any]]:
        units = (gettext("hours"), gettext("hours"), gettext("times"))
        return [{"bound": self[name], "unit": unit} for name, unit in zip(LIMITS, units, strict=True)]

    def limits_are_told(self) -> bool:
        """Whether a limit differs from the studio's, or is wrong, and so should be seen."""
        return any(self[name].errors or self[name].value() not in (None, "") for name in LIMITS)


def studio_limits() -> dict[str, float]:
    """The limits of a run that has none of its own."""
    return {
        "soft_limit_h": settings.SOFT_TIME_LIMIT_HOURS,
        "hard_limit_h": settings.HARD_TIME_LIMIT_HOURS,
        "max_recoveries": settings.MAX_RECOVERIES,
    }


class RunForm(LimitsForm):
    """A new run of one task: its name, dataset, priority and limits, and every field of its configuration.

    After is_valid(), `config` is the checked RunConfig and `corrections` says what was changed for the user.
    """

    task = forms.CharField(widget=forms.HiddenInput())

    name = forms.CharField(
        label=_("Name"),
        max_length=120,
        help_text=_("What you will look for in the list."),
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    dataset = forms.ModelChoiceField(
        label=_("Dataset"),
        queryset=Dataset.objects.none(),
        empty_label=_("Choose a dataset"),
        widget=forms.Select({"class": "form-select"}),
    )
    priority = forms.IntegerField(
        label=_("Priority"),
        min_value=-1000,
        max_value=1000,
        initial=0,
        help_text=_("Higher runs start first when there is a queue."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    config: RunConfig
    corrections: list[str]

    def __init__(self, *args: Any, task: str, user: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user or AnonymousUser()  # who is offered nothing
        self.task_name = task
        self.initial["task"] = task
        self.fields["dataset"].queryset = datasets_for(task, self.user)  # type: ignore[attr-defined]
        self.schema = {name: item for name, item in config_schema(task).items() if "const" not in item}
        model = str(self.initial.get("model") or self.schema["model"]["default"])
        self.defaults = config_defaults(task, model)
        for name, item in self.schema.items():
            self.fields[name] = self._config_field(name, item)
            self.initial.setdefault(name, self.defaults[name])
        self._prepare()
        mark_errors(self)

    def _prepare(self) -> None:
        """For forms that have more fields: add them before anything is checked."""

    def _config_field(self, name: str, item: dict[str, Any]) -> forms.Field:
        if name != "start_from":
            return config_field(name, item, self.initial.get(name))
        field = config_field(name, {**item, "enum": [""]}, None)
        field.choices = starting_points(self.task_name, self.initial.get(name, ""), self.user)  # type: ignore[attr-defined]
        field.required = False
        return field

    def model_defaults(self) -> dict[str, Mapping[str, Any]]:
        """For the page: what suits each network better than the general defaults."""
        general = {name: item.get("default") for name, item in self.schema.items()}
        suited = {name: one.defaults for name, one in TASKS[self.task_name].architectures.items() if one.defaults}
        return {"": general, **suited}

    def clean(self) -> dict[str, Any]:
        super().clean()
        values = {name: self.cleaned_data[name] for name in self.schema if name in self.cleaned_data}
        values["task"] = self.task_name
        try:
            config, corrections = correct_config(values)
        except ConfigError as error:
            for item in error.errors():
                name = str(item["loc"][-1]) if item["loc"] else None
                self.add_error(name if name in self.fields else None, plain_words(item))
        else:
            self.config, self.corrections = config, corrections
        return self.cleaned_data

    def sections(self) -> Iterator[dict[str, Any]]:
        """The configuration's fields by section: plain ones, advanced ones, and whether the latter must be open."""
        by_group = itertools.groupby(sorted(self.schema, key=self._order), key=lambda name: self.schema[name]["group"])
        for group, names in by_group:
            fields = [self._shown(name) for name in names]
            advanced = [field for field in fields if field["advanced"]]
            yield {
                "group": group,
                "title": SECTIONS.get(group, group),
                "fields": [field for field in fields if not field["advanced"]],
                "advanced": advanced,
                "open": any(field["bound"].errors or field["changed"] for field in advanced),
            }

    def _order(self, name: str) -> int:
        return list(SECTIONS).index(self.schema[name]["group"])

    def _shown(self, name: str) -> dict[str, Any]:
        item, bound = self.schema[name], self[name]
        return {
            "bound": bound,
            "unit": gettext(item["unit"]) if item["unit"] else "",
            "advanced": item["advanced"],
            "switch": item.get("type") == "boolean",
            "changed": bound.field.has_changed(self.defaults[name], bound.value()),
        }


def _unit(unit: str, value: Any) -> str:
    """The unit of a stored value, in the singular for one."""
    if value == 1 and unit in ONE:
        return gettext(ONE[unit])
    return gettext(unit) if unit else ""


def config_table(config: dict[str, Any]) -> list[dict[str, Any]]:
    """A stored configuration for people: label, value, unit, help and whether it differs from the default."""
    rows = []
    task = config.get("task", DEFAULT_TASK)
    defaults = config_defaults(task, config["model"]) | {"task": task}
    for name, item in config_schema(task).items():
        value, default = config.get(name, item.get("default")), defaults[name]
        rows.append(
            {
                "name": name,
                "label": gettext(item["label"]),
                "group": SECTIONS.get(item["group"], item["group"]),
                "value": value,
                "default": default,
                "unit": _unit(item["unit"], value),
                "changed": value != default,
            }
        )
    return sorted(rows, key=lambda row: list(SECTIONS.values()).index(row["group"]))


def config_changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Where two stored configurations of one task differ, for people: name, label, unit, and both values."""
    before = {row["name"]: row for row in config_table(old)}
    rows = [(before[row["name"]], row) for row in config_table(new) if row["name"] in before]
    return [
        {
            **{key: row[key] for key in ("name", "label", "unit")},
            "old": was["value"],
            "old_unit": was["unit"],
            "new": row["value"],
        }
        for was, row in rows
        if was["value"] != row["value"]
    ]
