"""The supported formats. A new format is a module that is listed here, before formats that accept more sources."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, suffix_of
from trainingapp.datasets.sources.formats import class_folders, coco, csv_labels, drawn_scenes, masks, voc, yolo
from trainingapp.datasets.sources.given_splits import settle_splits
from trainingapp.datasets.sources.layout import Layout
from trainingapp.datasets.sources.source import Source

MOST_NAMED = 5


class Format(Protocol):
    """The interface of the module of a format."""

    NAME: str
    """As stored in `Dataset.format`."""

    def recognise(self, files: Files) -> bool:
        """Whether the source looks like this format, from names and the beginnings of annotation files."""
        ...

    def read(self, files: Files, report: Report) -> Layout:
        """Read all annotations. Errors go into the report, as faults where they concern a single image or object.

        Raises DatasetError where nothing can be read.
        """
        ...


FORMATS: list[Format] = [drawn_scenes, coco, yolo, voc, masks, csv_labels, class_folders]


def recognise(files: Files) -> Format:
    """The first format that recognises the source; class folders accept any."""
    return next(format_ for format_ in FORMATS if format_.recognise(files))


def read_layout(source: Source, report: Report, beat: Callable[[], None] = lambda: None) -> Layout:
    """Classes, images and annotations of a source. Raises DatasetError where nothing can be read."""
    files = Files(source, beat)
    _refuse_without_images(files)
    return settle_splits(recognise(files).read(files, report), report)


def _refuse_without_images(files: Files) -> None:
    if files.images:
        return
    endings = Counter(suffix_of(file.path) for file in files.source.files)
    message = messages.IMAGES_NOT_INCLUDED(
        count=len(files.source.files), suffixes=[suffix or "–" for suffix, _count in endings.most_common(MOST_NAMED)]
    )
    raise DatasetError.one("no_images", message, files.source.files[0].path)
