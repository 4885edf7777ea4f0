"""Names that version 0.1 used in configurations, files and API calls.

They are read for one release, so that stored runs, files and scripts keep working; everything is written under the new
names.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

ValueT = TypeVar("ValueT")

#: Old key: new key.
OLD_KEYS = {
    "recipe": "task",
    "recipes": "tasks",
    "picture": "image",
    "pictures": "images",
    "objects_per_picture": "objects_per_image",
    "pictures_per_s": "images_per_s",
}
#: One of them is part of each old key: bytes without them need no closer look.
OLD_PARTS = (b"recipe", b"picture")


def with_new_names(values: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """A copy of `values` in which a key of version 0.1 has its new name; the new name wins where both are given."""
    if OLD_KEYS.keys().isdisjoint(values):
        return dict(values)
    old = {OLD_KEYS[name]: value for name, value in values.items() if name in OLD_KEYS}
    return {**old, **{name: value for name, value in values.items() if name not in OLD_KEYS}}


def deep_with_new_names(value: Any) -> Any:
    """The same for the objects within `value`, at any depth. Names of classes are values of lists, never keys here."""
    if isinstance(value, dict):
        return with_new_names({name: deep_with_new_names(part) for name, part in value.items()})
    return [deep_with_new_names(part) for part in value] if isinstance(value, list) else value
