"""Incremental reading of a large JSON object: the elements of its lists are yielded one at a time.

Neither the text of a large file nor the many times larger parsed objects are held in memory as a whole.
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
#: Characters in which a value is searched first; as parsed objects, it takes many times the memory of its text.
_PIECES = (4096, 65_536, 4 * 1024**2)


def elements(text: str | Iterable[str], path: str) -> Iterator[tuple[int, object]]:
    """Yield (line, value) for each element of the list. Parameters and errors are those of `members`."""
    reader = _Reader([text] if isinstance(text, str) else text, path)
    yield from reader.elements()
    reader.expect_end()


def members(text: str | Iterable[str], path: str, opened: Container[str] = ()) -> Iterator[tuple[str, int, object]]:
    """Yield (key, line, value) for each member of the object; a list member yields each of its elements separately.

    `text` is the whole text, or pieces as yielded by `Files.text_pieces`. A member in `opened` that is an object yields
    each of its values separately, under the value's own key.

    Raises DatasetError, with `path` and line, if the text is not a JSON object.
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
    """A position in the text and its line. `text` is the part in memory, which begins before the position."""

    def __init__(self, pieces: Iterable[str], path: str) -> None:
        self.text, self.path = "", path
        self._pieces = iter(pieces)
        self._has_ended = False
        self._at, self._counted, self._line = 0, 0, 1

    def _fill(self, count: int) -> None:
        """Make `count` characters after the position available, or all that are left."""
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
            except (ValueError, RecursionError) as error:  # a number with too many digits, or nesting that is too deep
                raise self.broken(reason(error)) from None
            else:
                if is_rest or end < len(piece):
                    self._at += end
                    return value
        raise self.broken(messages.VALUE_TOO_LARGE(most=_PIECES[-1] >> 20))

    def take(self, character: str) -> bool:
        """Whether this character comes next; if so, the position moves past it."""
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
