"""Reads files from a server folder, which may be changed concurrently."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import IO

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources import limits
from trainingapp.datasets.sources.encodings import best_encoding
from trainingapp.datasets.sources.source import SourceFile, is_junk, is_undecodable

LinkRule = Callable[[Path], bool]
"""Whether a link to this place outside of the folder is followed; the path is resolved."""


def within_the_folder(target: Path) -> bool:
    """Link rule that does not follow links out of the folder."""
    return False


def read_folder(root: Path, may_follow: LinkRule, report: Report) -> tuple[list[SourceFile], set[str]]:
    """(files, folders) of the folder. Devices and links that may not be followed go into the report.

    Raises DatasetError if links lead to too many files.
    """
    reader = _Reader(root.resolve(), may_follow, report)
    reader.walk(reader.root, "", within_link=False)
    return reader.found()


class _Reader:
    """Walks the folder. Names that are not UTF-8 are decoded together, like those in an archive."""

    def __init__(self, root: Path, may_follow: LinkRule, report: Report) -> None:
        self.root = root
        self.may_follow = may_follow
        self.report = report
        self.folders: set[str] = set()
        self._found: list[tuple[Path, str, int]] = []
        """(real path, path in the folder, bytes)"""
        self._linked = 0

    def found(self) -> tuple[list[SourceFile], set[str]]:
        """(files, folders) with their names as text.

        Linux allows names that are not UTF-8, and unpacking archives of other systems creates them. If at least half of
        the non-ASCII names are not UTF-8, all of them are decoded with one encoding, as in an archive; else only those
        that are not UTF-8.
        """
        parts = {part for _real_path, path, _size in self._found for part in path.split("/") if not part.isascii()}
        odd = {part for part in parts if is_undecodable(part)}
        names = parts if 2 * len(odd) >= len(parts) else odd
        encoding = best_encoding(sorted(map(os.fsencode, names))) if odd else "utf-8"
        texts = {part: os.fsencode(part).decode(encoding, errors="replace") for part in names}
        files = [_source_file(real_path, _as_text(path, texts), size) for real_path, path, size in self._found]
        return files, {_as_text(folder, texts) for folder in self.folders}

    def walk(self, folder: Path, inside: str, *, within_link: bool) -> None:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{inside}/{entry.name}" if inside else entry.name
                if is_junk(path):
                    continue
                if entry.is_symlink():
                    self._link(Path(entry.path), path, within_link=within_link)
                elif entry.is_dir(follow_symlinks=False):
                    self.folders.add(path)
                    self.walk(folder / entry.name, path, within_link=within_link)
                elif entry.is_file(follow_symlinks=False):
                    self._add(folder / entry.name, path, entry.stat(follow_symlinks=False).st_size, within_link)
                else:
                    self.report.fault("link", messages.DEVICE_OR_PIPE(path=_shown(path)), _shown(path))

    def _link(self, link: Path, path: str, *, within_link: bool) -> None:
        """Add the target of a link if it is a file within the folder, or if the link rule permits it."""
        try:
            target = link.resolve()
            is_inside = target.is_relative_to(self.root)
            if target.is_file() and (is_inside or self.may_follow(target)):
                self._add(target, path, target.stat().st_size, is_linked=True)
                return
            # A linked folder within another linked folder could form a cycle or lead to an unlimited number of files.
            is_apart = not is_inside and not self.root.is_relative_to(target)
            if target.is_dir() and is_apart and not within_link and self.may_follow(target):
                self.folders.add(path)
                self.walk(target, path, within_link=True)
                return
        except (OSError, RuntimeError):  # a link to itself or to an unreadable path
            pass
        self.report.fault("link", messages.LINK_OUTSIDE(path=_shown(path)), _shown(path))

    def _add(self, real_path: Path, path: str, size_bytes: int, is_linked: bool) -> None:
        self._linked += is_linked
        if self._linked > limits.MOST_ENTRIES:
            raise DatasetError.one("link", messages.TOO_MANY_LINKED(most=limits.MOST_ENTRIES))
        self._found.append((real_path, path, size_bytes))


def _as_text(path: str, texts: dict[str, str]) -> str:
    """The path in Unicode's composed form; `texts` maps the names that had to be decoded."""
    return unicodedata.normalize("NFC", "/".join(texts.get(part, part) for part in path.split("/")))


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", errors="replace")


def _source_file(real_path: Path, path: str, size_bytes: int) -> SourceFile:
    def open_file() -> IO[bytes]:
        # O_NOFOLLOW and O_NONBLOCK: the file may have been replaced by a link or a pipe since the folder was listed.
        return os.fdopen(os.open(real_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    return SourceFile(path, size_bytes, open_file)
