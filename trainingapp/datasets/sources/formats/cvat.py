"""CVAT for images and CVAT for video 1.1: one XML file for all images or frames.

annotations.xml  images/*.jpg
annotations.xml  images/frame_000000.PNG ...       video exported with its frames (`cvat_tracks.py`)

Boxes, polygons, ellipses and masks become objects; tags become image classes if there are no objects.
https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/
"""

import re
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers.expat import ErrorString, ExpatError, ParserCreate

from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_COLUMN
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import Files, kind_of_name
from trainingapp.datasets.sources.formats.collector import whole
from trainingapp.datasets.sources.formats.cvat_tracks import Tracks
from trainingapp.datasets.sources.formats.gathered import (
    Gathered,
    ellipse,
    ellipse_box,
    in_order,
    number,
    polygon,
    turned_box,
    values,
)
from trainingapp.datasets.sources.formats.run_lengths import crop_of_runs, of_crop
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "cvat"
_ROOT = re.compile(rb"<annotations[\s>]")
_CONTENT = re.compile(rb"<(image|track)\s")
_KNOWN = ("box", "polygon", "ellipse", "mask", "tag")
_OTHERS = {"polyline", "points", "cuboid", "skeleton"}
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_CHUNK = 1 << 16


def recognise(files: Files) -> bool:
    """Whether an XML file contains images or tracks of CVAT."""
    return any(_is_cvat(files.peek(file)) for file in files.first_ending(".xml"))


def _is_cvat(content: bytes) -> bool:
    return bool(_ROOT.search(content) and _CONTENT.search(content))


def read(files: Files, report: Report) -> Layout:
    """Read every CVAT file. Classes are ordered by name."""
    sources = [file for file in files.ending(".xml") if _is_cvat(files.peek(file))]
    gathered = Gathered(NAME, files, report, sources)
    origin = None
    for file in sources:
        reader = _Reader(file, gathered)
        with report.collecting():
            reader.read(files.read_text(file))
            reader.tracks.add_frames()
        if reader.has_subsets:
            origin = SPLIT_FROM_COLUMN(column="subset", path=file.path)
    return gathered.layout(split_origin=origin)


