"""The forms of sweeps. The rows of the search space are made from the metadata of the configuration's fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import JsonValue, ValidationError

from trainingapp.contract.limits import (
    MAX_CONCURRENCY,
    MAX_FOLDS,
    MAX_LIMIT_HOURS,
    MAX_SEED,
    MAX_TRIALS,
    NAME_LENGTH,
)
from trainingapp.contract.number_text import field_number
from trainingapp.contract.setting import ConfigField
from trainingapp.models import Sweep
from trainingapp.models.sweep import REPEATED_FIELDS, Pruner, Sampler
from trainingapp.presentation.choices import choice_label, label_text
from trainingapp.presentation.text import Text
from trainingapp.runs.forms import (
    LIMITS,
    FormSection,
    PlainNumberInput,
    RunForm,
    ShownField,
    config_field,
    mark_errors,
    range_text,
)
from trainingapp.runs.sweeps.sampling import OPTUNA_SAMPLERS, has_optuna
from trainingapp.runs.sweeps.space import (
    MOST_CHOICES,
    MOST_POINTS,
    Params,
    SearchSpace,
    Value,
    searchable_fields,
)
from trainingapp.runs.sweeps.verbs import USUAL_FOLDS

#: Ranges that suit a field whatever its bounds are: low, high, logarithmic. Two factors of the base value where the
#: field has None here.
RANGES: dict[str, tuple[float, float, bool]] = {
    "weight_decay": (1e-5, 0.1, True),
    "momentum": (0.8, 0.98, False),
    "batch_size": (8, 64, True),
    "accumulation_steps": (1, 4, True),
    "warmup_epochs": (0, 5, False),
    "dropout_rate": (0, 0.5, False),
    "label_smoothing": (0, 0.2, False),
    "mixup": (0, 0.4, False),
    "cutmix": (0, 1, False),
    "backbone_lr_factor": (0.05, 1, True),
    "layer_decay": (0.6, 1, False),
    "lora_rank": (4, 32, True),
    "ema_decay": (0.9, 0.999, False),
    "gradient_clip": (0, 5, False),
    "step_epochs": (5, 20, False),
    "freeze_epochs": (0, 5, False),
}
#: Fields that presets choose, by the name of the preset; those that a task does not have are left out.
PRESETS: dict[str, tuple[Text, Text, dict[str, tuple[str, ...] | None]]] = {
    "rate": (
        _("Learning rate"),
        _("The field that matters most, from a tenth to ten times its value."),
        {"learning_rate": None},
    ),
    "optimizer": (
        _("Optimizer"),
        _("Optimizer, learning rate, weight decay and momentum."),
        {"optimizer": ("SGD", "AdamW"), "learning_rate": None, "weight_decay": None, "momentum": None},
    ),
    "regularization": (
        _("Augmentation"),
        _("How images are varied, with what suits the task."),
        {
            "learning_rate": None,
            "augmentation": ("light", "medium", "strong"),
            "mixup": None,
            "label_smoothing": None,
            "mosaic": None,
        },
    ),
}
CONTROL_CHOICES = (0, 10, 5, 3, 2)
#: Fields of the base configuration that decide what a sweep costs and what it optimizes.
SHOWN_FIRST = ("model", "epochs", "best_metric")
SEARCHING = tuple(sampler for sampler in Sampler if sampler not in REPEATED_FIELDS)
#: Fields of the form under the names that create_sweep uses.
FORM_NAMES = {"seed": "sweep_seed", "folds": "fold_count"}


def _beside(*samplers: Sampler) -> dict[str, str]:
    """Attributes of a field that counts with these samplers only; form.js hides it beside others."""
    return {"data-when": "sampler", "data-when-is": " ".join(samplers)}


@dataclass
class SpaceRow:
    """A field that can be searched, with what the form holds of it."""

    config: ConfigField
    label: str
    help: str
    #: Where it has an effect only beside some values of another field.
    condition: str
    is_on: bool = False
    low: str = ""
    high: str = ""
    is_log: bool = False
    points: str = "4"
    #: Of a choice: value, label, whether it is chosen.
    values: list[tuple[str, str, bool]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_special(self) -> bool:
        """Whether it is shown below the others: advanced, or with an effect in some configurations only."""
        return self.config.setting.advanced or self.config.setting.when is not None

    @property
    def is_range(self) -> bool:
        return self.config.kind in ("whole", "number")

    @property
    def range(self) -> str:
        return range_text(self.config)

    @property
    def base(self) -> str:
        return str(choice_label(self.name, self.config.default))

    def dimension(self) -> dict[str, object]:
        """The dimension as data; what is wrong with it is found by the models of the space."""
        if not self.is_range:
            chosen = [self._value(value) for value, _label, is_chosen in self.values if is_chosen]
            return {"kind": "choice", "field": self.name, "values": chosen}
        return {
            "kind": "range",
            "field": self.name,
            "low": self.low,
            "high": self.high,
            "log": self.is_log,
            "points": self.points,
        }

    def _value(self, text: str) -> Value:
        return text == "true" if self.config.kind == "switch" else text


def space_rows(
    task: str, base: Mapping[str, JsonValue], posted: QueryDict | None = None, preset: str = ""
) -> list[SpaceRow]:
    """The rows of a task: as they were posted, or filled with a preset."""
    chosen = PRESETS[preset][2] if preset in PRESETS else {}
    rows = []
    for name, one in searchable_fields(task).items():
        row = _empty_row(one, base)
        if posted is not None and not chosen:
            _fill_row(row, posted)
        elif name in chosen:
            row.is_on = True
            wanted = chosen[name]
            if wanted:
                row.values = [(value, label, value in wanted) for value, label, _is_chosen in row.values]
        rows.append(row)
    return rows


def _empty_row(one: ConfigField, base: Mapping[str, JsonValue]) -> SpaceRow:
    when = one.setting.when
    condition = ""
    if when:
        known = searchable_fields(str(base["task"]))
        other = label_text(known[when.field].setting.label) if when.field in known else when.field
        values = ", ".join(str(choice_label(when.field, value)) for value in when.values)
        condition = gettext("Counts only with %(field)s: %(values)s.") % {"field": other, "values": values}
    row = SpaceRow(one, label_text(one.setting.label), gettext(one.setting.help), condition)
    if row.is_range:
        low, high, row.is_log = _suggested_range(one, base.get(one.name, one.default))
        row.low, row.high = field_number(low), field_number(high)
    elif one.kind == "switch":
        row.values = [("true", gettext("yes"), True), ("false", gettext("no"), True)]
    else:
        present = base.get(one.name, one.default)
        offered = [*one.choices, *([str(present)] if present not in one.choices else [])]
        row.values = [(value, str(choice_label(one.name, value)), value == present) for value in offered]
    return row


def _suggested_range(one: ConfigField, present: JsonValue) -> tuple[float, float, bool]:
    """A range around the value of the base configuration, within the bounds of the field."""
    if one.name in RANGES:
        return RANGES[one.name]
    try:
        value = float(str(present))
    except ValueError:  # what was entered is no number
        value = float(str(one.default))
    if one.name == "learning_rate":
        return float(f"{value / 10:.3g}"), float(f"{value * 10:.3g}"), True
    if one.name == "image_size":
        return max(one.minimum or 32, value // 64 * 32), min(one.maximum or 1024, value * 2), False
    low = one.minimum if one.minimum is not None and not one.is_open_below else value / 2
    high = one.maximum if one.maximum is not None and not one.is_open_above and one.maximum <= 10 else 2 * value or 1.0
    return low, high, False


def _fill_row(row: SpaceRow, posted: QueryDict) -> None:
    name = row.name
    row.is_on = f"search-{name}" in posted
    row.low = posted.get(f"low-{name}", row.low)[:30]
    row.high = posted.get(f"high-{name}", row.high)[:30]
    row.points = posted.get(f"points-{name}", row.points)[:5]
    if f"low-{name}" in posted or row.is_on:
        row.is_log = f"log-{name}" in posted
    if row.is_on:
        given = set(posted.getlist(f"value-{name}")[:MOST_CHOICES])
        row.values = [(value, label, value in given) for value, label, _is_chosen in row.values]


class SweepForm(RunForm):
    """A new sweep: its search space, method and budgets, and the base configuration with the fields of a run.

    After is_valid(), `space` is the search space as it was entered; the verb checks it against the configuration.
    """

    tells_pretrained = False

    sampler = forms.ChoiceField(
        label=_("Sampler"),
        choices=Sampler.choices,
        help_text=_(
            "TPE learns from the results so far. Random and grid do not. Gaussian process suits few trials of few "
            "numbers. Repeated seeds trains one configuration several times, cross-validation once for each fold."
        ),
        widget=forms.Select({"class": "form-select"}),
    )
    fold_count = forms.IntegerField(
        label=_("Number of folds"),
        required=False,
        min_value=2,
        max_value=MAX_FOLDS,
        initial=USUAL_FOLDS,
        help_text=_("The images of both splits are divided into so many folds; each trial validates on one of them."),
        widget=forms.NumberInput({"class": "form-control", **_beside(Sampler.FOLDS)}),
    )
    pruner = forms.ChoiceField(
        label=_("Pruner"),
        choices=Pruner.choices,
        help_text=_("Stops trials early that fall behind the others. Median suits up to 40 trials, Hyperband more."),
        widget=forms.Select({"class": "form-select", **_beside(*SEARCHING)}),
    )
    control_every = forms.TypedChoiceField(
        label=_("Random control group"),
        coerce=int,
        help_text=_("Random trials among the suggested ones show whether the sampler is worth it."),
        widget=forms.Select({"class": "form-select", **_beside(*SEARCHING)}),
    )
    sweep_seed = forms.IntegerField(
        label=_("Seed of the sampler"),
        min_value=0,
        max_value=MAX_SEED,
        initial=0,
        help_text=_("The same seed and the same results give the same trials."),
        widget=forms.NumberInput({"class": "form-control", **_beside(*SEARCHING)}),
    )
    max_trials = forms.IntegerField(
        label=_("Trials"),
        min_value=1,
        max_value=MAX_TRIALS,
        initial=20,
        help_text=_("The first one is the base configuration."),
        widget=forms.NumberInput({"class": "form-control", **_beside(*SEARCHING, Sampler.REPEAT)}),
    )
    concurrency = forms.IntegerField(
        label=_("Concurrency"),
        min_value=1,
        max_value=MAX_CONCURRENCY,
        initial=1,
        help_text=_("Trials that train at the same time. Fewer of them let the sampler learn more."),
        widget=forms.NumberInput({"class": "form-control"}),
    )
    max_hours = forms.FloatField(
        label=_("Hours"),
        required=False,
        min_value=0.01,
        max_value=MAX_LIMIT_HOURS,
        help_text=_("No trial begins after the sweep has been running for so long. Empty: no limit."),
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )
    max_device_hours = forms.FloatField(
        label=_("Device hours"),
        required=False,
        min_value=0.01,
        max_value=MAX_LIMIT_HOURS,
        help_text=_("No trial begins once all trials together have used this training time. Empty: no limit."),
        widget=PlainNumberInput({"class": "form-control", "step": "any"}),
    )

    space: SearchSpace

    def __init__(self, *arguments: Any, preset: str = "", **options: Any) -> None:
        self.preset = preset
        super().__init__(*arguments, **options)

    def _prepare(self) -> None:
        for name in ("priority", *LIMITS):  # trials have the studio's, and the priority of trials
            del self.fields[name]
        self.fields["name"].help_text = _("Identifies the sweep in lists; its runs are numbered.")
        if not has_optuna():
            offered = [(value, label) for value, label in Sampler.choices if value not in OPTUNA_SAMPLERS]
            self.fields["sampler"].choices = offered  # type: ignore[attr-defined]
        texts = {
            count: gettext("Every %(count)d trials one") % {"count": count} if count else gettext("None")
            for count in CONTROL_CHOICES
        }
        self.fields["control_every"].choices = list(texts.items())  # type: ignore[attr-defined]
        posted = self.data if isinstance(self.data, QueryDict) and self.is_bound else self.initial.get("_posted")
        base = {**self.defaults, **{name: self.initial[name] for name in self.config_fields}, "task": self.task_name}
        self.rows = space_rows(self.task_name, base, posted, self.preset)

    @property
    def common_rows(self) -> list[SpaceRow]:
        return [row for row in self.rows if not row.is_special]

    @property
    def more_rows(self) -> list[SpaceRow]:
        return [row for row in self.rows if row.is_special]

    @property
    def shows_more_rows(self) -> bool:
        return any(row.is_on or row.errors for row in self.more_rows)

    @property
    def shows_base(self) -> bool:
        """Whether a field of the base configuration is wrong, and so must be visible."""
        return self.is_bound and any(name in self.errors for name in self.config_fields if name not in SHOWN_FIRST)

    def has_own_limits(self) -> bool:
        return False

    def sections(self) -> Iterator[FormSection]:
        """The base configuration, without the fields that the form shows first."""
        for section in super().sections():
            fields = [one for one in section.fields if one.bound.name not in SHOWN_FIRST]
            if fields or section.advanced:
                yield replace(section, fields=fields)

    def first_fields(self) -> list[ShownField]:
        return [self._shown(self.config_fields[name]) for name in SHOWN_FIRST if name in self.config_fields]

    def clean(self) -> dict[str, object]:
        values = super().clean()
        if values.get("sampler") in REPEATED_FIELDS:  # the form does not show the search space then
            self.space = SearchSpace()
            return values
        try:
            self.space = SearchSpace.model_validate({"dimensions": [row.dimension() for row in self.rows if row.is_on]})
        except ValidationError as error:
            self.space = SearchSpace()
            self._mark(error)
        return values

    def _mark(self, error: ValidationError) -> None:
        """Name the rows that the error is about."""
        chosen = [row for row in self.rows if row.is_on]
        for item in error.errors():
            place = item["loc"][1] if len(item["loc"]) > 1 else None
            if isinstance(place, int) and place < len(chosen):
                is_choice = item["loc"][-1] == "values"
                text = gettext("Choose at least two values.") if is_choice else gettext("Enter numbers.")
                self.mark(chosen[place].name, text)
            else:
                self.add_error(None, gettext("The search space has too many fields."))

    def mark(self, name: str, text: str) -> None:
        """Add an error to a row of the search space, or to a field of the form."""
        row = next((row for row in self.rows if row.name == name), None)
        if row is not None:
            row.errors.append(text)
            self.add_error(None, f"{row.label}: {text}")
        else:
            place = FORM_NAMES.get(name, name)
            self.add_error(place if place in self.fields else None, text)
            mark_errors(self)

    @property
    def searching_samplers(self) -> str:
        """The samplers that need a search space, for form.js."""
        return " ".join(SEARCHING)

    @property
    def most_points(self) -> int:
        return MOST_POINTS

    def method(self) -> dict[str, Any]:
        """What create_sweep takes besides name, dataset, configuration and space."""
        names = ("sampler", "pruner", "control_every", "concurrency", "max_trials", "max_hours", "max_device_hours")
        values = {name: self.cleaned_data[name] for name in names}
        folds = self.cleaned_data["fold_count"]
        return values | {"seed": self.cleaned_data["sweep_seed"], "folds": USUAL_FOLDS if folds is None else folds}


class BudgetForm(forms.Form):
    """The name, the concurrency and the budgets of a sweep that exists."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    max_trials = SweepForm.base_fields["max_trials"]
    concurrency = SweepForm.base_fields["concurrency"]
    max_hours = SweepForm.base_fields["max_hours"]
    max_device_hours = SweepForm.base_fields["max_device_hours"]

    def __init__(self, sweep: Sweep, data: Mapping[str, object] | None = None) -> None:
        names = ("name", "max_trials", "concurrency", "max_hours", "max_device_hours")
        super().__init__(data, initial={name: getattr(sweep, name) for name in names})
        self.fields["max_trials"].widget.attrs.pop("data-when", None)
        if sweep.sampler == Sampler.FOLDS:  # it has a trial for each fold
            del self.fields["max_trials"]
        mark_errors(self)


class TrialForm(forms.Form):
    """Values for one trial: a field for each dimension of the search space.

    After is_valid(), `params` holds them.
    """

    def __init__(
        self, sweep: Sweep, data: Mapping[str, object] | None = None, *, initial: Params | None = None
    ) -> None:
        super().__init__(data)
        known = searchable_fields(sweep.task)
        self.names = SearchSpace.model_validate(sweep.space).fields
        for name in self.names:
            self.fields[name] = config_field(known[name], sweep.config[name])
            self.fields[name].widget.attrs.pop("data-when", None)
            self.fields[name].required = False
            self.initial[name] = (initial or {}).get(name, sweep.config[name])
        mark_errors(self)

    @property
    def params(self) -> Params:
        """What was entered; a field that was left empty has the value of the base configuration."""
        given = {name: self.cleaned_data.get(name) for name in self.names}
        return {name: value for name, value in given.items() if value is not None and value != ""}
