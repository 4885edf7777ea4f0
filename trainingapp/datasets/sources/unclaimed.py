"""Search for annotations in a source that no format recognizes.

Without this search, the fallback (one class per folder) would read such a source as a classification dataset with
folder names as classes.
"""

import re
from dataclasses import dataclass

from trainingapp.datasets.sources.files import Files, stem
from trainingapp.datasets.sources.image_kinds import IMAGE_SUFFIXES
from trainingapp.datasets.sources.source import SourceFile

_TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml")
_DOCUMENTS = ("readme", "license", "licence", "changelog", "notice", "citation", "requirements", "sample_submission")
_MOST_READ = 20
_MOST_TEXT = 1 << 20
_MOST_LIST = 1 << 14
_SAMPLED_NAMES = 100
_SHORTEST_NAME = 5
_MASK_MARK = re.compile(
    r"^masks?[-_ ]|[-_ ](masks?|labels?|label_?ids|gt|ground_?truth|seg|segmentation|trimap)\d*$", re.I
)
_IMAGE_NAME = re.compile(
    rf"""[^\s"'<>,;|=\\/]+(?:{"|".join(map(re.escape, sorted(IMAGE_SUFFIXES)))})(?![\w.])""", re.IGNORECASE
)
_CELL = re.compile(r"[,;\t|\n]")


@dataclass(frozen=True)
class Unclaimed:
    """The files found: annotation files that name images or have the stem of one, and masks next to the images."""

    files: list[str]
    masks: list[str]


def unclaimed_annotations(files: Files) -> Unclaimed:
    """The annotation files and masks that belong to images of the source."""
    texts = [
        file
        for file in files.ending(*_TEXT_SUFFIXES)
        if not file.path.rpartition("/")[2].lower().startswith(_DOCUMENTS)
    ]
    texts = [file for file in texts if not _is_list_of_images(files, file)]
    paired = [file.path for file in texts if files.with_stem(stem(file.path))]
    # uav1.txt next to the folder uav1 describes its images.
    folders = {file.path.rpartition("/")[0].rpartition("/")[2] for file in files.images} - {""}
    of_folders = [file.path for file in texts if stem(file.path) in folders]
    if len(of_folders) * 2 >= len(folders):
        paired += of_folders
    others = [file for file in texts if not files.with_stem(stem(file.path))][:_MOST_READ]
    naming = [file.path for file in others if _names_images(files, file)]
    return Unclaimed(list(dict.fromkeys([*paired, *naming])), _masks(files))


def _is_list_of_images(files: Files, file: SourceFile) -> bool:
    """Whether every line is only an image path, as in the image list of a split."""
    if not file.path.lower().endswith(".txt") or files.with_stem(stem(file.path)):
        return False
    lines = [line.strip() for line in _text(files.peek(file)[:_MOST_LIST]).splitlines()[:20] if line.strip()]
    return bool(lines) and all(files.find_image(line) for line in lines)


def _names_images(files: Files, file: SourceFile) -> bool:
    """Whether the text names at least two images of the source, or its only image."""
    text = _text(files.peek(file)[:_MOST_TEXT])
    needed = min(2, len(files.images))
    names = {match[0] for match in _IMAGE_NAME.finditer(text)}
    if sum(files.find_image(name) is not None for name in names) >= needed:
        return True
    sample = files.images[:: max(1, len(files.images) // _SAMPLED_NAMES)]
    known = {image.path.rpartition("/")[2] for image in sample}
    if sum(len(name) >= _SHORTEST_NAME and name in text for name in known) >= needed:
        return True
    return file.path.lower().endswith((".csv", ".tsv", ".txt")) and _has_column_of_stems(files, text)


def _text(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8", errors="replace")


def _has_column_of_stems(files: Files, text: str) -> bool:
    """Whether the first or the second column of most lines names an image without its suffix."""
    rows = [_CELL.split(line) for line in text.splitlines()[1:200] if line.strip()]
    for column in (0, 1):
        cells = {row[column].strip().strip('"') for row in rows if len(row) > column}
        # Numbers are stems in many datasets and class numbers in many tables.
        found = [cell for cell in cells if files.with_stem(cell) and not cell.isdigit()]
        if len(found) >= 2 and 2 * len(found) >= len(cells):
            return True
    return False


def _masks(files: Files) -> list[str]:
    """Images named as the mask of another image, or next to another image with the same stem.

    Empty if there are few of them, since the names then match by chance.
    """
    stems = {stem(file.path) for file in files.images}
    marked = [
        file.path
        for file in files.images
        if (plain := _MASK_MARK.sub("", stem(file.path))) != stem(file.path) and plain in stems
    ]
    photos = {file.path.rpartition(".")[0] for file in files.images if file.path.lower().endswith((".jpg", ".jpeg"))}
    beside = [
        file.path
        for file in files.images
        if file.path.lower().endswith(".png") and file.path.rpartition(".")[0] in photos
    ]
    needed = max(2, len(files.images) // 10)
    return marked if len(marked) >= needed else beside if len(beside) >= max(2, len(files.images) // 3) else []