@dataclass
class _Image:
    """The image whose elements are currently read."""

    where: Position
    attributes: dict[str, str]
    shapes: list[Shape] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    unusable: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels from the annotations; (0, 0) if they are missing."""
        width, height = (whole(self.attributes.get(side)) for side in ("width", "height"))
        return (width, height) if width and height else (0, 0)


class _Reader:
    """Reads elements incrementally, so that only the text of the file is held in memory."""

    def __init__(self, file: SourceFile, gathered: Gathered) -> None:
        self.has_subsets = False
        self.tracks = Tracks(file.path, gathered)
        self._path = file.path
        self._gathered = gathered
        self._image: _Image | None = None
        self._parser = ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = self._refuse_entity

    def read(self, text: str) -> None:
        """Add all images of the text. Raises DatasetError if it is not valid XML."""
        try:
            for at in range(0, len(text), _CHUNK):
                self._parser.Parse(text[at : at + _CHUNK], False)
                self._gathered.files.beat()
            self._parser.Parse("", True)
        except ExpatError as error:
            where = Position(self._path, error.lineno).param()
            why = library_reason(ErrorString(error.code) or "")
            message = annotation_messages.INVALID_XML(where=where, reason=why)
            raise DatasetError.one("annotations_broken", message, self._path) from None
        except ValueError as error:
            if isinstance(error, DatasetError):
                raise
            message = annotation_messages.INVALID_XML(where=self._path, reason=reason(error))
            raise DatasetError.one("annotations_broken", message, self._path) from None

    def _refuse_entity(self, *_declaration: object) -> NoReturn:
        message = annotation_messages.XML_NOT_PLAIN(path=self._path)
        raise DatasetError.one("annotations_broken", message, self._path)

    def _here(self) -> Position:
        return Position(self._path, self._parser.CurrentLineNumber)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "image":
            self._image = _Image(self._here(), attributes)
        elif tag == "track":
            self.tracks.start(attributes.get("label", "").strip())
        elif self.tracks.is_open and (tag in _OTHERS or tag in _KNOWN):
            self._tracked(tag, attributes)
        elif self._image is not None and tag in _OTHERS:
            self._image.unusable += 1
            self._gathered.shape_not_read(self._here(), tag, _KNOWN)
        elif self._image is not None and tag in _KNOWN:
            self._object(tag, attributes, self._image)

    def _end(self, tag: str) -> None:
        image = self._image
        if tag == "track":
            self.tracks.end()
        if tag != "image" or image is None:
            return
        self._image = None
        name, subset = image.attributes.get("name", ""), image.attributes.get("subset", "")
        file = self._gathered.find(name, image.where)
        if file is None:
            return
        kind = kind_of_name(subset)
        self.has_subsets |= kind is not None
        self._gathered.add(
            file, image.where, image.shapes, labels=image.labels, size=image.size, unusable=image.unusable, kind=kind
        )

    def _tracked(self, tag: str, attributes: dict[str, str]) -> None:
        """Add an object of the open track in one frame."""
        where, frame = self._here(), number(attributes.get("frame"))
        if frame is None or not frame.is_integer() or frame < 0:
            self._gathered.field_invalid(where, "frame")
            return
        shape = None
        is_visible = attributes.get("outside") != "1"
        if is_visible and tag in _OTHERS:
            self._gathered.shape_not_read(where, tag, _KNOWN)
        elif is_visible:
            shape = self._shape(tag, self.tracks.label, attributes, where, (0, 0))
        self.tracks.add(int(frame), where, shape, is_visible=is_visible)

    def _object(self, tag: str, attributes: dict[str, str], image: _Image) -> None:
        where, label = self._here(), attributes.get("label", "").strip()
        if not label:
            self._gathered.field_invalid(where, "label")
        elif tag == "tag":
            image.labels.append(label)
            return
        elif shape := self._shape(tag, label, attributes, where, image.size):
            image.shapes.append(shape)
            return
        image.unusable += 1

    def _shape(
        self, tag: str, label: str, attributes: dict[str, str], where: Position, size: tuple[int, int]
    ) -> Shape | None:
        """The object in an image of `size` = (width, height); None, with a fault, if it cannot be used."""
        if tag == "mask":
            return self._mask(label, attributes, where, size)
        degrees = number(attributes.get("rotation", "0")) or 0.0
        if tag == "polygon":
            points = [point.split(",") for point in attributes.get("points", "").split(";") if point.strip()]
            if outline := polygon(points):
                return self._gathered.shape(label, where, None, (outline,))
            self._gathered.field_invalid(where, "points")
            return None
        keys = _CORNERS if tag == "box" else ("cx", "cy", "rx", "ry")
        found = values(attributes, *keys)
        if found is None or (tag == "ellipse" and min(found[2:]) <= 0):
            self._gathered.field_invalid(where, ", ".join(keys))
            return None
        first, second, third, fourth = found
        if tag == "ellipse":
            box = ellipse_box(first, second, third, fourth, degrees)
            return self._gathered.shape(label, where, box, (ellipse(first, second, third, fourth, degrees),))
        box = in_order(first, second, third, fourth)
        if degrees % 360:
            self._gathered.count(messages.ROTATED_BOXES, where)
            box = turned_box(box, degrees, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        return self._gathered.shape(label, where, box)

    def _mask(self, label: str, attributes: dict[str, str], where: Position, size: tuple[int, int]) -> Shape | None:
        """The mask, whose run lengths go along the rows of its own box."""
        left, top, width, height = (number(attributes.get(key)) for key in ("left", "top", "width", "height"))
        runs = [number(part) for part in attributes.get("rle", "").split(",")]
        if left is None or top is None or not width or not height or None in runs:
            self._gathered.field_invalid(where, "rle, left, top, width, height")
            return None
        crop_HW = crop_of_runs([int(run) for run in runs if run is not None], int(width), int(height))
        rle = of_crop(crop_HW, int(left), int(top), size) if crop_HW is not None and all(size) else None
        if rle is None:
            self._gathered.field_invalid(where, "rle")
            return None
        return self._gathered.shape(label, where, rle=rle)
