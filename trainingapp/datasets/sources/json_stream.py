"""Reading a large JSON object piece by piece: the elements of its lists come one at a time.

Only the text of the file is held as a whole, not the many times larger objects made from it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from trainingapp.datasets.errors import DatasetError, reason

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
#: A value is looked for in so many characters, and then in more: as objects it takes many times the memory of its text.
_PIECES = (4096, 65_536, 4 * 1024**2)


def members(text: str, path: str) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value) of each member of the object; of a member that is a list, each of its elements by itself.

    Raises DatasetError, naming `path` and line, where the text is no JSON object.
    """
    reader = _Reader(text, path)
    reader.expect("{")
    if reader.take("}"):
        reader.expect_end()
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise reader.broken("a name in quotes is missing")
        reader.expect(":")
        yield from ((key, line, value) for line, value in reader.elements())
        if not reader.take(","):
            reader.expect("}")
            reader.expect_end()
            return


class _Reader:
    """A place in the text, and the line that it lies in."""

    def __init__(self, text: str, path: str) -> None:
        self.text, self.path = text, path
        self._at, self._counted, self._line = 0, 0, 1

    def elements(self) -> Iterator[tuple[int, Any]]:
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

    def value(self) -> Any:
        self._skip()
        for most in _PIECES:
            piece = self.text[self._at : self._at + most]
            is_rest = self._at + most >= len(self.text)
            try:
                value, end = _DECODER.raw_decode(piece)
            except json.JSONDecodeError as error:
                if is_rest:
                    raise self._not_json(error) from None
            except (ValueError, RecursionError) as error:
                raise self.broken(reason(error).partition(";")[0]) from None
            else:
                if is_rest or end < len(piece):
                    self._at += end
                    return value
        raise self.broken(f"one value of a list has more than {_PIECES[-1] >> 20} MB")

    def _not_json(self, error: json.JSONDecodeError) -> DatasetError:
        return self._broken_at(self.line() + error.lineno - 1, error.msg)

    def take(self, character: str) -> bool:
        """Whether this character comes next; then it is passed."""
        self._skip()
        if not self.text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def expect(self, character: str) -> None:
        if not self.take(character):
            raise self.broken(f"{character} is missing")

    def expect_end(self) -> None:
        self._skip()
        if self._at < len(self.text):
            raise self.broken("something follows its end")

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def broken(self, why: str) -> DatasetError:
        return self._broken_at(self.line(), why)

    def _broken_at(self, line: int, why: str) -> DatasetError:
        where = f"{self.path} line {line}"
        return DatasetError.one("annotations_broken", f"{where} is not valid JSON: {why}.", self.path)

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self._at)
        assert match
        self._at = match.end()
