"""Lookup and reading of a source's files, shared by all formats."""

import codecs
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import takewhile
from urllib.parse import unquote

from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.datasets.options import AUTO, ReadingField, ReadingOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.encodings import TEXT_LEGACY
from trainingapp.datasets.sources.folder_names import SPLIT_WORDS, kinds_of_folders
from trainingapp.datasets.sources.folder_names import kind_of_folder as kind_of_folder
from trainingapp.datasets.sources.folder_names import kind_of_path as kind_of_path
from trainingapp.datasets.sources.image_kinds import IMAGE_SUFFIXES
from trainingapp.datasets.sources.layout import Kind
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import Source, SourceFile, copy_limited, pieces_of
from trainingapp.datasets.sources.texts import decode_file, sample_as_utf8

MOST_ANNOTATION_BYTES = 512 * 1024**2
MOST_BYTES_AT_ONCE = 16 * 1024**2
"""Larger annotation files are read piece by piece where their format allows."""
PEEK_BYTES = 1 << 20
MOST_RECOGNISED = 20
MOST_PEEKED_BYTES = 16 << 20
"""Of all files together, kept for the other formats."""
#: Annotations are read as a whole. Real ones compress to a tenth; a file that compresses further may be a zip bomb.
MOST_TEXT_RATIO = 30
RATIO_FREE_BYTES = 24 * 1024**2

_SPLIT_FLAGS: dict[str, Kind] = {
    "istrain": "train",
    "istraining": "train",
    "istest": "test",
    **dict.fromkeys(("isval", "isvalid", "isvalidation"), "val"),
}
"""Columns of truth values that say whether an image is in a split."""
_JOINERS = "\u200c\u200d"
"""Kept in the names of classes: emoji and several scripts need them."""


