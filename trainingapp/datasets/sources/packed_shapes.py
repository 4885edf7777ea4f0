"""Compact storage for annotated objects: an annotation file can have millions.

An annotated object with box and outline takes about a kilobyte as a Python object. Here its numbers take 53 bytes, and
the outlines of a large file are stored in a temporary file, from which they are read when their image is imported.
"""

import os
import struct
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from trainingapp.datasets.sources.layout import Rle, Shape, StoredShapes
from trainingapp.datasets.sources.position import Position

MOST_BYTES_IN_MEMORY = 8 * 1024**2
"""Outlines of larger files are kept on the disk."""
_ROW = struct.Struct("<IBddddqI")
"""line, flags, left, top, right, bottom, offset and length of the outline"""
_CROWD, _BOX = 1, 2


class OutlineStore:
    """A sequence of polygons, in memory and, once there are many, in a temporary file in `folder`.

    Several threads can read at the same time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory = bytearray()
        self._descriptor = -1
        self._written = 0

    def add(self, polygons: "tuple[array[float], ...]") -> tuple[int, int]:
        """Add polygons. Returns (offset, bytes) for `read`."""
        content = b"".join(array("I", [len(polygon)]).tobytes() + polygon.tobytes() for polygon in polygons)
        offset = self._written + len(self._memory)
        self._memory += content
        if self._folder and len(self._memory) > MOST_BYTES_IN_MEMORY:
            if self._descriptor < 0:
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    self._descriptor = os.dup(file.fileno())
            while self._memory:
                count = os.pwrite(self._descriptor, self._memory, self._written)
                self._written += count
                del self._memory[:count]
        return offset, len(content)

    def read(self, offset: int, length: int) -> "tuple[array[float], ...]":
        content = (
            os.pread(self._descriptor, length, offset)
            if offset < self._written
            else bytes(self._memory[offset - self._written : offset - self._written + length])
        )
        found: list[array[float]] = []
        start = 0
        while start < len(content):
            (count,) = array("I", content[start : start + 4])
            start += 4
            found.append(array("f", content[start : start + 4 * count]))
            start += 4 * count
        return tuple(found)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class PackedShapes(StoredShapes):
    """The objects of one image in one annotation file; a `Shape` is created on each access.

    `labels[i]` is the label of objects added with category i.
    """

    __slots__ = ("_categories", "_outlines", "_path", "_rles", "_rows", "labels")

    def __init__(self, path: str, outlines: OutlineStore, labels: list[int]) -> None:
        self.labels = labels
        self._path = path
        self._outlines = outlines
        self._categories = array("i")
        self._rows = bytearray()
        self._rles: dict[int, Rle] = {}

    def add(
        self,
        category: int,
        line: int,
        box: tuple[float, float, float, float] | None,
        polygons: "tuple[array[float], ...]" = (),
        rle: Rle | None = None,
        *,
        crowd: bool = False,
    ) -> None:
        """Add an object; the arguments are those of `Shape`."""
        if rle:
            self._rles[len(self)] = rle
        offset, length = self._outlines.add(polygons) if polygons else (0, 0)
        flags = _CROWD * crowd | _BOX * (box is not None)
        self._categories.append(category)
        self._rows += _ROW.pack(line, flags, *(box or (0.0, 0.0, 0.0, 0.0)), offset, length)

    def __len__(self) -> int:
        return len(self._categories)

    @overload
    def __getitem__(self, index: int) -> Shape: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Shape]: ...

    def __getitem__(self, index: int | slice) -> Shape | Sequence[Shape]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        line, flags, left, top, right, bottom, offset, length = _ROW.unpack_from(self._rows, index * _ROW.size)
        return Shape(
            self.labels[self._categories[index]],
            Position(self._path, line),
            (left, top, right, bottom) if flags & _BOX else None,
            self._outlines.read(offset, length) if length else (),
            self._rles.get(index),
            crowd=bool(flags & _CROWD),
        )

    def __iter__(self) -> Iterator[Shape]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Shape.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # it can grow, as a list can

    def seen(self) -> set[int]:
        return {self.labels[category] for category in set(self._categories)}

    def outlined(self) -> int:
        lengths = (row[-1] for row in _ROW.iter_unpack(self._rows))
        return sum(bool(length) or index in self._rles for index, length in enumerate(lengths))

    def placed(self) -> int:
        rows = enumerate(_ROW.iter_unpack(self._rows))
        return sum(bool(row[1] & _BOX or row[-1] or index in self._rles) for index, row in rows)

    def relabelled(self, targets: Sequence[int]) -> "PackedShapes":
        labels = [targets[label] if label >= 0 else -1 for label in self.labels]
        found = PackedShapes(self._path, self._outlines, labels)
        for index, category in enumerate(self._categories):
            if labels[category] >= 0:
                if index in self._rles:
                    found._rles[len(found)] = self._rles[index]
                found._categories.append(category)
                found._rows += self._rows[index * _ROW.size : (index + 1) * _ROW.size]
        return found
