"""Shared base of the readers for annotation programs: collects objects and labels by class name into one layout."""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from trainingapp.contract.messages import Message, Param, Template
from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_ANNOTATION_FILES
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, class_name, natural_key
from trainingapp.datasets.sources.folder_names import kinds_of_folders
from trainingapp.datasets.sources.formats.collector import Collector, object_layout
from trainingapp.datasets.sources.layout import Kind, Layout, Rle, Shape, SourceImage
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

MOST_FILES_NAMED = 6
MOST_COORDINATE = 1e9
ONE_CLASS = "object"
"""The name of the only class where the annotations name none."""
_ROUND_POINTS = 48
Corners = tuple[float, float, float, float]


class Gathered:
    """Images with objects or labels whose classes are known only by name.

    Labels are numbered in order of first occurrence until `layout` sorts them. The class "" stands for an object
    without a class.
    """

    def __init__(self, name: str, files: Files, report: Report, annotation_files: Sequence[SourceFile]) -> None:
        self.files = files
        self.report = report
        self._name = name
        self._paths = [file.path for file in annotation_files]
        # The rules for folder names also apply to annotation files: labels_train.csv next to labels_val.csv.
        self._kinds = kinds_of_folders(path.rpartition(".")[0] for path in self._paths)
        self._named: set[str] = set()
        self._collector = Collector(files, report)
        self._labels: dict[str, int] = {}
        self._whole: dict[str, tuple[Position, tuple[int, ...]]] = {}
        self._counted: dict[Template, list[Position]] = {}

    def find(self, name: object, where: Position) -> SourceFile | None:
        """The image that the annotations call `name`; reports a fault if there is none."""
        near = where.path.rpartition("/")[0]
        image = self.files.find_image(name, near, self._kind_of_file(where.path)) if isinstance(name, str) else None
        if image is None:
            named = str(name)[:200]
            message = annotation_messages.NO_IMAGE_NAMED(where=where.param(), path=named)
            self.report.fault("missing_image", message, where.path)
        return image

    def shape(
        self,
        name: object,
        where: Position,
        box: Corners | None = None,
        polygons: tuple["array[float]", ...] = (),
        *,
        rle: Rle | None = None,
        relative: bool = False,
    ) -> Shape:
        """An object of the class `name`; "" means that the class is unknown."""
        return Shape(self._label(name), where, box, polygons, rle, relative=relative)

    def add(
        self,
        image: SourceFile,
        where: Position,
        shapes: Iterable[Shape] = (),
        *,
        labels: Iterable[str] = (),
        size: tuple[int, int] = (0, 0),
        unusable: int = 0,
        kind: Kind | None = None,
    ) -> None:
        """Add an image with its objects or the names of its classes; `kind` is its split in the annotations."""
        kind = (
            kind or self._kind_of_file(where.path) or self.files.kind_of(where.path) or self.files.kind_of(image.path)
        )
        self._collector.add(image, where, kind=kind, shapes=shapes, size=size, unusable=unusable)
        if names := [name for name in map(class_name, labels) if name]:
            self._whole.setdefault(image.path, (where, tuple(self._label(name) for name in names)))

    def count(self, finding: Template, where: Position) -> None:
        """Count a finding, whose message has the parameters count and where; `layout` reports it once."""
        self._counted.setdefault(finding, []).append(where)

    def leave_out(self, image: SourceFile, finding: Template, where: Position) -> None:
        """Leave out an image, and count the finding that states the reason."""
        self._collector.leave_out(image.path)
        self.count(finding, where)

    def fault(self, where: Position, message: Message, code: str = "bad_annotation") -> None:
        """Report an unusable object or image."""
        self.report.fault(code, message, where.path)

    def no_image_for(self, file: SourceFile) -> None:
        """Report an annotation file without an image."""
        self.fault(Position(file.path), annotation_messages.NO_IMAGE_FOR(path=file.path), "missing_image")

    def field_invalid(self, where: Position, field: str) -> None:
        """Report a field that is missing or has an unusable value."""
        self.fault(where, messages.FIELD_INVALID(where=where.param(), field=field))

    def shape_not_read(self, where: Position, kind: object, known: Sequence[Param]) -> None:
        """Report an object of a type that no task supports."""
        self.fault(where, messages.SHAPE_NOT_READ(where=where.param(), type=class_name(kind), known=known))

    def layout(
        self,
        *,
        order: Sequence[str] = (),
        renamed: dict[str, str] | None = None,
        split_origin: Message | None = None,
    ) -> Layout:
        """The layout with final labels: the classes in `order` first, then the others sorted by name.

        `renamed` replaces provisional names. If no image has objects, the labels of whole images are used.
        """
        self._report_counted()
        images = list(self._without_unnamed(self._collector.images()))
        has_objects = any(image.shapes for image in images)
        used = {shape.label for image in images for shape in image.shapes}
        if not has_objects:
            used = {label for _where, labels in self._whole.values() for label in labels}
        renamed = renamed or {}
        names = {label: renamed.get(name, name or ONE_CLASS) for name, label in self._labels.items() if label in used}
        places = {name: place for place, name in enumerate(order)}
        classes = sorted(set(names.values()), key=lambda name: (places.get(name, len(places)), natural_key(name)))
        label_of = {label: classes.index(name) for label, name in names.items()}
        origin = split_origin
        if origin is None and self._named:
            origin = SPLIT_FROM_ANNOTATION_FILES(paths=sorted(self._named)[:MOST_FILES_NAMED])
        if self._whole and not has_objects:
            return self._labelled(images, classes, label_of, origin)
        if self._whole:
            first = next(iter(self._whole.values()))[0]
            message = messages.LABELS_NOT_USED(count=len(self._whole), where=first.param())
            self.report.warn("ignored_file", message, first.path, count=len(self._whole))
            # Images in a file without objects have image labels; they are not backgrounds for images with objects.
            with_objects = {shape.where.path for image in images for shape in image.shapes}
            apart = {path for path, (where, _labels) in self._whole.items() if where.path not in with_objects}
            self._collector.remove(apart)
            images = [image for image in images if image.file.path not in apart]
        layout = object_layout(self._name, self._collector, classes, self._paths, self.report, split_origin=origin)
        return replace(layout, images=[_relabelled(image, label_of) for image in images])

    def _labelled(
        self, images: list[SourceImage], classes: list[str], label_of: dict[int, int], origin: Message | None
    ) -> Layout:
        self._collector.warn_of_others()
        several = any(len(set(labels)) > 1 for _where, labels in self._whole.values())
        found = []
        for image in images:
            _where, labels = self._whole.get(image.file.path, (image.where, ()))
            every = tuple(sorted({label_of[label] for label in labels}))
            if several:
                found.append(replace(image, labels=every))
            elif every:
                found.append(replace(image, label=every[0]))
            else:
                where = image.where.param()
                self.fault(image.where, annotation_messages.CLASS_MISSING(where=where), "unknown_class")
        return Layout(
            self._name, ["multi_labels" if several else "labels"], classes, found, self._paths, split_origin=origin
        )

    def _label(self, name: object) -> int:
        return self._labels.setdefault(class_name(name), len(self._labels))

    def _kind_of_file(self, path: str) -> Kind | None:
        kind = self._kinds.get(path.rpartition(".")[0])
        if kind:
            self._named.add(path)
        return kind

    def _without_unnamed(self, images: list[SourceImage]) -> Iterator[SourceImage]:
        """The images without objects that have no class; unchanged if no object has a class."""
        unnamed = self._labels.get("", -1)
        is_only = len(self._labels) == 1
        count = 0
        first = Position("")
        for image in images:
            without = [shape for shape in image.shapes if shape.label == unnamed]
            if without and is_only:
                first = first if count else without[0].where
                count += len(without)
                yield image
                continue
            for shape in without:
                message = annotation_messages.CLASS_MISSING(where=shape.where.param())
                self.fault(shape.where, message, "unknown_class")
            rest = tuple(shape for shape in image.shapes if shape.label != unnamed)
            yield replace(image, shapes=rest, unusable=image.unusable + len(without)) if without else image
        if count:
            message = messages.ONE_CLASS_ASSUMED(count=count, name=ONE_CLASS)
            self.report.warn("one_class", message, first.path, count=count)

    def _report_counted(self) -> None:
        codes = {
            messages.ROTATED_BOXES: "oriented_boxes",
            messages.SECOND_ANNOTATIONS: "duplicate_name",
            messages.UNFINISHED_TASKS: "not_annotated",
        }
        for finding, places in self._counted.items():
            message = finding(count=len(places), where=places[0].param())
            if finding is messages.UNFINISHED_TASKS and not self._collector.images():
                self.report.error("not_annotated", message, places[0].path)
                continue
            self.report.warn(codes.get(finding, "ignored_object"), message, places[0].path, count=len(places))


