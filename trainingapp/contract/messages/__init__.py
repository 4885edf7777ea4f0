"""Messages are codes with typed parameters; their texts are rendered where they are displayed.

The engine, the workers and the importer emit a `Message`. Events, failures and findings store its code and its
parameters, so that a page, the API or a command can render it in the reader's language, whatever process wrote it:

    EPOCHS_CHANGED = define("epochs_changed", gettext_noop("The run has %(epochs)d epochs now."))
    log(EPOCHS_CHANGED(epochs=30))

Each area defines its messages in a module of this package. `str(message)` is the English text. With gettext it is
rendered by `trainingapp.presentation.messages`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict, Union

from pydantic import JsonValue

#: A value of a message. Texts that come from outside (names, paths, errors of libraries) are plain strings; what is
#: rendered in the reader's language too is a message itself.
Param = Union[str, int, float, "Message", Sequence["Param"]]

_PLACEHOLDER = re.compile(r"%%|%\((?P<name>\w+)\)(?P<format>[^a-zA-Z%]*[a-zA-Z])")
_NUMBER_FORMATS = "dfgeFGE"
_HIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def gettext_noop(text: str) -> str:
    """Marks `text` for the catalog of translations; the engine has no Django to do so."""
    return text


def ngettext(singular: str, plural: str) -> tuple[str, str]:
    """Marks a text with a plural form for the catalog of translations."""
    return singular, plural


class MessageData(TypedDict):
    """A stored message; nested messages in the params have the same form."""

    code: str
    params: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Message:
    """A code with its parameters. Made by calling what `define` returned, or read by `from_data`."""

    code: str
    params: Mapping[str, Param] = field(default_factory=dict)

    def __str__(self) -> str:
        return english(self)

    def as_data(self) -> MessageData:
        """The message as it is stored; the inverse of `from_data`."""
        return {"code": self.code, "params": {name: _plain(value) for name, value in self.params.items()}}


@dataclass(frozen=True)
class Template:
    """The English text of a code. Where a count decides about it, `plural` is its form for other counts than 1.

    The placeholders are %(name)s for texts and messages, %(name)d for whole numbers, %(name).2f and the like for
    numbers. The count of a plural is the parameter `count`; `COUNTS` are the names of all that have thousands
    separators.
    """

    code: str
    text: str
    plural: str = ""

    def __call__(self, **params: Param) -> Message:
        """Raises TypeError for a parameter that is missing, unknown or of another type."""
        formats = self.formats
        if params.keys() != formats.keys():
            raise TypeError(f"message {self.code}: takes {sorted(formats)}, not {sorted(params)}")
        for name, value in params.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if formats[name][-1] in _NUMBER_FORMATS and not is_number:
                raise TypeError(f"message {self.code}: {name} must be a number, not {value!r}")
        return Message(self.code, params)

    @cached_property
    def formats(self) -> dict[str, str]:
        """The conversion of each placeholder by name, such as {"count": "d"}."""
        found = _PLACEHOLDER.finditer(f"{self.text}\0{self.plural}")
        formats = {match["name"]: match["format"] for match in found if match["name"]}
        return {**formats, "count": "d"} if self.plural else formats


#: Every defined message by its code.
TEMPLATES: dict[str, Template] = {}


def define(code: str, text: str | tuple[str, str]) -> Template:
    """Define a message: `text` is marked by `gettext_noop`, or a pair by `ngettext`. Raises ValueError for a code that
    exists already."""
    if code in TEMPLATES:
        raise ValueError(f"the message {code} is defined twice")
    TEMPLATES[code] = Template(code, text) if isinstance(text, str) else Template(code, *text)
    return TEMPLATES[code]


SENTENCES = define("sentences", "%(sentences)s")
#: A text from outside, such as the error of a library: the same in every language.
VERBATIM = define("verbatim", "%(text)s")


class MessageError(Exception):
    """An error whose text is a message; a plain string becomes a `VERBATIM` message.

    Built from the message alone, so that it can be pickled: loader processes return errors to the trainer.
    """

    def __init__(self, message: Message | str) -> None:
        super().__init__(VERBATIM(text=message) if isinstance(message, str) else message)

    @property
    def message(self) -> Message:
        message: Message = self.args[0]
        return message

    def __str__(self) -> str:
        return str(self.message)


def message_of(error: BaseException) -> Message:
    """The message of an error; of one from outside its text."""
    return error.message if isinstance(error, MessageError) else VERBATIM(text=str(error))


def sentences(*parts: Message | None) -> Message:
    """Several messages in one, each a separate sentence; None is omitted."""
    present = [part for part in parts if part is not None]
    return present[0] if len(present) == 1 else SENTENCES(sentences=present)


def from_data(data: object) -> Message | None:
    """The message in stored data, whether or not its code is known here; None where there is none."""
    if not isinstance(data, Mapping) or not isinstance(data.get("code"), str):
        return None
    params = data.get("params")
    values = params if isinstance(params, Mapping) else {}
    return Message(data["code"], {str(name): _param(value) for name, value in values.items()})


def english(message: Message) -> str:
    """The text in English; of a code that is unknown here, the code with its parameters."""
    template = TEMPLATES.get(message.code)
    if template is None:
        return unknown_text(message)
    is_plural = bool(template.plural) and message.params.get("count") != 1
    text = template.plural if is_plural else template.text
    return filled(text, message.params, english, " ", "{:,}".format)


COUNTS = frozenset(
    {
        "count",
        "total",
        "most",
        "rest",
        "more",
        "loaded",
        "bytes",
        "mb",
        "most_mb",
        "free_mb",
        "batch_mb",
        "train",
        "val",
    }
)
"""Names of parameters that count something and have thousands separators.

