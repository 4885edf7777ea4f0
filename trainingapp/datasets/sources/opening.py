"""Opening a source: a zip or a folder of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.sources.folders import read_folder
from trainingapp.datasets.sources.source import Source
from trainingapp.datasets.sources.zips import open_zip, read_zip


@contextmanager
def open_source(path: Path, reading: ReadingOptions = AUTO) -> Iterator[Source]:
    """The files of a zip or a folder. Raises DatasetError when it is neither, unsafe, or holds nothing."""
    if path.is_dir():
        yield read_folder(path)
        return
    with open_zip(path) as archive:
        yield read_zip(path, archive)
