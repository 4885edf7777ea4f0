"""The search space of a sweep: the fields of a configuration that its trials change, and their values.

A space is stored as JSON. `checked_space` compares it with the metadata and the bounds of the configuration, which
know each field; nothing about a field is repeated here.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Literal

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from trainingapp.contract.base_config import IMAGE_SIZE_MULTIPLE
from trainingapp.contract.config import config_fields
from trainingapp.contract.number_text import field_number
from trainingapp.contract.setting import ConfigField, Section
from trainingapp.models.verbs import FieldError
from trainingapp.presentation.choices import label_text

Value = bool | int | float | str
Params = dict[str, Value]

MOST_DIMENSIONS = 20
MOST_CHOICES = 50
MOST_POINTS = 100
#: Combinations of a grid.
MOST_COMBINATIONS = 10_000
#: Significant digits of a suggested number: more say nothing and make tables hard to read.
DIGITS = 4
#: Not searched: what decides how long a trial trains, how it is counted, and what makes trials comparable.
LEFT_OUT = frozenset(
    {"task", "epochs", "seed", "folds", "fold", "best_metric", "start_from", "label_mode", "auto_batch_size"}
)
_RECORD = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Condition(BaseModel):
    """A dimension counts only in trials in which another field has one of these values."""

    model_config = _RECORD

    field: str
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_CHOICES)]

    def holds(self, values: Mapping[str, object]) -> bool:
        return values.get(self.field) in self.values


class Range(BaseModel):
    """A number between two bounds, both included; `log` searches its magnitude. A grid takes `points` of them."""

    model_config = _RECORD

    kind: Literal["range"] = "range"
    field: str
    low: float
    high: float
    log: bool = False
    points: Annotated[int, Field(ge=2, le=MOST_POINTS)] = 4
    when: Condition | None = None


class Choice(BaseModel):
    """One of some values."""

    model_config = _RECORD

    kind: Literal["choice"] = "choice"
    field: str
    values: Annotated[tuple[Value, ...], Field(min_length=2, max_length=MOST_CHOICES)]
    when: Condition | None = None


Dimension = Annotated[Range | Choice, Field(discriminator="kind")]


class SearchSpace(BaseModel):
    """The dimensions; one that depends on another follows it."""

    model_config = _RECORD

    dimensions: Annotated[tuple[Dimension, ...], Field(max_length=MOST_DIMENSIONS)] = ()

    def __iter__(self) -> Iterator[Range | Choice]:  # type: ignore[override]  # pydantic would yield its fields
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    @property
    def fields(self) -> list[str]:
        return [dimension.field for dimension in self]


def searchable_fields(task: str) -> dict[str, ConfigField]:
    """The fields that change the result of a run and that a sweep can choose, in the order of the form."""
    return {
        name: field
        for name, field in config_fields(task).items()
        if field.setting.changes_result
        and field.kind != "text"
        and not field.words
        and not field.is_fixed
        and field.setting.section != Section.MACHINE
        and name not in LEFT_OUT
    }


def is_active(dimension: Range | Choice, field: ConfigField, values: Mapping[str, object]) -> bool:
    """Whether the dimension counts beside these values: by its own condition, and as the configuration says."""
    return (dimension.when is None or dimension.when.holds(values)) and field.setting.has_effect(values)


def step_of(name: str) -> int:
    """The distance of two whole numbers that the field can have."""
    return IMAGE_SIZE_MULTIPLE if name == "image_size" else 1


def fitted(dimension: Range, field: ConfigField, value: float) -> Value:
    """The value nearest to this one that the field can have within the range."""
    if field.kind == "whole":
        step = step_of(dimension.field)
        nearest = round(value / step) * step
        return int(min(max(nearest, math.ceil(dimension.low / step) * step), dimension.high // step * step))
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)


def is_inside(space: SearchSpace, params: Mapping[str, object]) -> bool:
    """Whether each of the values is one that the space contains."""
    for dimension in space:
        value = params.get(dimension.field)
        if value is None:
            continue
        if isinstance(dimension, Choice):
            if value not in dimension.values:
                return False
        elif not isinstance(value, int | float) or not dimension.low <= value <= dimension.high:
            return False
    return True


# Checking


def checked_space(space: SearchSpace, base: Mapping[str, JsonValue], *, is_grid: bool = False) -> SearchSpace:
    """The space in an order in which no dimension precedes one that it depends on.

    `base` is the base configuration. Raises FieldError, with the name of the field, for what the configuration does not
    allow.
    """
    known = searchable_fields(str(base["task"]))
    seen: set[str] = set()
    for dimension in space:
        name = dimension.field
        if name not in known:
            raise FieldError(name, _("%(field)s cannot be searched.") % {"field": name})
        if name in seen:
            raise FieldError(name, _("%(field)s is named twice.") % {"field": name})
        seen.add(name)
        if isinstance(dimension, Choice):
            _check_choice(dimension, known[name])
        else:
            _check_range(dimension, known[name])
        if dimension.when is not None and (dimension.when.field == name or dimension.when.field not in base):
            raise FieldError(
                name, _("The condition names an unknown field: %(field)s.") % {"field": dimension.when.field}
            )
    ordered = _ordered(space, known)
    never = [one for one in ordered if not _may_count(one, known[one.field], ordered, base)]
    if never:
        text = _("It has no effect with the other values of the configuration.")
        raise FieldError(never[0].field, text)
    if is_grid and count_grid(ordered) > MOST_COMBINATIONS:
        text = _("The grid has more than %(count)d combinations. Choose fewer points.")
        raise FieldError(ordered.fields[0], text % {"count": MOST_COMBINATIONS})
    return ordered


def _check_choice(dimension: Choice, field: ConfigField) -> None:
    for value in dimension.values:
        is_fitting = {
            "choice": isinstance(value, str) and (value in field.choices or field.name == "model"),
            "switch": isinstance(value, bool),
            "whole": isinstance(value, int) and not isinstance(value, bool) and _within(field, value),
            "number": isinstance(value, int | float) and not isinstance(value, bool) and _within(field, value),
        }
        if not is_fitting.get(field.kind, False):
            text = _("%(value)s is no value of %(field)s.")
            raise FieldError(field.name, text % {"value": value, "field": label_text(field.setting.label)})
    if len(set(map(repr, dimension.values))) < len(dimension.values):
        raise FieldError(field.name, _("A value is named twice."))


def _check_range(dimension: Range, field: ConfigField) -> None:
    name = field.name
    if field.kind not in ("whole", "number"):
        raise FieldError(
            name, _("%(field)s has no range. Name its values.") % {"field": label_text(field.setting.label)}
        )
    if dimension.low >= dimension.high:
        raise FieldError(name, _("The lowest value must be less than the highest."))
    for bound in (dimension.low, dimension.high):
        if not _within(field, bound):
            text = _("%(value)s is outside of the bounds of %(field)s.")
            shown = {"value": field_number(bound), "field": label_text(field.setting.label)}
            raise FieldError(name, text % shown)
        if field.kind == "whole" and bound % step_of(name):
            text = _("The bounds must be multiples of %(step)d.") if step_of(name) > 1 else _("Enter whole numbers.")
            raise FieldError(name, text % {"step": step_of(name)})
    if dimension.log and dimension.low <= 0:
        raise FieldError(name, _("A logarithmic range must begin above 0."))


def _within(field: ConfigField, value: float) -> bool:
    low, high = field.minimum, field.maximum
    above = low is None or value > low or (value == low and not field.is_open_below)
    below = high is None or value < high or (value == high and not field.is_open_above)
    return above and below


def _ordered(space: SearchSpace, known: Mapping[str, ConfigField]) -> SearchSpace:
    """Each dimension after those that decide whether it counts."""
    rest, found = list(space), list[Range | Choice]()
    while rest:
        waiting = {dimension.field for dimension in rest}
        ready = [one for one in rest if not (_decided_by(one, known[one.field]) - {one.field}) & waiting]
        if not ready:
            raise FieldError(rest[0].field, _("The conditions depend on each other."))
        found.append(ready[0])
        rest.remove(ready[0])
    return SearchSpace(dimensions=tuple(found))


def _decided_by(dimension: Range | Choice, field: ConfigField) -> set[str]:
    when = field.setting.when
    return ({dimension.when.field} if dimension.when else set()) | ({when.field} if when else set())


def _may_count(
    dimension: Range | Choice, field: ConfigField, space: SearchSpace, base: Mapping[str, JsonValue]
) -> bool:
    """Whether some values of the fields that decide about it let the dimension count."""
    offered = {
        one.field: list(one.values) if isinstance(one, Choice) else list(grid_values(one, None)) for one in space
    }
    names = sorted(_decided_by(dimension, field))
    each: list[list[object]] = [list(offered[name]) if name in offered else [base.get(name)] for name in names]
    return any(is_active(dimension, field, {**base, **dict(zip(names, one, strict=True))}) for one in product(*each))


# The grid


def grid_values(dimension: Range | Choice, field: ConfigField | None) -> list[Value]:
    """The values that a grid tries."""
    if isinstance(dimension, Choice):
        return list(dimension.values)
    low, high, last = dimension.low, dimension.high, dimension.points - 1
    if dimension.log:
        spread = [low * (high / low) ** (place / last) for place in range(dimension.points)]
    else:
        spread = [low + (high - low) * place / last for place in range(dimension.points)]
    return list(dict.fromkeys(spread if field is None else (fitted(dimension, field, value) for value in spread)))


def count_grid(space: SearchSpace) -> int:
    """The combinations of the grid; those that conditions make equal are counted each."""
    return math.prod(len(grid_values(dimension, None)) for dimension in space)


def grid(space: SearchSpace, base: Mapping[str, JsonValue]) -> Iterator[Params]:
    """The combinations in order, each once. What does not count in a combination is left out of it."""
    known = searchable_fields(str(base["task"]))
    seen: set[tuple[tuple[str, Value], ...]] = set()
    for values in product(*(grid_values(dimension, known[dimension.field]) for dimension in space)):
        params: Params = {}
        for dimension, value in zip(space, values, strict=True):
            if is_active(dimension, known[dimension.field], {**base, **params}):
                params[dimension.field] = value
        key = tuple(params.items())
        if key not in seen:
            seen.add(key)
            yield params
