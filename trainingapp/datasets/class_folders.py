"""Datasets laid out as one folder for each class, with or without splits.

cat/*.jpg  dog/*.jpg                     no splits: a fifth of each class is set aside for validation
train/cat/*.jpg  val/cat/*.jpg ...       also training, valid, validation; test serves where there is no val
images/...  masks/...  annotations.json  drawn scenes: the class folders lie in images/, the rest is carried along
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from trainingapp.datasets.archive import Source, SourceFile
from trainingapp.datasets.report import Report
from trainingapp.engine.dataset_files import Split

VAL_SHARE = 0.2
ANNOTATIONS_FILE = "annotations.json"
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_SPLIT_NAMES: dict[str, Literal["train", "val", "test"]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Picture:
    """A picture to import; `stored_path` is where it goes in the dataset folder. No split: it is chosen by content."""

    file: SourceFile
    stored_path: str
    label: int
    split: Split | None


@dataclass(frozen=True)
class Layout:
    """What is in the source: classes by label, their pictures, and files that are kept as they are."""

    classes: list[str]
    pictures: list[Picture]
    extras: list[SourceFile]
    has_splits: bool


def is_picture_name(path: str) -> bool:
    """Whether the ending says that the file is a picture."""
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122  no path of this machine


def split_of(folder_name: str) -> Literal["train", "val", "test"] | None:
    """train, val or test for a folder named so; None for any other."""
    return _SPLIT_NAMES.get(folder_name.lower())


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts "class 2" before "class 10" and upper case beside lower case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts], name


def recognise(source: Source, report: Report) -> Layout:
    """Find classes, splits and pictures; whatever is wrong or left out goes into the report."""
    extras, source = _set_extras_aside(_without_wrapper(source))
    splits = _find_splits(source, report)
    found = _Found(report)
    for file in source.files:
        found.take(file, splits)
    for folder in source.folders:
        found.take_folder(folder, splits)
    found.report_passed_over()
    classes = sorted(found.classes, key=natural_key)
    layout = Layout(classes, _placed(found.pictures, classes), extras, has_splits=bool(splits))
    _check_classes(layout, report)
    return layout


def _without_wrapper(source: Source) -> Source:
    """Without the one folder at the top that many programs put around everything.

    Only a folder that holds folders and no picture is taken for one, so that a single class is never mistaken for it;
    nor is a folder named for a split. Files that are no pictures may lie beside it.
    """
    tops = {folder for folder in source.folders if "/" not in folder}
    top = min(tops, default="")
    if len(tops) != 1 or split_of(top) or top in _folders_with_pictures(source):
        return source
    if not any(folder.startswith(f"{top}/") for folder in source.folders):
        return source
    return _without_wrapper(_inside(source, top))


def _inside(source: Source, top: str) -> Source:
    """What lies in the folder `top`, seen from there."""
    prefix = f"{top}/"
    files = [
        SourceFile(file.path.removeprefix(prefix), file.size_bytes, file.open)
        for file in source.files
        if file.path.startswith(prefix)
    ]
    return Source(files, {folder.removeprefix(prefix) for folder in source.folders if folder.startswith(prefix)})


def _folders_with_pictures(source: Source) -> set[str]:
    """Top folders that hold pictures themselves; "" when pictures lie beside them."""
    parents = (file.path.rpartition("/")[0] for file in source.files if is_picture_name(file.path))
    return {parent for parent in parents if "/" not in parent}


def _set_extras_aside(source: Source) -> tuple[list[SourceFile], Source]:
    """Drawn scenes carry annotations.json and masks/ beside images/, where the class folders are."""
    if not any(file.path == ANNOTATIONS_FILE for file in source.files) or "images" not in source.folders:
        return [], source
    extras = [file for file in source.files if file.path == ANNOTATIONS_FILE or file.path.startswith("masks/")]
    return extras, _inside(source, "images")


def _find_splits(source: Source, report: Report) -> dict[str, Split]:
    """Split for each top folder that is one; empty where the top folders are classes."""
    tops = {folder for folder in source.folders if "/" not in folder}
    named = {top: kind for top in sorted(tops - _folders_with_pictures(source)) if (kind := split_of(top))}
    if "train" not in named.values() and "val" not in named.values():
        return {}
    others = sorted(tops - set(named))
    if others:
        names = ", ".join(others[:5])
        report.error("mixed_layout", f"Beside {', '.join(named)} there are other folders: {names}.", others[0])
    return _chosen_splits(named, report)


def _chosen_splits(named: dict[str, Literal["train", "val", "test"]], report: Report) -> dict[str, Split]:
    for kind, folders in groupby(sorted(named, key=lambda top: named[top]), key=lambda top: named[top]):
        if len(same := list(folders)) > 1:
            report.error("mixed_layout", f"{' and '.join(same)} are both the {kind} split.", same[1])
    kinds = set(named.values())
    if "train" not in kinds:
        report.error("no_train", "There is a folder for validation but none for training.")
    if "val" in kinds or "test" not in kinds:
        return {top: kind for top, kind in named.items() if kind != "test"}
    test = next(top for top, kind in named.items() if kind == "test")
    report.warn("test_as_val", f"There is no val folder; {test} is used for validation.", test)
    return {top: "val" if kind == "test" else kind for top, kind in named.items()}


class _Found:
    """Collects pictures and classes while the files pass."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.classes: set[str] = set()
        self.pictures: list[tuple[SourceFile, str, str, Split | None]] = []
        """(file, class, path within the class, split)"""
        self._ignored: dict[str, list[str]] = defaultdict(list)
        self._outside: list[str] = []
        self._left_out: Counter[str] = Counter()

    def take(self, file: SourceFile, splits: dict[str, Split]) -> None:
        top, _, rest = file.path.partition("/")
        split, path = (splits.get(top), rest) if splits else (None, file.path)
        class_name, _, inner = path.partition("/")
        if not is_picture_name(file.path):
            ending = file.path.rpartition("/")[2].rpartition(".")
            self._ignored[f".{ending[2].lower()}" if ending[1] else ""].append(file.path)
        elif splits and rest and top not in splits:
            self._left_out[top] += 1
        elif not inner:
            self._outside.append(file.path)
        else:
            self.classes.add(class_name)
            self.pictures.append((file, class_name, inner, split))

    def take_folder(self, folder: str, splits: dict[str, Split]) -> None:
        """A class folder counts even when it is empty: an empty one must be told of."""
        top, _, rest = folder.partition("/")
        if not splits and not rest:
            self.classes.add(top)
        elif top in splits and rest and "/" not in rest:
            self.classes.add(rest)

    def report_passed_over(self) -> None:
        for ending, paths in sorted(self._ignored.items()):
            kind = f"ending in {ending}" if ending else "without an ending"
            message = f"{_files(len(paths))} {kind} passed over, not being pictures."
            self.report.warn("ignored_file", message, paths[0], count=len(paths))
        if self._outside:
            count = len(self._outside)
            message = f"{_pictures(count)} outside of any class folder passed over."
            self.report.warn("outside_class", message, self._outside[0], count=count)
        for top, count in self._left_out.items():
            self.report.warn("test_left_out", f"{_pictures(count)} in {top} left out.", top, count=count)