class Files:
    """The files of a source by path and by name. `beat` is called regularly while annotations are read.

    `reading` holds the user's choices for the formats, `offers` the choices found while reading. `read_paths` are the
    files whose content was read, so that the review can list the others.
    """

    def __init__(self, source: Source, beat: Callable[[], None] = lambda: None, reading: ReadingOptions = AUTO) -> None:
        self.source = source
        self.beat = beat
        self.reading = reading
        self.offers: dict[ReadingField, Offer] = {offer.field: offer for offer in source.offers}
        self.read_paths: set[str] = set()
        self._text_encodings: Counter[str] = Counter()
        self._peeked: dict[str, bytes] = {}
        self._peeked_bytes = 0
        self.by_path = {file.path: file for file in source.files}
        self.images = [file for file in source.files if is_image_name(file.path)]

    def ending(self, *suffixes: str) -> list[SourceFile]:
        """Files with one of these suffixes (lower case, with the dot), sorted by path."""
        found = [file for file in self.source.files if file.path.lower().endswith(suffixes)]
        return sorted(found, key=lambda file: file.path)

    def first_ending(self, *suffixes: str) -> list[SourceFile]:
        """The files that are inspected to recognize a format: the first MOST_RECOGNISED with one of these suffixes."""
        return self.ending(*suffixes)[:MOST_RECOGNISED]

    def find_image(self, name: str, near: str = "", kind: Kind | None = None) -> SourceFile | None:
        """The image that an annotation file in the folder `near` calls `name`; None if no or several images match.

        Only files of the source are found. A name without a suffix matches any image with that stem. Case and the
        folders in the name are compared only if several images match. A name can be a URL.
        """
        found = (self._find_image(tidy_path(reading), near, kind) for reading in _readings(name))
        return next(filter(None, found), None)

    def _find_image(self, name: str, near: str, kind: Kind | None) -> SourceFile | None:
        direct = self.by_path.get(f"{near}/{name}" if near else name)
        if direct is not None and is_image_name(direct.path):
            return direct
        last = name.rpartition("/")[2]
        same = self._by_name.get(last.lower()) or ([] if is_image_name(last) else self._by_stem.get(last, []))
        if len(same) > 1:
            last_first = name.split("/")[::-1]
            shared = [_shared_start(file.path.split("/")[::-1], last_first) for file in same]
            same = [file for file, count in zip(same, shared, strict=True) if count == max(shared)]
        return best_match(same, near, kind)

    def kind_of(self, path: str) -> Kind | None:
        """The split named by the folders of a file, the innermost first."""
        folder = path.rpartition("/")[0]
        while folder:
            if kind := self._kinds.get(folder):
                return kind
            folder = folder.rpartition("/")[0]
        return None

    def with_stem(self, name: str) -> list[SourceFile]:
        """Images with this stem, with any suffix and in any folder."""
        return self._by_stem.get(name, [])

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return kinds_of_folders(self.source.folders)

    @cached_property
    def _by_name(self) -> dict[str, list[SourceFile]]:
        return _grouped(self.images, lambda path: path.rpartition("/")[2].lower())

    @cached_property
    def _by_stem(self) -> dict[str, list[SourceFile]]:
        return _grouped(self.images, stem)

    def read_text(self, file: SourceFile, most_bytes: int | None = None) -> str:
        """The text of an annotation file, with its encoding detected (`texts.py`) or, for XML, declared.

        Raises DatasetError if it is too large, damaged, not text, or not in the encoding that it declares.
        """
        content = self.read_bytes(file, most_bytes)
        text, encoding = decode_file(content, file.path, self.reading.text_encoding, self._text_encodings)
        if not text.isascii():
            self._note_encoding(encoding)
        return text

    def text_pieces(self, file: SourceFile) -> Iterator[str]:
        """Yield the text of an annotation file in pieces, so that a large file is never held in memory as a whole.

        Raises DatasetError as `read_text` does.
        """
        encoding = self._streamed_encoding(file)
        if encoding is None:
            yield self.read_text(file)
            return
        self.read_paths.add(file.path)
        decoder = codecs.getincrementaldecoder(encoding)()
        for piece in pieces_of(file):
            self.beat()
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)

    def _streamed_encoding(self, file: SourceFile) -> str | None:
        """The encoding of a large file in UTF-8 or UTF-16; None if the file is to be read as a whole."""
        check_size(file)
        if file.size_bytes <= MOST_BYTES_AT_ONCE:
            return None
        with file.open() as reader:
            start = reader.read(4)
        encoding = "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for piece in pieces_of(file):
                self.beat()
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
        return encoding

    def _note_encoding(self, encoding: str) -> None:
        self._text_encodings[encoding] += 1
        chosen = self.reading.text_encoding
        others = [(name, count) for name, count in self._text_encodings.most_common() if name != "utf-8"]
        used = chosen if chosen != "auto" else others[0][0] if others else "utf-8"
        reason = None
        if others and chosen == "auto":
            count = sum(count for _name, count in others)
            reason = messages.TEXTS_DECODED(count=count, encodings=[name for name, _count in others])
        self.offer(Offer("text_encoding", used, tuple(dict.fromkeys([used, "utf-8", "utf-16", *TEXT_LEGACY])), reason))

    def read_bytes(self, file: SourceFile, most_bytes: int | None = None) -> bytes:
        """The content of an annotation file. Raises DatasetError if it is too large or damaged."""
        self.beat()
        self.read_paths.add(file.path)
        return read_bytes(file, most_bytes)

    def offer(self, offer: Offer) -> None:
        """Record an open choice of the source; it replaces an earlier one for the same field."""
        self.offers[offer.field] = offer

    def open_offers(self) -> tuple[Offer, ...]:
        """The choices that have alternatives to the value used."""
        return tuple(offer for offer in self.offers.values() if set(offer.choices) - {offer.used})

    def peek(self, file: SourceFile) -> bytes:
        """The first and the last part of a file in UTF-8, to recognize its format; empty if it cannot be read."""
        if (known := self._peeked.get(file.path)) is not None:
            return known
        try:
            with file.open() as reader:
                start = reader.read(PEEK_BYTES)
                if file.size_bytes > 2 * PEEK_BYTES and reader.seekable():
                    # An even position, so that UTF-16 characters are not split.
                    reader.seek((file.size_bytes - PEEK_BYTES) & ~1)
                content = sample_as_utf8(start + reader.read(PEEK_BYTES), self.reading.text_encoding)
        except (ValueError, RuntimeError, EOFError, NotImplementedError):
            content = b""
        if self._peeked_bytes + len(content) <= MOST_PEEKED_BYTES:  # every format inspects the same files
            self._peeked[file.path] = content
            self._peeked_bytes += len(content)
        return content


