"""Gathering annotated images, and small checks that several formats share."""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from trainingapp.contract.tasks.descriptor import Annotation
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import SourceFile
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.layout import Kind, Layout, MaskFile, Shape, SourceImage


class Collector:
    """Images in the order of their annotations, each file once."""

    def __init__(self, files: Files, report: Report) -> None:
        self.files = files
        self.report = report
        self._images: dict[str, SourceImage] = {}

    def add(
        self,
        file: SourceFile,
        where: str,
        *,
        kind: Kind | None,
        label: int = -1,
        shapes: Iterable[Shape] = (),
        mask: MaskFile | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        """Take an image; one that is there already is a fault."""
        if file.path in self._images:
            message = f"{where}: the image {file.path} is there already ({self._images[file.path].where})."
            self.report.fault("duplicate_name", message, file.path)
            return
        self._images[file.path] = SourceImage(file, "", kind, label, tuple(shapes), mask, size, where)

    def images(self) -> list[SourceImage]:
        """Those taken; each goes into images/ under the path that it has below the folder common to all."""
        depth = _common_depth(list(self._images))
        return [
            replace(image, stored_path="/".join(["images", *path.split("/")[depth:]]))
            for path, image in self._images.items()
        ]

    def warn_of_others(self) -> None:
        """Images of the source that no annotation names are left out."""
        masks = {image.mask.file.path for image in self._images.values() if image.mask}
        others = [file.path for file in self.files.images if file.path not in self._images.keys() | masks]
        if others:
            message = f"{len(others):,} images that no annotation names are left out."
            self.report.warn("not_annotated", message, others[0], count=len(others))


def _common_depth(paths: list[str]) -> int:
    """How many folders all paths begin with."""
    folders = [path.split("/")[:-1] for path in paths]
    first, last = min(folders, default=[]), max(folders, default=[])
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth


def object_annotations(images: Sequence[SourceImage], report: Report) -> list[Annotation]:
    """Boxes, and masks too where every object has an outline."""
    shapes = [shape for image in images for shape in image.shapes]
    outlined = sum(shape.has_outline for shape in shapes)
    if shapes and outlined == len(shapes):
        return ["boxes", "masks"]
    if outlined:
        message = f"Only {outlined:,} of {len(shapes):,} objects have an outline: the set is for detection alone."
        report.warn("partly_outlined", message)
    return ["boxes"]


def object_layout(
    name: str, collector: Collector, classes: list[str], annotation_files: list[str], report: Report
) -> Layout:
    """The layout of a format of objects."""
    images = collector.images()
    collector.warn_of_others()
    return Layout(name, object_annotations(images, report), classes, images, annotation_files)


def numbers(values: Any) -> "array[float] | None":
    """The values as numbers; None when they are no list of finite numbers."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    try:
        found = array("d", values)
    except OverflowError:
        return None
    return found if all(map(math.isfinite, found)) else None


def whole(value: Any) -> int:
    """The value where it is a whole number above zero that an image's side can have, else 0."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value < 1 << 24 else 0
