"""Image lists that define splits: train.txt and valid.txt, or ImageSets/Main/*.txt of Pascal VOC.

A line is the path of an image on any machine, or its name with or without suffix. Names may contain spaces.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_LISTS
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.files import Files, best_match, stem
from trainingapp.datasets.sources.folder_names import folder_name, kind_of_folder
from trainingapp.datasets.sources.layout import Kind, Layout
from trainingapp.datasets.sources.source import Source, SourceFile

MOST_NAMED = 3
KINDS: tuple[Kind, ...] = ("train", "val", "test")
_TRAINVAL = ("trainval", "trainvalid")


@dataclass
class ListedSplits:
    """The split of each listed image by path, and the lists."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


def with_listed_splits(layout: Layout, files: Files, report: Report) -> Layout:
    """The layout with splits from the image lists for images without a split; unlisted ones of them are left out.

    Some images may have splits by folder while those of another set have their splits in lists.
    """
    without = [image.file for image in layout.images if not image.kind]
    if not without or layout.split_origin or files.reading.splits not in ("auto", "lists"):
        return layout
    preferred = "segmentation" if "masks" in layout.annotations[:1] else "main"
    listed = listed_splits(files, without, report, preferred)
    kinds = {image.file.path: image.kind or listed.kinds.get(image.file.path) for image in layout.images}
    if not any(listed.kinds.get(file.path) for file in without):
        return layout
    warn_of_unlisted([path for path, kind in kinds.items() if not kind], report)
    return replace(
        layout,
        images=[replace(image, kind=kinds[image.file.path]) for image in layout.images if kinds[image.file.path]],
        files=[*layout.files, *listed.paths],
        split_origin=None if layout.has_splits else SPLIT_FROM_LISTS(paths=listed.paths),
    )


def warn_of_unlisted(paths: list[str], report: Report) -> None:
    """Warn about images that are in no list."""
    if paths:
        message = messages.NOT_LISTED(count=len(paths), paths=paths[:MOST_NAMED])
        report.warn("not_annotated", message, paths[0], count=len(paths))


def listed_splits(files: Files, images: Iterable[SourceFile], report: Report, preferred: str = "main") -> ListedSplits:
    """The splits from the lists in the folder called `preferred`, else in the folder with the most lists.

    Lists that name none of `images` are ignored. trainval is used as train if there is no such list.
    """
    alone = Files(Source([*images, *files.ending(".txt")], files.source.folders), files.beat, files.reading)
    groups: dict[str, dict[str, SourceFile]] = defaultdict(dict)
    for file in alone.ending(".txt"):
        if alone.with_stem(stem(file.path)):
            continue  # the label file of an image
        name = stem(file.path).lower()
        about = folder_name(name)
        is_trainval = name in _TRAINVAL or (about.is_plain and about.kinds == {"train", "val"})
        if kind := "trainval" if is_trainval else about.kind:
            folder = file.path.rpartition("/")[0]
            groups[folder].setdefault(kind, file)
    ranked = sorted(
        groups,
        key=lambda folder: (
            folder.rpartition("/")[2].lower() != preferred,
            -len(groups[folder]),
            folder.count("/"),
        ),
    )
    read = (_read(alone, groups[folder], report) for folder in ranked)
    found = next(filter(None, read), None) or _numbered(alone) or ListedSplits()
    files.read_paths.update(alone.read_paths)
    return found


def _read(files: Files, lists: dict[str, SourceFile], report: Report) -> ListedSplits | None:
    if not {"train", "trainval", "val", "test"} & lists.keys():
        return None
    entries: dict[Kind, list[str]] = {}
    used: list[str] = []
    ordered: list[tuple[str, Kind]] = [("train", "train"), ("val", "val"), ("test", "test")]
    if "train" not in lists:
        ordered[0] = ("trainval", "train")
    for name, kind in ordered:
        if name in lists and (paths := images_of_list(files, lists[name], kind, report)):
            entries[kind] = paths
            used.append(lists[name].path)
    if not entries:
        return None
    if "train" not in entries:
        # Only held-out images are listed: the other images are for training.
        held_out = {path for paths in entries.values() for path in paths}
        entries["train"] = [image.path for image in files.images if image.path not in held_out]
    return ListedSplits(kinds_of_entries(entries, report, trainval="train" not in lists), used)