def _readings(name: str) -> Iterator[str]:
    """The name as written, then interpreted as a URL: without query and with its escapes decoded."""
    yield name
    if "%" in name or "?" in name:
        path, _, query = name.partition("?")
        yield path
        yield unquote(path)
        if query.startswith("d="):  # Label Studio's local files: /data/local-files/?d=folder/a.jpg
            yield unquote(query[2:].partition("&")[0])


def _shared_start(first: list[str], second: list[str]) -> int:
    """The number of equal parts at the start of both paths."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _pair in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _grouped(files: Iterable[SourceFile], key: Callable[[str], str]) -> dict[str, list[SourceFile]]:
    groups: dict[str, list[SourceFile]] = defaultdict(list)
    for file in files:
        groups[key(file.path)].append(file)
    return dict(groups)


def check_size(file: SourceFile, most_bytes: int | None = None) -> None:
    """Raise DatasetError if an annotation file is too large or a zip bomb."""
    most_bytes = most_bytes or MOST_ANNOTATION_BYTES
    if file.size_bytes > most_bytes:
        message = messages.FILE_TOO_LARGE(path=file.path, most=most_bytes >> 20)
        raise DatasetError.one("annotations_too_large", message, file.path)
    if file.packed_bytes is not None and file.size_bytes > max(RATIO_FREE_BYTES, MOST_TEXT_RATIO * file.packed_bytes):
        message = messages.TEXT_BOMB(path=file.path, megabytes=file.size_bytes >> 20)
        raise DatasetError.one("bomb", message, file.path)


def read_bytes(file: SourceFile, most_bytes: int | None = None) -> bytes:
    """The content of an annotation file. Raises DatasetError if it is too large or damaged."""
    check_size(file, most_bytes)
    buffer = io.BytesIO()
    copy_limited(file, buffer, lambda piece: None)
    return buffer.getvalue()


def is_image_name(path: str) -> bool:
    """Whether the suffix is that of an image."""
    return suffix_of(path) in IMAGE_SUFFIXES


def suffix_of(path: str) -> str:
    """The suffix of the file name in lower case, with the dot; empty if there is none."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  not a path of this machine


def stem(path: str) -> str:
    """The file name without folder and suffix."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def tidy_path(path: str) -> str:
    """A path from an annotation file, with forward slashes and without `.` and `..`."""
    parts = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def best_match(files: list[SourceFile], near: str, kind: Kind | None = None) -> SourceFile | None:
    """The file in the right split of the source, or else the nearest one; None if several are equally near."""
    if len(files) < 2:
        return files[0] if files else None
    ranked = sorted(files, key=lambda file: _closeness(file.path, near, kind), reverse=True)
    first, second = (_closeness(file.path, near, kind) for file in ranked[:2])
    return ranked[0] if first > second else None


def _closeness(path: str, near: str, kind: Kind | None) -> tuple[bool, int]:
    """Whether the folders name the split, and the number of leading folders that both paths share."""
    shared = _shared_start(path.split("/"), near.split("/"))
    return kind is not None and kind_of_path(path) == kind, shared


@lru_cache(maxsize=4096)
def kind_of_name(name: str) -> Kind | None:
    """The split in a file name or a column, such as val or instances_train2017; None for any other name."""
    for word in re.findall(r"[^\W\d_]+", name.lower()):
        if kind := SPLIT_WORDS.get(word):
            return kind
    return None


def kind_of_cell(column: str, text: str) -> Kind | None:
    """The split in a table cell: its name, or a truth value if the column is named after a split."""
    kind = _SPLIT_FLAGS.get(re.sub(r"[\W_]", "", column.lower()))
    if kind is None:
        return "val" if text.strip().lower() == "dev" else kind_of_name(text)
    if text.strip().lower() in ("1", "1.0", "true", "yes"):
        return kind
    return ("test" if kind == "train" else "train") if text.strip().lower() in ("0", "0.0", "false", "no") else None


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts "class 2" before "class 10" and ignores case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part[0] in "0123456789" and len(part) < 100 else (1, 0, part) for part in parts], name


def class_name(value: object) -> str:
    """A class name as one readable line without spaces at its ends, at most NAME_LENGTH characters.

    Joiners are kept, since emoji and several scripts need them; control and other format characters become spaces.
    """
    text = "".join(one if one.isprintable() or one in _JOINERS else " " for one in str(value))
    return " ".join(unicodedata.normalize("NFC", text).split())[:NAME_LENGTH]
