"""Reading files out of a folder of the server, which others may change meanwhile."""

import os
import unicodedata
from pathlib import Path
from typing import IO

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.source import Source, SourceFile, checked_source, is_junk


def read_folder(root: Path) -> Source:
    """The files of the folder. Raises DatasetError when it holds devices, links that lead out of it, or nothing."""
    report = Report()
    files: list[SourceFile] = []
    folders: set[str] = set()
    _walk(root.resolve(), "", files, folders, report)
    return checked_source(files, folders, report)


def _walk(root: Path, inside: str, files: list[SourceFile], folders: set[str], report: Report) -> None:
    with os.scandir(root / inside) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if is_junk(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(unicodedata.normalize("NFC", path))
                _walk(root, path, files, folders, report)
            elif entry.is_symlink():
                target = (root / path).resolve()
                # A link to a regular file within the folder is as good as the file; any other could lead anywhere.
                if target.is_relative_to(root) and target.is_file():
                    files.append(_source_file(target, path, target.stat().st_size))
                else:
                    report.error("link", messages.LINK_OUTSIDE(path=path), path)
            elif entry.is_file(follow_symlinks=False):
                files.append(_source_file(root / path, path, entry.stat(follow_symlinks=False).st_size))
            else:
                report.error("link", messages.DEVICE_OR_PIPE(path=path), path)


def _source_file(real_path: Path, path: str, size_bytes: int) -> SourceFile:
    def open_file() -> IO[bytes]:
        # O_NOFOLLOW: a link may have been put there since the folder was listed. O_NONBLOCK: or a pipe.
        return os.fdopen(os.open(real_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    return SourceFile(unicodedata.normalize("NFC", path), size_bytes, open_file)
