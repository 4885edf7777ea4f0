"""Finding and reading the files of a source: what every format needs."""

import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property

from trainingapp.datasets.errors import DatasetError
from trainingapp.datasets.sources.archive import Source, SourceFile, copy_limited
from trainingapp.datasets.sources.layout import Kind

MOST_ANNOTATION_BYTES = 512 * 1024**2
PEEK_BYTES = 1 << 20
#: Annotations are read as a whole. Real ones shrink to a tenth; what shrinks to less than this is made to fill memory.
MOST_TEXT_RATIO = 30
RATIO_FREE_BYTES = 24 * 1024**2
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_KINDS: dict[str, Kind] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Files:
    """The files of a source by path and by name. `beat` is called now and then while annotations are read."""

    def __init__(self, source: Source, beat: Callable[[], None] = lambda: None) -> None:
        self.source = source
        self.beat = beat
        self.by_path = {file.path: file for file in source.files}
        self.images = [file for file in source.files if is_image_name(file.path)]

    def ending(self, *suffixes: str) -> list[SourceFile]:
        """Files whose name ends so (lower case, with the dot), in the order of their paths."""
        found = [file for file in self.source.files if file.path.lower().endswith(suffixes)]
        return sorted(found, key=lambda file: file.path)

    def find_image(self, name: str, near: str = "", kind: Kind | None = None) -> SourceFile | None:
        """The image that an annotation file in the folder `near` calls `name`; None when none or several could be.

        Only files of the source are found, whatever the name says. Without an ending any image of that stem will do;
        upper and lower case count only where several could be meant.
        """
        name = tidy_path(name)
        direct = self.by_path.get(f"{near}/{name}" if near else name)
        if direct is not None and is_image_name(direct.path):
            return direct
        last = name.rpartition("/")[2]
        same = self._by_name.get(last.lower()) or ([] if is_image_name(last) else self._by_stem.get(last, []))
        return best_match([file for file in same if f"/{file.path}".endswith(f"/{name}")] or same, near, kind)

    def with_stem(self, name: str) -> list[SourceFile]:
        """Images called so, whatever their ending and folder."""
        return self._by_stem.get(name, [])

    @cached_property
    def _by_name(self) -> dict[str, list[SourceFile]]:
        return _grouped(self.images, lambda path: path.rpartition("/")[2].lower())

    @cached_property
    def _by_stem(self) -> dict[str, list[SourceFile]]:
        return _grouped(self.images, stem)

    def read_text(self, file: SourceFile, most_bytes: int | None = None) -> str:
        """The text of an annotation file. Raises DatasetError when it is too large, damaged or no UTF-8."""
        self.beat()
        try:
            return read_bytes(file, most_bytes).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetError.one("not_text", f"{file.path} is no UTF-8 text ({error.reason}).", file.path) from None

    def peek(self, file: SourceFile) -> bytes:
        """The first and the last part of a file, to see what it is; empty when it cannot be read."""
        try:
            with file.open() as reader:
                start = reader.read(PEEK_BYTES)
                if file.size_bytes <= 2 * PEEK_BYTES or not reader.seekable():
                    return start + reader.read(PEEK_BYTES)
                reader.seek(file.size_bytes - PEEK_BYTES)
                return start + reader.read(PEEK_BYTES)
        except (ValueError, RuntimeError, EOFError, NotImplementedError):
            return b""


def _grouped(files: Iterable[SourceFile], key: Callable[[str], str]) -> dict[str, list[SourceFile]]:
    groups: dict[str, list[SourceFile]] = defaultdict(list)
    for file in files:
        groups[key(file.path)].append(file)
    return dict(groups)


def read_bytes(file: SourceFile, most_bytes: int | None = None) -> bytes:
    """The content of an annotation file. Raises DatasetError when it is too large or damaged."""
    most_bytes = most_bytes or MOST_ANNOTATION_BYTES
    if file.size_bytes > most_bytes:
        message = f"{file.path} is larger than {most_bytes >> 20} MB, the most that such a file may be."
        raise DatasetError.one("annotations_too_large", message, file.path)
    if file.packed_bytes is not None and file.size_bytes > max(RATIO_FREE_BYTES, MOST_TEXT_RATIO * file.packed_bytes):
        message = f"{file.path} unpacks to {file.size_bytes >> 20} MB from next to nothing: a zip bomb."
        raise DatasetError.one("bomb", message, file.path)
    buffer = io.BytesIO()
    copy_limited(file, buffer, lambda piece: None)
    return buffer.getvalue()


def is_image_name(path: str) -> bool:
    """Whether the ending says that the file is an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  no path of this machine


def stem(path: str) -> str:
    """The file's name without folder and ending."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def tidy_path(path: str) -> str:
    """A path as an annotation file writes it, with forward slashes and without what leads up or stands still."""
    parts = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def best_match(files: list[SourceFile], near: str, kind: Kind | None = None) -> SourceFile | None:
    """The one file that lies in the right part of the source, or nearest; None when several are as good."""
    if len(files) < 2:
        return files[0] if files else None
    ranked = sorted(files, key=lambda file: _closeness(file.path, near, kind), reverse=True)
    first, second = (_closeness(file.path, near, kind) for file in ranked[:2])
    return ranked[0] if first > second else None


def _closeness(path: str, near: str, kind: Kind | None) -> tuple[bool, int]:
    return kind is not None and kind_of_path(path) == kind, _shared(path.split("/"), near.split("/"))


def _shared(one: list[str], other: list[str]) -> int:
    """How many folders both paths begin with."""
    return next(
        (number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def kind_of_name(name: str) -> Kind | None:
    """train, val or test for a folder or file named so, or for it (instances_train2017); None for any other."""
    for word in re.findall(r"[a-z]+", name.lower()):
        if kind := _KINDS.get(word):
            return kind
    return None


def kind_of_folder(name: str) -> Kind | None:
    """train, val or test for a folder that has just this name."""
    return _KINDS.get(name.lower())


def kind_of_path(path: str) -> Kind | None:
    """What the folders of a file say, the innermost first."""
    for folder in reversed(path.split("/")[:-1]):
        if kind := kind_of_name(folder):
            return kind
    return None


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts "class 2" before "class 10" and upper case beside lower case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part[0] in "0123456789" and len(part) < 100 else (1, 0, part) for part in parts], name


def class_name(value: object) -> str:
    """A class name as people can read it: one line without spaces at its ends, at most 120 characters."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return " ".join(unicodedata.normalize("NFC", text).split())[:120]