def _placed(pictures: list[tuple[SourceFile, str, str, Split | None]], classes: list[str]) -> list[Picture]:
    """Pictures with their labels and places, in the order of split, label and name."""
    label_of = {name: label for label, name in enumerate(classes)}
    placed = [
        Picture(file, "/".join(filter(None, ["images", split, class_name, inner])), label_of[class_name], split)
        for file, class_name, inner, split in pictures
    ]
    return sorted(placed, key=lambda picture: (picture.split or "", picture.label, natural_key(picture.stored_path)))


def _check_classes(layout: Layout, report: Report) -> None:
    counts = Counter((picture.split, picture.label) for picture in layout.pictures)
    for label, name in enumerate(layout.classes):
        train = counts["train", label]
        if not counts[None, label] + train + counts["val", label]:
            report.error("empty_class", f"The class folder {name} holds no picture.", name)
        elif layout.has_splits and not train:
            report.error("class_without_train", f"The class {name} has no picture to train on.", name)
    if len(layout.classes) < 2:
        report.error("too_few_classes", _too_few(layout.classes))
    if layout.has_splits and layout.pictures and not any(picture.split == "val" for picture in layout.pictures):
        report.warn("val_set_aside", "There is no picture for validation; a fifth of each class is set aside for it.")


def _too_few(classes: list[str]) -> str:
    if not classes:
        return "There is no class folder: put the pictures of each class into a folder named for it."
    return f"There is only one class folder, {classes[0]}; a classifier needs at least two."


def choose_val(digests_by_index: Iterable[tuple[int, str]], seed: int = 0) -> set[int]:
    """Indices of the pictures of one class that go to validation: a fifth, at least one where there are two or more.

    The choice hangs on the seed and the pictures' content alone, not on names or order, and equal pictures stay on one
    side.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in digests_by_index:
        groups[digest].append(index)
    ranked = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())
    wanted = max(1, round(VAL_SHARE * sum(map(len, groups.values()))))
    chosen: set[int] = set()
    for digest in ranked[1:]:  # the first group stays in training, whatever its size
        if len(chosen) >= wanted:
            break
        chosen.update(groups[digest])
    return chosen


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"
