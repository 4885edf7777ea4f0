"""Gathering annotated pictures, and small checks that several formats share."""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from trainingapp.contract.dataset_index import RecipeName
from trainingapp.datasets.archive import SourceFile
from trainingapp.datasets.files import Files
from trainingapp.datasets.layout import Kind, Layout, MaskFile, Picture, Shape
from trainingapp.datasets.report import Report


class Collector:
    """Pictures in the order of their annotations, each file once."""

    def __init__(self, files: Files, report: Report) -> None:
        self.files = files
        self.report = report
        self._pictures: dict[str, Picture] = {}

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
        """Take a picture; one that is there already is a fault."""
        if file.path in self._pictures:
            message = f"{where}: the picture {file.path} is there already ({self._pictures[file.path].where})."
            self.report.fault("duplicate_name", message, file.path)
            return
        self._pictures[file.path] = Picture(file, "", kind, label, tuple(shapes), mask, size, where)

    def pictures(self) -> list[Picture]:
        """Those taken; each goes into images/ under the path that it has below the folder common to all."""
        depth = _common_depth(list(self._pictures))
        return [
            replace(picture, stored_path="/".join(["images", *path.split("/")[depth:]]))
            for path, picture in self._pictures.items()
        ]

    def warn_of_others(self) -> None:
        """Pictures of the source that no annotation names are left out."""
        masks = {picture.mask.file.path for picture in self._pictures.values() if picture.mask}
        others = [file.path for file in self.files.pictures if file.path not in self._pictures.keys() | masks]
        if others:
            message = f"{len(others):,} pictures that no annotation names are left out."
            self.report.warn("not_annotated", message, others[0], count=len(others))


def _common_depth(paths: list[str]) -> int:
    """How many folders all paths begin with."""
    folders = [path.split("/")[:-1] for path in paths]
    first, last = min(folders, default=[]), max(folders, default=[])
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth


def object_recipes(pictures: Sequence[Picture], report: Report) -> list[RecipeName]:
    """Detection, and segmentation too where every object has an outline."""
    shapes = [shape for picture in pictures for shape in picture.shapes]
    outlined = sum(shape.has_outline for shape in shapes)
    if shapes and outlined == len(shapes):
        return ["detection", "segmentation"]
    if outlined:
        message = f"Only {outlined:,} of {len(shapes):,} objects have an outline: the set is for detection alone."
        report.warn("partly_outlined", message)
    return ["detection"]


def object_layout(
    name: str, collector: Collector, classes: list[str], annotation_files: list[str], report: Report
) -> Layout:
    """The layout of a format of objects."""
    pictures = collector.pictures()
    collector.warn_of_others()
    return Layout(name, object_recipes(pictures, report), classes, pictures, annotation_files)


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
    """The value where it is a whole number above zero that a picture's side can have, else 0."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value < 1 << 24 else 0
