"""What a database can keep of a text."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar, cast

from django.db.models import Model, QuerySet

T = TypeVar("T")
M = TypeVar("M", bound=Model)
_UNKEPT = re.compile("[\0\ud800-\udfff]")


@lru_cache(maxsize=4096)
def is_storable(text: str) -> bool:
    """Whether `storable` would leave the text as it is."""
    return (text.isascii() and "\0" not in text) or not _UNKEPT.search(text)


def storable(value: T) -> T:
    """`value` with NUL and halves of surrogate pairs shown as U+FFFD, also within lists and dictionaries.

    PostgreSQL keeps neither in a text or in JSON. They come from broken files, in names and in messages about them.
    """
    if isinstance(value, str):
        return cast("T", _UNKEPT.sub("\ufffd", value))
    if isinstance(value, dict):
        return cast("T", {storable(name): storable(item) for name, item in value.items()})
    return cast("T", [storable(item) for item in value]) if isinstance(value, list) else value


def stored_number(text: str) -> int | None:
    """The number in a form or an address; None for any other text, or for more digits than a column holds."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def stored_numbers(texts: Iterable[str]) -> list[int]:
    """The numbers among the texts, see `stored_number`."""
    return [number for text in texts if (number := stored_number(text)) is not None]


def row_numbered(rows: QuerySet[M], text: str) -> M | None:
    """The row whose number a form or an address gives; None where there is none."""
    number = stored_number(text)
    return None if number is None else rows.filter(pk=number).first()
