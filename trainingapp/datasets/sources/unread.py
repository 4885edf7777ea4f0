"""The files of a source that were neither read nor imported, and the reasons."""

import os
from collections import Counter
from collections.abc import Iterable

from trainingapp.contract.messages import Message, Param
from trainingapp.contract.messages import dataset_reading as messages
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, is_image_name
from trainingapp.datasets.sources.formats.format import Format
from trainingapp.datasets.sources.image_kinds import HEIF_SUFFIXES, UNREAD_SUFFIXES
from trainingapp.datasets.sources.layout import UnreadFiles
from trainingapp.datasets.sources.source import Source, SourceFile

MOST_NAMED = 3
_ANNOTATIONS = {".json", ".jsonl", ".ndjson", ".xml", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".names", ".data"}
_MEDIA = {
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"),
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".tfrecord", ".parquet", ".pkl", ".pt", ".pth"),
}
_DOCUMENTS = {".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".rtf"}
_DOCUMENT_NAMES = ("readme", "license", "licence", "changelog", "copying", "notice", "citation")


def report_unread(groups: Iterable[UnreadFiles], report: Report) -> None:
    """Warn about every group except documents, since a README does not describe images."""
    for group in groups:
        if group.reason.code == messages.UNREAD_DOCUMENT.code:
            continue
        named: Param = list(group.first)
        if group.count > len(group.first):
            named = messages.AND_MORE(first=named, rest=group.count - len(group.first))
        message = messages.UNREAD_FILES_WITHOUT_SUFFIX(count=group.count, reason=group.reason, files=named)
        if group.suffix:
            message = messages.UNREAD_FILES(count=group.count, suffix=group.suffix, reason=group.reason, files=named)
        report.warn("ignored_file", message, group.first[0], count=group.count)


def unread_files(files: Files, others: Iterable[Format]) -> tuple[UnreadFiles, ...]:
    """The files without an image suffix that no format opened, by suffix and reason, with the first names.

    `others` are formats that also recognize the source; the reason names them for files that match.
    """
    groups: dict[tuple[str, str], list[SourceFile]] = {}
    for file in sorted(files.source.files, key=lambda file: file.path):
        if not is_image_name(file.path) and file.path not in files.read_paths:
            name = file.path.rpartition("/")[2].lower()
            suffix = os.path.splitext(name)[1]  # noqa: PTH122  not a path of this machine
            category = "document" if name.startswith(_DOCUMENT_NAMES) else ""
            groups.setdefault((suffix, category), []).append(file)
    return tuple(
        UnreadFiles(
            suffix,
            messages.UNREAD_DOCUMENT() if category else _reason(files, suffix, found, others),
            len(found),
            tuple(file.path for file in found[:MOST_NAMED]),
        )
        for (suffix, category), found in groups.items()
    )


def refuse_unread_images(files: Files) -> None:
    """Raise DatasetError if the source has images, but only in unsupported formats."""
    suffixes = Counter(os.path.splitext(file.path)[1].lower() for file in files.source.files)  # noqa: PTH122
    kinds = [suffix for suffix, _count in suffixes.most_common() if suffix in UNREAD_SUFFIXES]
    if kinds:
        count = sum(suffixes[suffix] for suffix in kinds)
        message = messages.ONLY_UNREAD_IMAGES(count=count, suffixes=kinds, reason=_image_reason(kinds[0]))
        raise DatasetError.one("no_images", message)


def _image_reason(suffix: str) -> Message:
    return messages.UNREAD_HEIF() if suffix in HEIF_SUFFIXES else messages.UNREAD_IMAGE_FORMAT()


def _reason(files: Files, suffix: str, found: list[SourceFile], others: Iterable[Format]) -> Message:
    if suffix in _ANNOTATIONS:
        alone = Files(Source([*files.images, *found], files.source.folders), files.beat, files.reading)
        for format_ in others:
            if format_.recognise(alone):
                return messages.UNREAD_OTHER_FORMAT(format=messages.format_title(format_.NAME))
        return messages.UNREAD_ANNOTATIONS()
    if suffix in UNREAD_SUFFIXES:
        return _image_reason(suffix)
    for suffixes, template in (
        (_MEDIA, messages.UNREAD_MEDIA),
        (_DOCUMENTS, messages.UNREAD_DOCUMENT),
    ):
        if suffix in suffixes:
            return template()
    return messages.UNREAD_UNKNOWN()