def _numbered(files: Files) -> ListedSplits | None:
    """The splits of train_test_split.txt, whose lines have an image number from images.txt and 1 for training."""
    for file in files.ending("train_test_split.txt"):
        folder = file.path[: -len("train_test_split.txt")]
        listed = files.by_path.get(f"{folder}images.txt")
        if listed is None:
            continue
        paths = dict(line.split(None, 1) for line in files.read_text(listed).splitlines() if len(line.split()) > 1)
        kinds: dict[str, Kind] = {}
        for line in files.read_text(file).splitlines():
            number, _, is_training = line.strip().partition(" ")
            image = files.find_image(paths.get(number, "").strip(), folder.rstrip("/"))
            if image and is_training.strip() in ("0", "1"):
                kinds[image.path] = "train" if is_training.strip() == "1" else "test"
        if kinds:
            return ListedSplits(kinds, [file.path, listed.path])
    return None


def kinds_of_entries(entries: dict[Kind, list[str]], report: Report, *, trainval: bool = False) -> dict[str, Kind]:
    """The split of each path. Paths in several lists are held out of training, with a warning except for trainval."""
    kinds: dict[str, Kind] = {}
    several: list[str] = []
    for kind in KINDS:
        for path in entries.get(kind, ()):
            before = kinds.get(path)
            if before and before != kind and not trainval:
                several.append(path)
            if before in (None, "train"):
                kinds[path] = kind
    if several:
        message = messages.IN_SEVERAL_SPLITS(count=len(several), paths=several[:MOST_NAMED])
        report.warn("leak", message, several[0], count=len(several))
    return kinds


def images_of_list(files: Files, file: SourceFile, kind: Kind, report: Report) -> list[str]:
    """Paths of the listed images; warns if some are not in the source."""
    try:
        lines = [line.strip() for line in files.read_text(file).splitlines() if line.strip()]
    except DatasetError as error:
        report.faults(error.items)
        return []
    folder = file.path.rpartition("/")[0]
    found = [_image(files, line, folder, kind) for line in lines]
    missing = [line for line, image in zip(lines, found, strict=True) if image is None]
    if missing and len(missing) < len(lines):
        message = messages.LIST_ENTRIES_MISSING(
            count=len(missing), total=len(lines), path=file.path, entries=[line[:100] for line in missing[:MOST_NAMED]]
        )
        report.warn("missing_image", message, file.path, count=len(missing))
    return [image.path for image in found if image]


def _image(files: Files, line: str, folder: str, kind: Kind) -> SourceFile | None:
    """The image of a line: the whole line, or the part before numbers, as in "Beagle_1 2 2 4"."""
    while line:
        if image := files.find_image(line, folder, kind):
            return image
        line, _, number = line.rpartition(" ")
        line = line.rstrip()
        if not number.lstrip("-").isdigit():
            return None
    return None


def list_file(files: Files, entry: str) -> SourceFile | None:
    """The text file of the source that `entry`, a path on any machine, refers to."""
    parts = entry.split("/")
    for start in range(len(parts)):
        ending = "/".join(parts[start:])
        same = [file for file in files.ending(".txt") if f"/{file.path}".endswith(f"/{ending}")]
        if same:
            return best_match(same, "")
    return None


def images_below(files: Files, entry: str, near: str = "") -> Iterable[str]:
    """Paths of the images in the folder that `entry`, a path on any machine, refers to, by its longest known tail.

    Images below the folder `near` are preferred, since others belong to another set. A tail that is only a word for
    images, such as that of val/images, is not sufficient if the part before it names a split.
    """
    parts = [part for part in entry.split("/") if "*" not in part]
    for start in range(len(parts)):
        ending = "/".join(parts[start:])
        found = [file.path for file in files.images if f"/{ending}/" in f"/{file.path}"]
        if found:
            return [path for path in found if near and path.startswith(f"{near}/")] or found
        rest = [folder_name(part) for part in parts[start + 1 :]]
        if kind_of_folder(parts[start]) and all(about.is_structure and not about.kinds for about in rest):
            return []
    return [] if parts and parts != [""] else [file.path for file in files.images]
