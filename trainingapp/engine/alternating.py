"""Lists of several ranks as one."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def alternating(lists: Sequence[Iterable[T]]) -> list[T]:
    """One element of each list in turn, until all are used: what W ranks have, of which rank r took every W-th."""
    rounds = itertools.zip_longest(*([(one,) for one in each] for each in lists), fillvalue=())
    return [one for found in rounds for element in found for one in element]


def add_in_order(total: torch.Tensor, batches: Sequence[Iterable[torch.Tensor]]) -> None:
    """Set `total` to the sum of the numbers of all batches, which are given by rank, added in their order."""
    total.zero_()
    for number in alternating(batches):
        total += number.to(total.device)
