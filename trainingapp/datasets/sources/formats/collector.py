"""Collection of annotated images, and checks shared by several formats."""

import math
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import cast

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.tasks.descriptor import Annotation
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.layout import (
    Kind,
    Layout,
    MaskFile,
    Shape,
    SourceImage,
    StoredShapes,
    count_outlined,
    count_placed,
)
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile
from trainingapp.datasets.sources.split_lists import warn_of_unlisted

MOST_NAMED = 3


class Collector:
    """Collects images in the order of their annotations, each file once."""

    def __init__(self, files: Files, report: Report) -> None:
        self.files = files
        self.report = report
        self._images: dict[str, SourceImage] = {}
        self._unlisted: set[str] = set()
        self._merged: list[str] = []
        self._in_several: list[str] = []

    def add(
        self,
        file: SourceFile,
        where: Position,
        *,
        kind: Kind | None,
        label: int = -1,
        labels: Iterable[int] = (),
        shapes: Iterable[Shape] = (),
        mask: MaskFile | None = None,
        size: tuple[int, int] = (0, 0),
        unusable: int = 0,
    ) -> None:
        """Add an image; a second annotation of the same file is a fault. `labels` is for multi-label sources."""
        if file.path in self._images:
            elsewhere = self._images[file.path].where.param()
            message = messages.IMAGE_TWICE(where=where.param(), path=file.path, elsewhere=elsewhere)
            self.report.fault("duplicate_name", message, file.path)
            return
        kept = shapes if isinstance(shapes, StoredShapes) else tuple(shapes)
        all_labels = tuple(sorted(set(labels)))
        self._images[file.path] = SourceImage(file, "", kind, label, kept, mask, size, where, all_labels, unusable)

    def add_or_merge(
        self,
        file: SourceFile,
        where: Position,
        *,
        kind: Kind | None,
        shapes: Sequence[Shape],
        size: tuple[int, int],
        unusable: int,
    ) -> None:
        """Add an image. If it was already added for the same split, the objects are merged without duplicates.

        An image in two splits is held out of training if its objects are the same in both; otherwise it is a fault,
        since the correct ones are unknown.
        """
        known = self._images.get(file.path)
        seen = {(shape.label, shape.box) for shape in known.shapes if shape.box} if known else set()
        is_other_split = known and kind and known.kind and kind != known.kind
        if known is None or (is_other_split and seen != {(shape.label, shape.box) for shape in shapes}):
            self.add(file, where, kind=kind, shapes=shapes, size=size, unusable=unusable)
            return
        if is_other_split:
            self._in_several.append(file.path)
            kind = kind if known.kind == "train" else known.kind
        else:
            self._merged.append(file.path)
        more = [shape for shape in shapes if (shape.label, shape.box) not in seen]
        self._images[file.path] = replace(
            known, kind=kind or known.kind, shapes=(*known.shapes, *more), unusable=known.unusable + unusable
        )

    def warn_of_merged(self) -> None:
        """Warn about images that the annotations list more than once or in several splits."""
        if self._in_several:
            named = self._in_several[:MOST_NAMED]
            message = messages.IN_SEVERAL_SPLITS(count=len(self._in_several), paths=named)
            self.report.warn("leak", message, named[0], count=len(self._in_several))
        if self._merged:
            count, named = len(self._merged), self._merged[:MOST_NAMED]
            message = messages.IMAGES_MERGED(count=count, paths=named)
            self.report.warn("duplicate_name", message, named[0], count=count)

    def leave_out_unlisted(self, paths: list[str]) -> None:
        """Warn about images that no split of the source contains; they are not added."""
        warn_of_unlisted(paths, self.report)
        self._unlisted.update(paths)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove images with annotations of another kind; `warn_of_others` reports them."""
        for path in paths:
            self._images.pop(path, None)

    def leave_out(self, path: str) -> None:
        """Mark the image as already reported by a finding."""
        self._unlisted.add(path)

    def images(self) -> list[SourceImage]:
        """The added images; each is stored in images/ under its path relative to their common folder."""
        folders = [path.split("/")[:-1] for path in self._images]
        pairs = zip(min(folders, default=[]), max(folders, default=[]), strict=False)
        depth = sum(1 for _pair in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return [
            replace(image, stored_path="/".join(["images", *path.split("/")[depth:]]))
            for path, image in self._images.items()
        ]

    def shapes(self) -> Iterator[Shape]:
        """All objects."""
        return (shape for image in self._images.values() for shape in image.shapes)

    def keep_placed(self, dropped: Callable[[Shape, Report], None]) -> None:
        """Remove objects that have neither a box nor an outline; `dropped` reports each."""
        for path, image in self._images.items():
            if count_placed(image.shapes) < len(image.shapes):
                kept = tuple(shape for shape in image.shapes if shape.has_place)
                for shape in image.shapes:
                    if not shape.has_place:
                        dropped(shape, self.report)
                unusable = image.unusable + len(image.shapes) - len(kept)
                self._images[path] = replace(image, shapes=kept, unusable=unusable)

    def warn_of_others(self, used: Collection[str] = ()) -> None:
        """Warn about images without annotations, except those in `used` and those already reported."""
        masks = {image.mask.file.path for image in self._images.values() if image.mask}
        known = self._images.keys() | masks | self._unlisted | set(used)
        others = [file.path for file in self.files.images if file.path not in known]
        if others:
            count = len(others)
            self.report.warn("not_annotated", messages.NOT_ANNOTATED(count=count), others[0], count=count, files=others)


def object_annotations(images: Sequence[SourceImage], report: Report) -> list[Annotation]:
    """Boxes, and also masks, of pixels and of objects, if every object has an outline."""
    total = sum(len(image.shapes) for image in images)
    outlined = sum(count_outlined(image.shapes) for image in images)
    if total and outlined == total:
        return ["boxes", "masks", "outlines"]
    if outlined:
        report.warn("partly_outlined", messages.PARTLY_OUTLINED(count=outlined, total=total))
    return ["boxes"]


def object_layout(
    name: str,
    collector: Collector,
    classes: list[str],
    annotation_files: list[str],
    report: Report,
    *,
    split_origin: Message | None = None,
) -> Layout:
    """The layout of a format with objects; `split_origin` as in `Layout`."""
    images = collector.images()
    collector.warn_of_others()
    return Layout(name, object_annotations(images, report), classes, images, annotation_files, split_origin)


def numbers(values: object) -> "array[float] | None":
    """The values as numbers, converted from text if needed; None if they are not a list of finite numbers."""
    if not isinstance(values, list):
        return None
    try:
        # type() instead of isinstance(), since True and False are instances of int.
        if all(type(value) in (int, float) for value in values):
            found = array("d", cast(list[float], values))
        elif all(type(value) in (int, float, str) for value in values):
            found = array("d", map(float, values))
        else:
            return None
    except (OverflowError, ValueError):
        return None
    return found if all(map(math.isfinite, found)) else None


def whole(value: object) -> int:
    """The value if it is an integer, also as text, that can be an image side in pixels; else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 24 else 0
