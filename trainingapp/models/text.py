"""What a database can keep of a text."""

import re
from typing import Any

_UNKEPT = re.compile("[\0\ud800-\udfff]")


def storable(value: Any) -> Any:
    """`value` with NUL and halves of surrogate pairs shown as U+FFFD, also within lists and dictionaries.

    PostgreSQL keeps neither in a text or in JSON. They come from broken files, in names and in messages about them.
    """
    if isinstance(value, str):
        return _UNKEPT.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value
