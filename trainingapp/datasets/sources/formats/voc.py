"""Pascal VOC: an XML file for each image.

Annotations/*.xml  JPEGImages/*.jpg  ImageSets/Main/{train,val,test}.txt
train/*.xml  train/*.jpg  ...                                the XML beside the image

Corners count pixels from 1, and right and bottom are inclusive, as in the VOC development kit; therefore 1 is
subtracted from left and top, while right and bottom stay: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

import math
import re
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ErrorString

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_LISTS
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import (
    Files,
    best_match,
    class_name,
    kind_of_path,
    natural_key,
    stem,
)
from trainingapp.datasets.sources.formats.collector import Collector, object_layout, whole
from trainingapp.datasets.sources.layout import Kind, Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "voc"
MOST_XML_BYTES = 2 * 1024**2
_MOST_PEEKED = 20
_ROOT = re.compile(rb"<annotation[\s>/]")
_OBJECT = re.compile(rb"<object[\s>]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_KINDS: tuple[Kind, ...] = ("train", "val", "test")
_Found = tuple[Position, str, tuple[float, float, float, float]]
"""where, class, box"""


def recognise(files: Files) -> bool:
    """Whether an XML file holds an annotation."""
    return any(_ROOT.search(files.peek(file)) for file in files.ending(".xml")[:_MOST_PEEKED])


def read(files: Files, report: Report) -> Layout:
    """Read every XML file; classes are ordered by name, since no file lists them."""
    collector = Collector(files, report)
    lists = _lists(files)
    kinds = {name: kind for kind, (_path, names) in lists.items() for name in names}
    read_files = files.ending(".xml")
    pending: list[tuple[SourceFile, str, Kind | None, tuple[int, int], list[_Found]]] = []
    for file in read_files:
        try:
            tree, content = _tree(files, file)
        except DatasetError as error:
            report.faults(error.items)
            continue
        image = _image(files, file, tree)
        if image is None:
            report.fault("missing_image", messages.NO_IMAGE_FOR(path=file.path), file.path)
            continue
        kind = kinds.get(stem(file.path)) if kinds else kind_of_path(file.path) or kind_of_path(image.path)
        width, height = (whole(_number(tree.findtext(f"size/{side}"))) for side in ("width", "height"))
        size = (width, height) if width and height else (0, 0)
        pending.append((image, file.path, kind, size, _objects(tree, content, file.path, report)))
    classes = sorted({name for entry in pending for _where, name, _box in entry[4]}, key=natural_key)
    label_of = {name: label for label, name in enumerate(classes)}
    for image, path, kind, size, found in pending:
        shapes = [Shape(label_of[name], where, box) for where, name, box in found]
        collector.add(image, Position(path), kind=kind, shapes=shapes, size=size)
    listed = [*(path for path, _names in lists.values()), *(file.path for file in read_files)]
    paths = [path for path, _names in lists.values()]
    origin = SPLIT_FROM_LISTS(paths=paths) if paths else None
    return object_layout(NAME, collector, classes, listed, report, split_origin=origin)


def _lists(files: Files) -> dict[Kind, tuple[str, set[str]]]:
    """(path, stems) of the list of each split in ImageSets/Main."""
    found: dict[Kind, tuple[str, set[str]]] = {}
    for kind in _KINDS:
        ending = f"imagesets/main/{kind}.txt"
        if file := best_match(files.ending(ending), ""):
            lines = files.read_text(file).splitlines()
            found[kind] = (file.path, {line.split()[0] for line in lines if line.strip()})
    return found


def _tree(files: Files, file: SourceFile) -> tuple[Element, bytes]:
    """The root of the file and its bytes. Raises DatasetError when it is not valid XML."""
    if file.size_bytes > MOST_XML_BYTES:
        message = messages.XML_TOO_LARGE(path=file.path, most=MOST_XML_BYTES >> 20)
        raise DatasetError.one("annotations_too_large", message, file.path)
    content = files.read_bytes(file)
    try:
        return fromstring(content), content
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
    kind = kind_of_path(file.path)
    return best_match(same, near, kind) or files.find_image(tree.findtext("filename") or "", near, kind)


def _objects(tree: Element, content: bytes, path: str, report: Report) -> list[_Found]:
    found: list[_Found] = []
    starts = [match.start() for match in _OBJECT.finditer(content)]
    for number, element in enumerate(tree.findall("object")):
        line = content.count(b"\n", 0, starts[number]) + 1 if number < len(starts) else 0
        where = Position(path, line)
        name = class_name(element.findtext("name") or "")
        corners = [_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name:
            report.fault("unknown_class", messages.OBJECT_WITHOUT_NAME(where=where.param()), path)
        elif any(not math.isfinite(corner) or abs(corner) > 1e9 for corner in corners):
            report.fault("bad_annotation", messages.BNDBOX_INVALID(where=where.param(), keys=_CORNERS), path)
        else:
            left, top, right, bottom = corners
            found.append((where, name, (left - 1, top - 1, right, bottom)))
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
