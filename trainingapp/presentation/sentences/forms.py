"""Sentences that are known by their form, said anew with the values that they hold.

The engine knows no Django and writes plain English; a worker writes in the language of its process. A form is such a
sentence with %(names)s for its values: it is recognised, and its translation takes the values over.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from django.utils.translation import gettext, ngettext

Text = str | tuple[str, str]
"""A form; where a count decides about it, its singular and its plural, whose count is called `count`."""

#: Values that may have several words. Any that stands neither here nor in PATTERNS is one word.
WIDE = frozenset(
    {
        *("path", "other", "image", "source", "where", "elsewhere"),
        *("class", "new_name", "names", "others", "folders", "pair", "tasks", "keys", "formats"),
        *("id", "text", "values", "pixel_values", "trials", "weights", "found", "quoted"),
        *("beginning", "message", "error", "reason", "problems", "damage", "wrong", "fact", "fault", "note", "what"),
        *("changes", "thing", "then"),
    }
)
#: Values that look like no other.
PATTERNS: dict[str, str] = {
    **dict.fromkeys(("size", "free", "reserve", "short", "limit", "packed"), r"\d[\d.,]* \S+"),
    "advice": r"Connect this machine to .+",
    "count": r"\d[\d,]*",
    "box": r"\([^)]*\)",
    "dataset": ".+",
    "ending": r"ending in .+|without an ending",
    "files": r"1 file|\d[\d,]* files",
    "first": ".+",
    "given": r"\S+(?: \S+)?",
    "order_file": r".+config\.json",
    "images": r"1 image|\d[\d,]* images",
    "pixel_size": r"\d[\d,]* x \d[\d,]* pixels|too many pixels",
}
#: Values that are said anew too, where they are known themselves.
NESTED = frozenset(
    {
        *("source", "where", "elsewhere", "files", "images", "ending", "text", "pixel_size", "thing"),
        *("size", "free", "reserve", "short", "limit", "packed"),
        *("beginning", "error", "reason", "damage", "wrong", "advice"),
    }
)
#: Values that are several, with what stands between them.
LISTS = {"changes": "; ", **dict.fromkeys(("names", "others", "pixel_values", "trials"), ", ")}
#: A message of more sentences is left as it is.
MOST_SENTENCES = 16

_VALUE = re.compile(r"%\((?P<name>\w+)\)[a-z]")
#: A form around a whole message is meant before any that the message itself may have.
_AROUND_A_MESSAGE = 10_000
_NEXT = re.compile(r"(?<=[.!?…:]) (?=\S)")


def _pattern_of(name: str) -> str:
    return PATTERNS.get(name, ".+?" if name in WIDE else r"\S+")


class Form:
    """One form of a sentence: recognises it, and translates."""

    def __init__(self, text: str, numbers: tuple[str, str] | None = None) -> None:
        self.text, self._numbers = text, numbers
        words = _VALUE.split(text)[::2]
        #: What every sentence of this form holds: looking for it is many times quicker than matching.
        self.anchor = max(words, key=len)
        self.weight = sum(map(len, words))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        fixed = [re.escape(words) for words in _VALUE.split(self.text)[::2]]
        groups = [f"(?P<{name}>{_pattern_of(name)})" for name in _VALUE.findall(self.text)]
        pairs = zip(fixed, [*groups, ""], strict=True)
        return re.compile("".join(part for pair in pairs for part in pair), re.DOTALL)

    def values(self, sentence: str) -> dict[str, str] | None:
        """What stands in the sentence; None where it has another form."""
        if self.anchor not in sentence:
            return None
        found = self._pattern.fullmatch(sentence)
        return found.groupdict() if found else None

    def said(self, values: dict[str, str]) -> str:
        """In the language that is active."""
        text = ngettext(*self._numbers, int(values["count"])) if self._numbers else gettext(self.text)
        return _VALUE.sub(lambda value: values[value["name"]], text)


class Match(NamedTuple):
    """A text in the active language. `weight` is how much of it its form tells: of several, the most is meant."""

    weight: int
    said: str


class Book:
    """The forms of what somebody says: whole sentences, and parts that stand in them in the place of a value.

    `telling` are the parts that a value of this name must be one of: where it is none, the sentence is another one.
    """

    def __init__(
        self, sentences: Iterable[Text], parts: Iterable[Text], telling: Mapping[str, Iterable[Text]] | None = None
    ) -> None:
        self._sentences, self._parts = _forms(sentences), _forms(parts)
        self._telling = {name: _forms(known) for name, known in (telling or {}).items()}

    def said(self, sentence: str) -> str:
        """In the language that is active where it is known, else as it was written.

        What the studio adds behind words that nobody knows is said anew; the words before it stay.
        """
        if not sentence:
            return ""
        whole = self._best(sentence, self._sentences)
        return whole.said if whole else self._by_sentences(sentence) or gettext(sentence)

    def part(self, words: str, separator: str = "; ") -> str:
        """The same for words that are no sentence, such as a reason, or several of them."""
        return separator.join(_said(self._best(one, self._parts), one) for one in words.split(separator))

    def _best(self, text: str, forms: Iterable[Form]) -> Match | None:
        matches = filter(None, (self._match(text, form) for form in forms))
        return max(matches, key=lambda match: match.weight, default=None)

    def _match(self, text: str, form: Form) -> Match | None:
        values = form.values(text)
        if values is None:
            return None
        known = {name: self._value(name, value) for name, value in values.items()}
        if any(known[name] is None for name in self._telling.keys() & known.keys()):
            return None
        weight = form.weight + sum(match.weight for match in known.values() if match)
        return Match(weight, form.said({name: _said(known[name], value) for name, value in values.items()}))

    def _value(self, name: str, value: str) -> Match | None:
        """The value where it is said anew; only one that tells the sentence has a weight."""
        if name in self._telling:
            return self._best(value, self._telling[name])
        if name == "message":
            return Match(_AROUND_A_MESSAGE, self.said(value))
        if name in LISTS:
            return Match(0, self.part(value, LISTS[name]))
        return Match(0, self.part(value, "\0")) if name in NESTED else None

    def _by_sentences(self, text: str) -> str | None:
        """The longest end of the text that is known sentences, said anew behind the rest; None where none is known."""
        starts = [0, *(space.end() for space in _NEXT.finditer(text))]
        if not 1 < len(starts) <= MOST_SENTENCES:
            return None
        ends = {len(text): ""}
        for start in reversed(starts):
            for end in sorted(ends, reverse=True):
                if one := self._best(text[start:end].rstrip(), self._sentences):
                    ends[start] = _joined(one.said, ends[end])
                    break
        known = min(ends)
        return _joined(text[:known].rstrip(), ends[known]) if known < len(text) else None


def _forms(texts: Iterable[Text]) -> list[Form]:
    return [form for text in texts for form in ([Form(text)] if isinstance(text, str) else _plural(text))]


def _plural(numbers: tuple[str, str]) -> list[Form]:
    return [Form(text, numbers) for text in numbers]


def _said(match: Match | None, text: str) -> str:
    return match.said if match else text


def _joined(sentence: str, next_one: str) -> str:
    """Chinese has no space between sentences."""
    return f"{sentence}{'' if sentence.endswith(('。', '！')) else ' '}{next_one}".strip()
