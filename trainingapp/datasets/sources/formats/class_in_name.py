"""Classes at the beginning of file names, before a separator: cat.0.jpg, dog_12.png.

Used only if `ReadingOptions.class_from` selects it. The review offers it for images without annotations whose names
begin with one of a few words.
"""

import re
from collections import Counter

from trainingapp.contract.messages import dataset_formats as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, stem
from trainingapp.datasets.sources.formats.gathered import Gathered
from trainingapp.datasets.sources.layout import Layout
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.position import Position

NAME = "file_name"
_CLASS = re.compile(r"^(?P<name>[^\W\d_][^.]*?)(?:[-_. ]*\(?\d+\)?)$")
_MOST_CLASSES = 200
_MOST_NAMED = 5
_FEWEST_EACH = 2


def recognise(files: Files) -> bool:
    """Whether the user chose file names as the origin of the class."""
    return files.reading.class_from == "file_name"


def _class(path: str) -> str:
    """The words before the number at the end of a name; "" if there are none."""
    match = _CLASS.match(stem(path))
    return match["name"].rstrip("-_. ") if match else ""


def offer(files: Files) -> None:
    """Offer classes from file names if nearly all names begin with one of a few words."""
    counts = Counter(_class(file.path) for file in files.images)
    unnamed = counts.pop("", 0)
    if 2 <= len(counts) <= _MOST_CLASSES and not unnamed and min(counts.values()) >= _FEWEST_EACH:
        used = "file_name" if recognise(files) else "folder"
        named = sorted(counts)[:_MOST_NAMED]
        found = messages.CLASSES_FROM_NAMES if recognise(files) else messages.CLASSES_IN_NAMES
        files.offer(Offer("class_from", used, ("folder", "file_name"), found(names=named)))


def read(files: Files, report: Report) -> Layout:
    """Read the beginning of each name as its class. Classes are ordered by name."""
    gathered = Gathered(NAME, files, report, [])
    for file in files.images:
        where = Position(file.path)
        if name := _class(file.path):
            gathered.add(file, where, labels=[name])
        else:
            gathered.fault(where, messages.NO_CLASS_IN_NAME(path=file.path), "unknown_class")
    return gathered.layout()
