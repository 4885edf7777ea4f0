"""Lists of several ranks as one."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def alternating(lists: Sequence[Sequence[T]]) -> list[T]:
    """One element of each list in turn, until all are used: what W ranks have, of which rank r took every W-th."""
    rounds = itertools.zip_longest(*([(one,) for one in each] for each in lists), fillvalue=())
    return [one for found in rounds for element in found for one in element]
