"""Reading a large JSON object piece by piece: the elements of its lists come one at a time.

Neither the text of a large file nor the many times larger objects made from it are held as a whole.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, reason
from trainingapp.datasets.sources.position import Position

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
#: A value is searched in so many characters, then in more: as objects, it takes many times the memory of its text.
_PIECES = (4096, 65_536, 4 * 1024**2)


def elements(text: str | Iterable[str], path: str) -> Iterator[tuple[int, object]]:
    """(line, value) of each element of the list. Parameters and errors are those of `members`."""
    reader = _Reader([text] if isinstance(text, str) else text, path)
    yield from reader.elements()
    reader.expect_end()


def members(text: str | Iterable[str], path: str, opened: Container[str] = ()) -> Iterator[tuple[str, int, object]]:
    """(key, line, value) of each member of the object; a member that is a list gives each element on its own.

    `text` is the text as a whole, or in pieces as `Files.text_pieces` gives it. A member in `opened` that is an object
    gives each of its values on its own, under its own key.

    Raises DatasetError, naming `path` and line, where the text is not a JSON object.
    """
    reader = _Reader([text] if isinstance(text, str) else text, path)
    reader.expect("{")
    if reader.take("}"):
        reader.expect_end()
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise reader.broken(messages.QUOTED_NAME_MISSING())
        reader.expect(":")
        found = reader.values_of_object() if key in opened else reader.elements()
        yield from ((key, line, value) for line, value in found)
        if not reader.take(","):
            reader.expect("}")
            reader.expect_end()
            return


class _Reader:
    """A position in the text, and its line. `text` is the part that is read at the time, from before the position."""

    def __init__(self, pieces: Iterable[str], path: str) -> None:
        self.text, self.path = "", path
        self._pieces = iter(pieces)
        self._has_ended = False
        self._at, self._counted, self._line = 0, 0, 1

    def _fill(self, count: int) -> None:
        """Have `count` characters from the position on, or all that are left."""
        while len(self.text) - self._at < count and not self._has_ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._has_ended = True
            else:
                self.line()
                self.text = self.text[self._at :] + piece
                self._at = self._counted = 0

    def elements(self) -> Iterator[tuple[int, object]]:
        if not self.take("["):
            yield self.line(), self.value()
            return
        if self.take("]"):
            return
        while True:
            self._skip()
            yield self.line(), self.value()
            if not self.take(","):
                self.expect("]")
                return

    def values_of_object(self) -> Iterator[tuple[int, object]]:
        if not self.take("{"):
            yield from self.elements()
            return
        if self.take("}"):
            return
        while True:
            self.value()
            self.expect(":")
            self._skip()
            yield self.line(), self.value()
            if not self.take(","):
                self.expect("}")
                return

    def value(self) -> object:
        """The next value; its text is at most 4 MB."""
        self._skip()
        value: object
        for most in _PIECES:
            self._fill(most + 1)
            piece = self.text[self._at : self._at + most]
            is_rest = self._at + most >= len(self.text)
            try:
                value, end = _DECODER.raw_decode(piece)
            except json.JSONDecodeError as error:
                if is_rest:
                    line = self.line() + error.lineno - 1
                    raise self._broken_at(line, library_reason(error.msg)) from None
            except (ValueError, RecursionError) as error:  # a number of too many digits, or too deep a nesting
                raise self.broken(reason(error)) from None
            else:
                if is_rest or end < len(piece):
                    self._at += end
                    return value
        raise self.broken(messages.VALUE_TOO_LARGE(most=_PIECES[-1] >> 20))

    def take(self, character: str) -> bool:
        """Whether this character comes next; the position then moves past it."""
        self._skip()
        if not self.text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def expect(self, character: str) -> None:
        if not self.take(character):
            raise self.broken(messages.CHARACTER_MISSING(character=character))

    def expect_end(self) -> None:
        self._skip()
        if self._at < len(self.text):
            raise self.broken(messages.TEXT_AFTER_END())

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def broken(self, why: Param) -> DatasetError:
        return self._broken_at(self.line(), why)

    def _broken_at(self, line: int, why: Param) -> DatasetError:
        message = messages.INVALID_JSON(where=Position(self.path, line).param(), reason=why)
        return DatasetError.one("annotations_broken", message, self.path)

    def _skip(self) -> None:
        while True:
            match = _SPACE.match(self.text, self._at)
            assert match
            self._at = match.end()
            if self._at < len(self.text) or self._has_ended:
                return
            self._fill(1)