Others have none: settings (batch_size, epochs), values of a file (value, low, high), places (line, step, number) and
sizes in pixels, which a person compares with what is written elsewhere.
"""


def filled(
    text: str,
    params: Mapping[str, Param],
    render: Callable[[Message], str],
    between_sentences: str,
    group: Callable[[int], str],
) -> str:
    """`text` with its values, nested messages rendered by `render`, counts written by `group`.

    A parameter that is missing stays visible.
    """

    def shown(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "%"
        if name not in params:
            return match[0]
        value = params[name]
        if isinstance(value, Message):
            return render(value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            separator = between_sentences if name == "sentences" else ", "
            return separator.join(render(one) if isinstance(one, Message) else visible(str(one)) for one in value)
        if name in COUNTS and match["format"] == "d" and isinstance(value, int):
            return group(value)
        try:
            return f"%{match['format']}" % (visible(value) if isinstance(value, str) else value)
        except (TypeError, ValueError):  # stored by another version, which had another type there
            return str(value)

    return _PLACEHOLDER.sub(shown, text)


def visible(text: str) -> str:
    """The text with control characters, and those that turn the direction of writing, as escapes such as \\u202e.

    A name from outside could otherwise rearrange the text around it, or write to the terminal. Line ends stay.
    """
    return text if text.isprintable() else _HIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)


def unknown_text(message: Message) -> str:
    """What is shown of a code that this version does not know: nothing is lost, if not pretty."""
    values = ", ".join(f"{name}={value}" for name, value in message.params.items())
    return f"{message.code} ({values})" if values else message.code


def nested(message: Message) -> Iterator[Message]:
    """The message and all that it holds."""
    yield message
    for value in message.params.values():
        for one in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            if isinstance(one, Message):
                yield from nested(one)


def _plain(value: Param) -> JsonValue:
    if isinstance(value, Message):
        return {"code": value.code, "params": {name: _plain(part) for name, part in value.params.items()}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value


def _param(value: object) -> Param:
    if isinstance(value, Mapping):
        return from_data(value) or str(value)
    if isinstance(value, list):
        return [_param(one) for one in value]
    return value if isinstance(value, str | int | float) else str(value)
