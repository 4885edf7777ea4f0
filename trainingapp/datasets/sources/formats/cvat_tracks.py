"""CVAT for video 1.1: moving objects as tracks over numbered frames.

Frame 12 is the image frame_000012, the name in CVAT exports with images. CVAT writes every frame of a track; frames
that other programs omit are interpolated.
"""

import re
from collections import defaultdict
from dataclasses import replace

from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.sources.files import stem
from trainingapp.datasets.sources.formats.gathered import Gathered
from trainingapp.datasets.sources.layout import Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

_FRAME = re.compile(r"frame_(\d{6,})", re.IGNORECASE)
_MOST_INTERPOLATED = 100_000


class Tracks:
    """The tracks of one file. `is_open` and `label` refer to the track whose elements are currently read."""

    def __init__(self, path: str, gathered: Gathered) -> None:
        self.is_open = False
        self.label = ""
        self._path = path
        self._gathered = gathered
        self._frames: dict[int, list[Shape]] = defaultdict(list)
        self._unusable: dict[int, int] = defaultdict(int)
        self._first: dict[int, Position] = {}
        self._last: tuple[int, Shape] | None = None
        self._seen_any = False

    def start(self, label: str) -> None:
        self.is_open = self._seen_any = True
        self.label = label
        self._last = None

    def end(self) -> None:
        self.is_open = False

    def add(self, frame: int, where: Position, shape: Shape | None, *, is_visible: bool) -> None:
        """Add the object of the open track in a frame. A visible object without a shape cannot be used."""
        if self._last:
            self._interpolate(*self._last, frame, shape)
        self._last = (frame, shape) if shape else None
        if is_visible:
            self._first.setdefault(frame, where)
        if shape:
            self._frames[frame].append(shape)
        elif is_visible:
            self._unusable[frame] += 1

    def _interpolate(self, start: int, first: Shape, end: int, last: Shape | None) -> None:
        """The object in the frames between two given frames."""
        last = last or first  # not visible from `end` on: until then the position is unchanged
        if not 1 < end - start < _MOST_INTERPOLATED:
            return
        for frame in range(start + 1, end):
            self._first.setdefault(frame, first.where)
            if first.box is None or last.box is None:
                self._unusable[frame] += 1
                continue
            share = (frame - start) / (end - start)
            left, top, right, bottom = (a + share * (b - a) for a, b in zip(first.box, last.box, strict=True))
            self._frames[frame].append(replace(first, box=(left, top, right, bottom), polygons=()))

    def add_frames(self) -> None:
        """Add all frames that are in the source. A missing frame with objects is a fault."""
        if not self._seen_any:
            return
        images = self._images()
        for frame in sorted(images.keys() | self._first.keys()):
            where = self._first.get(frame, Position(self._path))
            if frame in images:
                shapes, unusable = self._frames.get(frame, []), self._unusable.get(frame, 0)
                self._gathered.add(images[frame], where, shapes, unusable=unusable)
            else:
                name = f"frame_{frame:06}"
                message = messages.FRAME_MISSING(where=where.param(), frame=frame, name=name)
                self._gathered.fault(where, message, "missing_image")

    def _images(self) -> dict[int, SourceFile]:
        """The image of each frame by its number; if two have the same number, the one nearer to the file."""
        found: dict[int, SourceFile] = {}
        near = self._path.rpartition("/")[0]
        for image in self._gathered.files.images:
            if (match := _FRAME.fullmatch(stem(image.path))) and image.path.startswith(f"{near}/" if near else ""):
                found.setdefault(int(match[1]), image)
        return found