def _relabelled(image: SourceImage, label_of: dict[int, int]) -> SourceImage:
    if all(label_of[shape.label] == shape.label for shape in image.shapes):
        return image
    return replace(image, shapes=tuple(replace(shape, label=label_of[shape.label]) for shape in image.shapes))


# Geometry. Each function returns None if the values are not usable.


def number(value: object) -> float | None:
    """A finite number of plausible size, given as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) < MOST_COORDINATE else None


def values(source: object, *keys: str) -> list[float] | None:
    """The numbers at these keys of a JSON object, in order."""
    if not isinstance(source, dict):
        return None
    found = [number(source.get(key)) for key in keys]
    present = [value for value in found if value is not None]
    return present if len(present) == len(keys) else None


def in_order(left: float, top: float, right: float, bottom: float) -> Corners:
    """The corners, ordered so that left <= right and top <= bottom."""
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def polygon(points: object) -> "array[float] | None":
    """x, y, x, y, ... from a list of at least three points [x, y]."""
    if not isinstance(points, list) or len(points) < 3:
        return None
    flat = array("f")
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            return None
        x, y = number(point[0]), number(point[1])
        if x is None or y is None:
            return None
        flat.extend((x, y))
    return flat


def ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0) -> "array[float]":
    """The outline of an ellipse around (x, y), rotated clockwise."""
    turned = math.radians(degrees)
    flat = array("f")
    for step in range(_ROUND_POINTS):
        angle = 2 * math.pi * step / _ROUND_POINTS
        along, across = x_radius * math.cos(angle), y_radius * math.sin(angle)
        flat.append(x + along * math.cos(turned) - across * math.sin(turned))
        flat.append(y + along * math.sin(turned) + across * math.cos(turned))
    return flat


def ellipse_box(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0) -> Corners:
    """The axis-aligned box around an ellipse."""
    turned = math.radians(degrees)
    width = math.hypot(x_radius * math.cos(turned), y_radius * math.sin(turned))
    height = math.hypot(x_radius * math.sin(turned), y_radius * math.cos(turned))
    return x - width, y - height, x + width, y + height


def turned_box(box: Corners, degrees: float, around: tuple[float, float]) -> Corners:
    """The axis-aligned box around a rectangle that is rotated clockwise around a point."""
    left, top, right, bottom = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - around[0], y - around[1]) for x in (left, right) for y in (top, bottom)]
    xs = [around[0] + x * cosine - y * sine for x, y in corners]
    ys = [around[1] + x * sine + y * cosine for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)
