"""The interface of format modules."""

from typing import Protocol

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.layout import Layout


class Format(Protocol):
    """A module of this package that reads one format; `registry.FORMATS` lists them."""

    NAME: str
    """As stored in `Dataset.format` and in `ReadingOptions.format`."""

    def recognise(self, files: Files) -> bool:
        """Whether the source appears to be in this format, judged by names and the beginnings of annotation files."""
        ...

    def read(self, files: Files, report: Report) -> Layout:
        """Read all annotations. Errors go into the report, as faults where they concern a single image or object.

        `files.reading` holds the user's choices; open choices are recorded with `files.offer`. Files are read with
        `files.read_text` and `files.read_bytes`, so that the review can list files that were not read.
        `Layout.split_origin` is the origin of the splits unless they come from folder names. Raises DatasetError if
        nothing can be read.
        """
        ...
