"""Pascal VOC: one XML file per image.

Annotations/*.xml  JPEGImages/*.jpg  ImageSets/Main/{train,val,trainval,test}.txt
train/*.xml  train/*.jpg  ...                                XML next to the image

Corners count pixels from 1, and right and bottom are inclusive, as in the VOC development kit; therefore 1 is
subtracted from left and top, while right and bottom stay: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
Programs that count from 0 write right and bottom exclusive: if boxes begin at 0, no corner of the set is changed.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ErrorString

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_LISTS
from trainingapp.contract.messages.dataset_sources import CONVERT_ANNOTATIONS, FAMILY_NOT_READ
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import (
    Files,
    best_match,
    class_name,
    natural_key,
    stem,
)
from trainingapp.datasets.sources.formats.collector import Collector, object_layout, whole
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile
from trainingapp.datasets.sources.split_lists import ListedSplits, listed_splits

NAME = "voc"
MOST_XML_BYTES = 2 * 1024**2
_ROOT = re.compile(rb"<annotation[\s>/]")
_OBJECT = re.compile(rb"<object[\s>]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
MOST_NAMED = 3
_Found = tuple[Position, str, tuple[float, float, float, float]]
"""where, class, corners as they stand in the file"""


@dataclass
class _Annotation:
    """The content of a file; `unusable` counts the objects excluded from `objects`."""

    path: str
    size: tuple[int, int]
    objects: list[_Found] = field(default_factory=list)
    unusable: int = 0


def recognise(files: Files) -> bool:
    """Whether an XML file contains an annotation."""
    return any(_ROOT.search(files.peek(file)) for file in files.first_ending(".xml"))


def read(files: Files, report: Report) -> Layout:
    """Read every XML file. Classes are ordered by name, since no file lists them."""
    collector = Collector(files, report)
    read_files = files.ending(".xml")
    reader = _Reader(report)
    pending: list[tuple[SourceFile, _Annotation]] = []
    for file in read_files:
        try:
            tree, content = _tree(files, file)
        except DatasetError as error:
            report.faults(error.items)
            continue
        if tree.tag != "annotation":
            report.warn("ignored_file", messages.NOT_VOC(path=file.path), file.path)
            continue
        if tree.find("object/polygon/pt") is not None:
            message = FAMILY_NOT_READ(path=file.path, family="LabelMe (MIT)", advice=CONVERT_ANNOTATIONS())
            raise DatasetError.one("unread_annotations", message, file.path)
        image = _image(files, file, tree)
        if image is None:
            report.fault("missing_image", messages.NO_IMAGE_FOR(path=file.path), file.path)
        else:
            pending.append((image, reader.annotation(tree, content, file.path)))
    reader.report_swapped()
    first_pixel = reader.first_pixel(files)
    listed = ListedSplits()
    if files.reading.splits in ("auto", "lists"):
        listed = listed_splits(files, [image for image, _found in pending], report)
    if listed.kinds:
        collector.leave_out_unlisted([image.path for image, _found in pending if image.path not in listed.kinds])
        pending = [(image, found) for image, found in pending if image.path in listed.kinds]
    classes = sorted({name for _image, found in pending for _where, name, _box in found.objects}, key=natural_key)
    label_of = {name: label for label, name in enumerate(classes)}
    for image, found in pending:
        kind = listed.kinds.get(image.path) or files.kind_of(found.path) or files.kind_of(image.path)
        shapes = [
            Shape(label_of[name], where, (left - first_pixel, top - first_pixel, right, bottom))
            for where, name, (left, top, right, bottom) in found.objects
        ]
        where = Position(found.path)
        collector.add(image, where, kind=kind, shapes=shapes, size=found.size, unusable=found.unusable)
    paths = [*listed.paths, *(file.path for file in read_files)]
    origin = SPLIT_FROM_LISTS(paths=listed.paths) if listed.kinds else None
    return object_layout(NAME, collector, classes, paths, report, split_origin=origin)


def _tree(files: Files, file: SourceFile) -> tuple[Element, bytes]:
    """The root of the file and its text in UTF-8. Raises DatasetError if it is not valid XML."""
    if file.size_bytes > MOST_XML_BYTES:
        message = messages.XML_TOO_LARGE(path=file.path, most=MOST_XML_BYTES >> 20)
        raise DatasetError.one("annotations_too_large", message, file.path)
    text = files.read_text(file)
    try:
        return fromstring(text), text.encode()
    except ParseError as error:
        why = library_reason(ErrorString(error.code) or "")
        message = messages.INVALID_XML(where=Position(file.path, error.position[0]).param(), reason=why)
    except DefusedXmlException:
        message = messages.XML_NOT_PLAIN(path=file.path)
    except (LookupError, ValueError, RecursionError) as error:
        message = messages.INVALID_XML(where=file.path, reason=reason(error))
    raise DatasetError.one("annotations_broken", message, file.path)


def _image(files: Files, file: SourceFile, tree: Element) -> SourceFile | None:
    folder = file.path.rpartition("/")[0]
    near = re.sub(r"(?i)(^|/)annotations(/|$)", r"\1JPEGImages\2", folder)
    same = files.with_stem(stem(file.path))
    kind = files.kind_of(file.path)
    named = (files.find_image(tree.findtext(key) or "", near, kind) for key in ("filename", "path"))
    return best_match(same, near, kind) or next(filter(None, named), None)


class _Reader:
    """Reads objects; counts those with swapped corners and those that begin at coordinate 0 or 1."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._swapped: list[Position] = []
        self._at_zero: list[Position] = []
        self._at_one = 0

    def annotation(self, tree: Element, content: bytes, path: str) -> _Annotation:
        width, height = (whole(_number(tree.findtext(f"size/{side}"))) for side in ("width", "height"))
        found = _Annotation(path, (width, height) if width and height else (0, 0))
        starts = [match.start() for match in _OBJECT.finditer(content)]
        for number, element in enumerate(tree.findall("object")):
            line = content.count(b"\n", 0, starts[number]) + 1 if number < len(starts) else 0
            self._add_object(element, Position(path, line), found)
        return found

    def _add_object(self, element: Element, where: Position, found: _Annotation) -> None:
        name = class_name(element.findtext("name") or "")
        corners = [_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name:
            found.unusable += 1
            self.report.fault("unknown_class", messages.OBJECT_WITHOUT_NAME(where=where.param()), where.path)
        elif any(not math.isfinite(corner) or abs(corner) > 1e9 for corner in corners):
            found.unusable += 1
            self.report.fault("bad_annotation", messages.BNDBOX_INVALID(where=where.param(), keys=_CORNERS), where.path)
        else:
            left, top, right, bottom = corners
            if left > right or top > bottom:
                self._swapped.append(where)
                left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
            if 0 in (left, top):
                self._at_zero.append(where)
            elif 1 in (left, top):
                self._at_one += 1
            found.objects.append((where, name, (left, top, right, bottom)))

    def first_pixel(self, files: Files) -> int:
        """The coordinate of the first pixel, 0 or 1; offered as a choice if a box begins at 0.

        It is determined from objects at the image edge, which begin at the first pixel. A few zeros in a set that
        counts from 1 are mistakes.
        """
        chosen, count = files.reading.first_pixel, len(self._at_zero)
        if not count:
            return 0 if chosen == "zero" else 1
        used: Literal["zero", "one"] = "zero" if count >= self._at_one else "one"
        reason = reading_messages.FIRST_PIXEL_ONE(count=count)
        if used == "zero":
            first = [where.param() for where in self._at_zero[:MOST_NAMED]]
            reason = reading_messages.FIRST_PIXEL_ZERO(count=count, where=first)
        if chosen == "auto":
            if used == "zero":
                self.report.warn("first_pixel", reason, self._at_zero[0].path, count=count)
            files.offer(Offer("first_pixel", used, ("zero", "one"), reason))
        else:
            used = chosen
            files.offer(Offer("first_pixel", used, ("zero", "one")))
        return 0 if used == "zero" else 1

    def report_swapped(self) -> None:
        """Warn about boxes whose swapped corners were reordered."""
        if self._swapped:
            count, first = len(self._swapped), [where.param() for where in self._swapped[:MOST_NAMED]]
            message = messages.CORNERS_SWAPPED(count=count, where=first)
            self.report.warn("corners_swapped", message, self._swapped[0].path, count=count)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
