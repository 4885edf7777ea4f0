"""Opens a source: a server folder, a zip or a tar, and the archives within it."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from trainingapp.contract.messages import VERBATIM, from_data
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.options import AUTO, ReadingOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.archive_names import EncodedNames
from trainingapp.datasets.sources.files import is_image_name
from trainingapp.datasets.sources.folders import LinkRule, read_folder, within_the_folder
from trainingapp.datasets.sources.limits import UnpackingLimits, check_disk_space
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import Source, SourceFile, checked_source, copy_limited
from trainingapp.datasets.sources.tars import compression, first_block, is_tar, read_tar, unpack
from trainingapp.datasets.sources.zips import open_zip, read_zip

UNPACKED_DIR = ".unpacked"
"""The folder within that of an import to which archives are unpacked."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
_OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR", b"\x28\xb5\x2f\xfd": "zstd"}
_PART_OF_A_SET = re.compile(
    r"(?i)(^|[^a-z])(images?|imgs?|pictures?|photos?|jpegimages|train|training|val|valid|validation|test|testing"
    r"|labels?|annotations?|masks?|segmentations?|gt|ground_?truth)\d*([^a-z]|$)"
)
"""Names of archives that belong to the images beside them; another one, such as backup.zip, may repeat these."""
_Found = tuple[list[SourceFile], set[str]]


@contextmanager
def open_source(
    path: Path, reading: ReadingOptions = AUTO, scratch: Path | None = None, may_follow: LinkRule = within_the_folder
) -> Iterator[Source]:
    """Open the files of a zip, a tar or a folder, and of the archives in it, one level deep.

    `scratch` is a folder for unpacking compressed tars and inner archives; it is created, and removed at the end.
    Without it, inner archives are not opened. `may_follow` decides which links in a folder are followed. Raises
    DatasetError if the source is none of these, unsafe or empty.
    """
    opening = _Opening(reading, scratch)
    with opening.stack:
        if path.is_dir():
            found = read_folder(path, may_follow, opening.report)
        else:
            found = opening.read_archive(_opened(path, opening.stack), path.name)
        files, folders = opening.with_inner_archives(found)
        source = checked_source(files, folders, opening.report)
        yield replace(source, offers=(opening.names_offer,) if opening.names_offer else ())


def check_archive(path: Path) -> bool:
    """Whether the content of the archive can be listed without unpacking it; False for a compressed tar.

    Raises DatasetError if it is not a readable archive.
    """
    with ExitStack() as stack:
        file = _opened(path, stack)
        start = file.read(512)
        packed = compression(start)
        if packed and not is_tar(first_block(file, packed)):
            raise DatasetError.one("not_a_zip", messages.NO_TAR_INSIDE(compression=packed))
        return not packed


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        raise DatasetError.one("source_missing", messages.SOURCE_MISSING(source=path.name)) from None


def is_archive_name(path: str) -> bool:
    """Whether the suffix is that of a supported archive."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


class _Opening:
    """The state of an open source: files to close at the end, limits and the report."""

    def __init__(self, reading: ReadingOptions, scratch: Path | None) -> None:
        self.reading = reading
        self.scratch = scratch
        self.report = Report()
        self.stack = ExitStack()
        self.limits = UnpackingLimits()
        self.names_offer: Offer | None = None
        self._unpacked = 0

    def read_archive(self, file: IO[bytes], name: str) -> _Found:
        """The files of one archive. Raises DatasetError if it cannot be read."""
        start = file.read(512)
        for mark, kind in _OTHER_ARCHIVES.items():
            if start.startswith(mark):
                raise DatasetError.one("not_a_zip", messages.OTHER_ARCHIVE(kind=kind), name)
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if text.startswith((b"<!doctype html", b"<html")):
            raise DatasetError.one("not_a_zip", messages.SOURCE_IS_A_WEB_PAGE(), name)
        if text.startswith(b"version https://git-lfs"):
            raise DatasetError.one("not_a_zip", messages.SOURCE_IS_A_POINTER(), name)
        names = EncodedNames(self.reading.name_encoding)
        if packed := compression(start):
            if not is_tar(first_block(file, packed)):
                raise DatasetError.one("not_a_zip", messages.NO_TAR_INSIDE(compression=packed), name)
            packed_bytes = file.seek(0, os.SEEK_END)
            file = self.stack.enter_context(unpack(file, packed, self._scratch_path(), self.limits))
            found = read_tar(file, packed_bytes, self.limits, names, self.report)
        elif not start.startswith(_ZIP_STARTS) and is_tar(start):
            found = read_tar(file, file.seek(0, os.SEEK_END), self.limits, names, self.report)
        else:
            archive = self.stack.enter_context(open_zip(file))
            found = read_zip(archive, file.seek(0, os.SEEK_END), self.limits, names, self.report)
        self.names_offer = self.names_offer or names.offer
        return found

    def with_inner_archives(self, found: _Found) -> _Found:
        """The files, with archives replaced by the files in them."""
        files, folders = found
        chosen = [file for file in files if self.scratch and is_archive_name(file.path)]
        if any(is_image_name(file.path) for file in files):
            # If there are images, only archives whose names indicate content of the dataset are unpacked.
            chosen = [file for file in chosen if _PART_OF_A_SET.search(_stem(file.path))]
        if not chosen:
            return found
        kept = [file for file in files if file not in chosen]
        all_folders = set(folders)
        for archive in chosen:
            try:
                inner_files, inner_folders = self.read_archive(self._copied(archive), archive.path)
            except DatasetError as error:
                if any(item["code"] in ("bomb", "disk_full") for item in error.items):
                    raise
                for item in error.items:
                    inner = from_data(item.get("text")) or VERBATIM(text=item["message"])
                    self.report.fault(item["code"], messages.IN_ARCHIVE(path=archive.path, message=inner), archive.path)
                continue
            prefix = _prefix(archive, inner_files, is_alone=len(chosen) == 1 and not kept)
            for file in inner_files:
                # A stored inner archive can be compressed by the outer one: the smaller size is the actual packed size.
                sizes = [size for size in (file.packed_bytes, archive.packed_bytes) if size is not None]
                kept.append(replace(file, path=prefix + file.path, packed_bytes=min(sizes, default=None)))
            all_folders |= {prefix + folder for folder in inner_folders}
        return kept, all_folders

    def _copied(self, archive: SourceFile) -> IO[bytes]:
        path = self._scratch_path()
        check_disk_space(path.parent, archive.size_bytes)
        with path.open("xb") as target:
            copy_limited(archive, target, lambda piece: None)
        return self.stack.enter_context(path.open("rb"))

    def _scratch_path(self) -> Path:
        """A new path for a temporary file; its folder is removed when the source is closed."""
        assert self.scratch, "an archive is unpacked only where there is a folder for it"
        if not self.scratch.exists():
            self.scratch.mkdir()
            self.stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        self._unpacked += 1
        return self.scratch / str(self._unpacked)


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    suffix = max((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), key=len)
    return name[: -len(suffix)]


def _prefix(archive: SourceFile, files: Sequence[SourceFile], *, is_alone: bool) -> str:
    """The folder for an archive's files: its name, unless it is the only archive or contains a folder of that name."""
    if is_alone:
        return ""
    folder = archive.path.rpartition("/")[0]
    outer = f"{folder}/" if folder else ""
    name = _stem(archive.path)
    return outer if all(file.path.startswith(f"{name}/") for file in files) else f"{outer}{name}/"
