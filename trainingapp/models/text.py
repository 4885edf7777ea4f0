"""What a database can keep of a text."""

import re
from functools import lru_cache
from typing import TypeVar, cast

T = TypeVar("T")
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
