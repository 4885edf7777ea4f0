"""Reading a large JSON object piece by piece: the elements of its lists come one at a time.

Only the text of the file is held as a whole, not the many times larger objects made from it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from trainingapp.datasets.errors import DatasetError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def members(text: str, path: str) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value) of each member of the object; of a member that is a list, each of its elements by itself.

    Raises DatasetError, naming `path` and line, where the text is no JSON object.
    """
    reader = _Reader(text, path)
    reader.expect("{")
    if reader.take("}"):
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise reader.broken("a name in quotes is missing")
        reader.expect(":")
        yield from ((key, line, value) for line, value in reader.elements())
        if not reader.take(","):
            reader.expect("}")
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
        try:
            value, self._at = _DECODER.raw_decode(self.text, self._at)
        except json.JSONDecodeError as error:
            message = f"{self.path} line {error.lineno} is not valid JSON: {error.msg}."
            raise DatasetError.one("annotations_broken", message, self.path) from None
        except (ValueError, RecursionError) as error:
            raise self.broken(str(error).partition(";")[0]) from None
        return value

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

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def broken(self, why: str) -> DatasetError:
        message = f"{self.path} line {self.line()} is not valid JSON: {why}."
        return DatasetError.one("annotations_broken", message, self.path)

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self._at)
        assert match
        self._at = match.end()
