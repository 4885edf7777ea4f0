"""The formats that are read. To add one, write its module and name it here, before those that take more for theirs."""

from collections.abc import Callable
from typing import Protocol

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import Source
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats import class_folders, coco, csv_labels, drawn_scenes, masks, voc, yolo
from trainingapp.datasets.sources.given_splits import settle_splits
from trainingapp.datasets.sources.layout import Layout


class Format(Protocol):
    """What a module of a format offers."""

    NAME: str
    """As it stands in the dataset's row."""

    def recognise(self, files: Files) -> bool:
        """Whether the source looks like this format, from names and the beginnings of annotation files."""
        ...

    def read(self, files: Files, report: Report) -> Layout:
        """Read all annotations; what is wrong goes into the report, as faults where only an item is concerned.

        Raises DatasetError where nothing can be read.
        """
        ...


FORMATS: list[Format] = [drawn_scenes, coco, yolo, voc, masks, csv_labels, class_folders]


def recognise(files: Files) -> Format:
    """The first format that takes the source for its own; class folders take anything."""
    return next(format_ for format_ in FORMATS if format_.recognise(files))


def read_layout(source: Source, report: Report, beat: Callable[[], None] = lambda: None) -> Layout:
    """Classes, images and annotations of a source. Raises DatasetError where nothing can be read."""
    files = Files(source, beat)
    return settle_splits(recognise(files).read(files, report), report)
