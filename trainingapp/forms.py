"""The forms of the pages. The fields of a run's configuration are made from RunConfig: nothing is written twice."""

import itertools
from collections.abc import Iterator
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError as ConfigError
from pydantic_core import ErrorDetails

from trainingapp.engine.architectures import ARCHITECTURES
from trainingapp.engine.config import RunConfig, config_defaults, config_schema, correct_config
from trainingapp.models import Checkpoint, Dataset

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
    "class_weights": ("loss_type", ("cross_entropy", "focal", "combined")),
    **dict.fromkeys(
        ("flip_horizontal", "flip_vertical", "crop", "colour", "auto_augment", "erasing"), ("augmentation", ("custom",))
    ),
}
#: What the recipes learn.
RECIPES_ABOUT: dict[str, str | Promise] = {
    "classification": _("One label for each picture"),
    "detection": _("A box and a label for each object"),
    "segmentation": _("A label for each pixel"),
}
CHECKPOINTS_OFFERED = 200
#: Units after the number one.
ONE = {
    "epochs": gettext_noop("epoch"),
    "pictures": gettext_noop("picture"),
    "steps": gettext_noop("step"),
    "batches": gettext_noop("batch"),
    "boxes": gettext_noop("box"),
    "minutes": gettext_noop("minute"),
    "days": gettext_noop("day"),
    "checkpoints": gettext_noop("checkpoint"),
    "processes": gettext_noop("process"),
    "threads": gettext_noop("thread"),
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
}


def plain_words(error: ErrorDetails) -> str:
    """A sentence for people about one error that pydantic found."""
    context = error.get("ctx", {})
    if error["type"] in PLAIN_WORDS:
        shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        return str(PLAIN_WORDS[error["type"]]) % shown
    text = str(context.get("error", error["msg"]))
    return gettext(text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """HTML attributes for the limits of a number."""
    pairs = {"min": ("minimum", "exclusiveMinimum"), "max": ("maximum", "exclusiveMaximum")}
    found = {name: next((schema[key] for key in keys if key in schema), None) for name, keys in pairs.items()}
    return {name: value for name, value in found.items() if value is not None}


def _limits_help(schema: dict[str, Any]) -> str:
    bounds = _bounds(schema)
    if len(bounds) < 2:
        return ""
    return gettext("From %(least)s to %(most)s.") % {"least": bounds["min"], "most": bounds["max"]}


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
        return forms.ChoiceField(choices=[(item, item) for item in offered], widget=widget, **common)
    if schema["type"] == "boolean":
        widget = forms.CheckboxInput(_widget_attributes(name, schema, "form-check-input") | {"role": "switch"})
        return forms.BooleanField(required=False, widget=widget, **common)
    attributes = _widget_attributes(name, schema, "form-control")
    if schema["type"] == "string":
        return forms.CharField(widget=forms.TextInput(attributes), **common)
    common["help_text"] = " ".join(filter(None, [common["help_text"], _limits_help(schema)]))
    step = "1" if schema["type"] == "integer" else "any"
    widget = forms.NumberInput(attributes | _bounds(schema) | {"step": step})
    kind = forms.IntegerField if schema["type"] == "integer" else forms.FloatField
    return kind(widget=widget, **common)


def datasets_for(recipe: str) -> QuerySet[Dataset]:
    """The ready datasets whose annotations suffice for the recipe. SQLite cannot look into a JSON list by itself."""
    ready = Dataset.objects.filter(status=Dataset.Status.READY)
    fit = [pk for pk, recipes in ready.values_list("pk", "recipes") if recipe in recipes]
    return ready.filter(pk__in=fit)


def starting_points(recipe: str, present: str) -> list[tuple[str, str]]:
    """Checkpoints that a run can take its first weights from: the best and the last of each run, newest first.

    `present` stays among them, whatever it is.
    """
    kept = Q(is_best=True) | Q(is_last=True)
    rows = Checkpoint.objects.filter(kept, run__recipe=recipe).select_related("run").order_by("-created_at")
    found = [("", gettext("New weights"))]
    for row in rows[:CHECKPOINTS_OFFERED]:
        label = gettext("%(run)s, epoch %(epoch)d (%(model)s)")
        shown = label % {"run": row.run.name, "epoch": row.epoch, "model": row.run.config.get("model", "")}
        found.append((f"run/{row.run_id}/{row.file}", shown))
    return found if any(value == present for value, _label in found) else [*found, (present, present)]


class RunForm(forms.Form):
    """A new run of one recipe: its name, dataset and priority, and every field of its configuration.

    After is_valid(), `config` is the checked RunConfig and `corrections` says what was changed for the user.
    """

    recipe = forms.CharField(widget=forms.HiddenInput())

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

    def __init__(self, *args: Any, recipe: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recipe_name = recipe
        self.initial["recipe"] = recipe
        self.fields["dataset"].queryset = datasets_for(recipe)  # type: ignore[attr-defined]
        self.schema = {name: item for name, item in config_schema(recipe).items() if "const" not in item}
        model = str(self.initial.get("model") or self.schema["model"]["default"])
        self.defaults = config_defaults(recipe, model)
        for name, item in self.schema.items():
            self.fields[name] = self._config_field(name, item)
            self.initial.setdefault(name, self.defaults[name])
            if isinstance(value := self.initial[name], float) and value.is_integer():
                self.initial[name] = int(value)  # 5, not 5.0
        for name in self.errors if self.is_bound else ():
            if name in self.fields:
                self.fields[name].widget.attrs |= {"aria-invalid": "true"}
                self.fields[name].widget.attrs["class"] += " is-invalid"

    def _config_field(self, name: str, item: dict[str, Any]) -> forms.Field:
        if name != "start_from":
            return config_field(name, item, self.initial.get(name))
        field = config_field(name, {**item, "enum": [""]}, None)
        field.choices = starting_points(self.recipe_name, self.initial.get(name, ""))  # type: ignore[attr-defined]
        field.required = False
        return field

    def model_defaults(self) -> dict[str, dict[str, Any]]:
        """For the page: what suits each network better than the general defaults."""
        general = {name: item.get("default") for name, item in self.schema.items()}
        suited = {name: one.defaults for name, one in ARCHITECTURES[self.recipe_name].items() if one.defaults}
        return {"": general, **suited}

    def clean(self) -> dict[str, Any]:
        values = {name: self.cleaned_data[name] for name in self.schema if name in self.cleaned_data}
        values["recipe"] = self.recipe_name
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
    recipe = config.get("recipe", "classification")
    defaults = config_defaults(recipe, config["model"]) | {"recipe": recipe}
    for name, item in config_schema(recipe).items():
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
