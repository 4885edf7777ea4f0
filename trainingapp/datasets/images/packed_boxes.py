"""Compact storage for the boxes of an imported image: a dataset can hold millions until its index is written."""

import struct
from collections.abc import Iterable, Sequence
from typing import overload

from trainingapp.contract.dataset_index import Box

_ROW = struct.Struct("<iB4d")
"""label, whether it is a crowd, left, top, right, bottom"""


class PackedBoxes(Sequence[Box]):
    """A sequence of boxes, 37 bytes each; a `Box` is created on each access."""

    __slots__ = ("_rows",)

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._rows = b"".join(
            _ROW.pack(box.label, box.crowd, box.left, box.top, box.right, box.bottom) for box in boxes
        )

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    @overload
    def __getitem__(self, index: int) -> Box: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Box]: ...

    def __getitem__(self, index: int | slice) -> Box | Sequence[Box]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        label, crowd, left, top, right, bottom = _ROW.unpack_from(self._rows, index % len(self) * _ROW.size)
        return Box(label, left, top, right, bottom, crowd=bool(crowd))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Box.__eq__, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))
