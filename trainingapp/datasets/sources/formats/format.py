"""The interface of the module of a format."""

from typing import Protocol

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.layout import Layout


class Format(Protocol):
    """A module of this package; `registry.FORMATS` lists them."""

    NAME: str
    """As stored in `Dataset.format` and in `ReadingOptions.format`."""

    def recognise(self, files: Files) -> bool:
        """Whether the source looks like this format, from names and the beginnings of annotation files."""
        ...

    def read(self, files: Files, report: Report) -> Layout:
        """Read all annotations. Errors go into the report, as faults where they concern a single image or object.

        `files.reading` holds the user's choices; a choice that the source leaves open is noted by `files.offer`. The
        files are read by `files.read_text` and `files.read_bytes`, so that the review can name those that were not.
        `Layout.split_origin` says where the splits come from, unless it is the names of folders. Raises DatasetError
        where nothing can be read.
        """
        ...
