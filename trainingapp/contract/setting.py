"""The metadata of a configuration field: what forms, pages, commands and the engine know about it besides its type.

Each field of a RunConfig carries one `Setting` in its annotation. Type, bounds and default are pydantic's:

    momentum: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(_("Momentum"), _("Momentum of SGD and RMSprop."), Section.OPTIMIZER, changes_result=True),
    ] = 0.9

`config_fields` of trainingapp.contract.config joins both into one typed record. Texts are English; the functions below
mark them for the catalog, and `trainingapp.presentation.choices` renders them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Literal, cast

from pydantic import GetJsonSchemaHandler, JsonValue
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from trainingapp.contract.messages import gettext_noop as _


@dataclass(frozen=True)
class Text:
    """An English text with a context for the catalog: one word may need several translations."""

    text: str
    context: str


def pgettext(context: str, text: str) -> Text:
    """Marks `text` for the catalog, with its context."""
    return Text(text, context)


def npgettext(context: str, singular: str, plural: str) -> tuple[str, str, str]:
    """Marks a text with a plural form for the catalog, with its context."""
    return context, singular, plural


Label = str | Text


@unique
class Section(Enum):
    """The sections of the form in their order."""

    MODEL = _("Model")
    TRAINING = _("Training")
    BOXES = _("Detection")
    PIXELS = _("Loss")
    AUGMENTATION = _("Augmentation")
    OPTIMIZER = _("Optimizer")
    SAVING = _("Checkpoints and stopping")
    MACHINE = _("Hardware")

    @property
    def key(self) -> str:
        """Its name in anchors of pages and comments of files, such as "model"."""
        return self.name.lower()

    @property
    def title(self) -> str:
        return self.value


SECTIONS = tuple(Section)


@unique
class Unit(Enum):
    """Units, each with a context for the catalog, its singular and its plural."""

    EPOCHS = npgettext("a unit", "epoch", "epochs")
    IMAGES = npgettext("a unit", "image", "images")
    STEPS = npgettext("a unit", "step", "steps")
    BATCHES = npgettext("a unit", "batch", "batches")
    BOXES = npgettext("a unit", "box", "boxes")
    PIXELS = npgettext("a unit", "pixel", "pixels")
    MINUTES = npgettext("a unit", "minute", "minutes")
    DAYS = npgettext("a unit", "day", "days")
    CHECKPOINTS = npgettext("a unit", "checkpoint", "checkpoints")
    PROCESSES = npgettext("a unit", "process", "processes")
    THREADS = npgettext("a unit", "thread", "threads")
    DEVICES = npgettext("a unit", "device", "devices")
    HOSTS = npgettext("a unit", "host", "hosts")
    GB = ("a unit", "GB", "GB")

    @property
    def plural(self) -> str:
        return self.value[2]


@dataclass(frozen=True)
class When:
    """A field has an effect only while another field has one of these values."""

    field: str
    values: tuple[str, ...]

    def holds(self, values: Mapping[str, object]) -> bool:
        """Whether it does in this configuration. A field that is missing there is not known to rule it out."""
        return self.field not in values or values[self.field] in self.values


@dataclass(frozen=True)
class OldSwitch:
    """The choices that the values of a field have become which was a switch in version 0.1.

    `default` is the choice of a stored configuration that lacks the field.
    """

    on: str
    off: str
    default: str

    def choice(self, value: object) -> object:
        """The choice for a value of the switch, in any form that pydantic accepted; another value as it is."""
        if value in (self.on, self.off):
            return value
        word = value.strip().casefold() if isinstance(value, str) else value
        return self.on if word in SWITCHED_ON else self.off if word in SWITCHED_OFF else value


SWITCHED_ON = (True, "true", "yes", "on", "1", "t", "y")
SWITCHED_OFF = (False, "false", "no", "off", "0", "f", "n")


@dataclass(frozen=True)
class Setting:
    """Everything about a field that pydantic does not know.

    `changes_result`: a run with another value computes other weights. What only decides when something is saved,
    shown or placed, or which checkpoint counts as the best, does not.

    `kept_by_continuing`: a fork that continues from a step must keep the value, because the tensors of the
    checkpoint (weights, optimizer state, EMA) belong to it.

    `choice_when`: values that can be chosen only while another field has one of some values.

    `old_switch`: of a choice that was a switch in version 0.1, whose values are still accepted.

    `for_new_runs`: the default of new runs where it is not that of the field, which a stored configuration without the
    field has.

    `told_with`: a field whose value is told wherever that of the other field is not its default, even if it is its own
    default: fold 0 of a run that has folds.

    `labels` by value, for fields with choices. Without any, the values are proper names and are shown as they are. Of a
    field with numbers, those with a meaning of their own, such as "-1".
    """

    label: str
    help: str
    section: Section
    changes_result: bool = field(kw_only=True)
    unit: Unit | None = field(default=None, kw_only=True)
    advanced: bool = field(default=False, kw_only=True)
    when: When | None = field(default=None, kw_only=True)
    choice_when: Mapping[str, When] = field(default_factory=dict, kw_only=True)
    labels: Mapping[str, Label] = field(default_factory=dict, kw_only=True)
    old_switch: OldSwitch | None = field(default=None, kw_only=True)
    kept_by_continuing: bool = field(default=False, kw_only=True)
    for_new_runs: str | None = field(default=None, kw_only=True)
    told_with: str | None = field(default=None, kw_only=True)

    def has_effect(self, values: Mapping[str, object]) -> bool:
        """Whether the field has an effect in a configuration with these values."""
        return self.when is None or self.when.holds(values)

    def stored(self, name: str, values: Mapping[str, JsonValue], default: JsonValue) -> JsonValue:
        """The value of the field `name` in a stored configuration, which an older version may have written."""
        if self.old_switch is None:
            return values.get(name, default)
        return cast(JsonValue, self.old_switch.choice(values.get(name, self.old_switch.default)))

    def can_choose(self, choice: object, values: Mapping[str, object]) -> bool:
        """Whether the other values of a configuration allow this choice."""
        when = self.choice_when.get(choice) if isinstance(choice, str) else None
        return when is None or when.holds(values)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes the field in the document of the API."""
        about: JsonSchemaValue = {
            "description": self.help,
            "label": self.label,
            "group": self.section.key,
            "unit": self.unit.plural if self.unit else "",
            "advanced": self.advanced,
        }
        return {**handler(schema), **about}


Kind = Literal["whole", "number", "switch", "choice", "text"]


@dataclass(frozen=True)
class ConfigField:
    """A field of one task's configuration: what pydantic knows of it, and its `setting`.

    `minimum` and `maximum` are None where there is no such bound; `is_open_below` and `is_open_above` say that the
    bound itself is excluded. `choices` holds the values to choose from; a network may have other names too. `words` are
    accepted beside numbers.
    """

    name: str
    kind: Kind
    default: JsonValue
    setting: Setting
    minimum: float | None = None
    maximum: float | None = None
    is_open_below: bool = False
    is_open_above: bool = False
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to choose, as for the task."""
        return self.choices == (self.default,)

    def default_beside(self, values: Mapping[str, object]) -> JsonValue:
        """The default, or the first choice that the other values of a configuration allow where they rule it out."""
        if self.setting.can_choose(self.default, values):
            return self.default
        return next(choice for choice in self.choices if self.setting.can_choose(choice, values))
