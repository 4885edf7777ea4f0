"""Datasets with one folder per class, with or without splits.

cat/*.jpg  dog/*.jpg                     no splits: a part of each class is used for validation
train/cat/*.jpg  val/cat/*.jpg ...       also training, valid, validation; test is used if there is no val
training_set/training_set/cat/*.jpg      a split folder within one of the same split
cat/train/*.jpg  cat/val/*.jpg           the splits within the classes
cat/1.jpg  dog/1.jpg (the same file)     several labels per image (copies or links), if the user selects it

This is the fallback for sources that no other format recognizes. Folders named like splits, images, labels or masks are
not classes, and sources with annotations that no format recognizes are refused (`unclaimed.py`).
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.contract.messages.dataset_reading import SAME_IN_SEVERAL_CLASSES
from trainingapp.datasets.report import FILES_NAMED, DatasetError, Report
from trainingapp.datasets.sources.files import Files, is_image_name, natural_key
from trainingapp.datasets.sources.folder_names import folder_name, kind_of_folder, kinds_of_folders
from trainingapp.datasets.sources.formats.label_lists import offer_label_mode
from trainingapp.datasets.sources.formats.mask_pairs import mask_pairs
from trainingapp.datasets.sources.known_families import known_family, refuse_known_family
from trainingapp.datasets.sources.layout import Kind, Layout, SourceImage
from trainingapp.datasets.sources.offers import Offer
from trainingapp.datasets.sources.source import Source, SourceFile, copy_limited
from trainingapp.datasets.sources.unclaimed import unclaimed_annotations

NAME = "class_folders"
MOST_NAMED = 5
_UNLABELLED = re.compile(r"(?i)(^|[^a-z])(pred|predict|prediction|predictions|unlabell?ed|extra)([^a-z]|$)")
"""Folders of images without classes, such as seg_pred beside seg_train and seg_test."""
_MOSTLY = 0.75
"""Share of the inner folders that each top folder has on average, where all of them have the same ones."""


def recognise(files: Files) -> bool:
    """Always true: class folders are the fallback."""
    return True


def read(files: Files, report: Report) -> Layout:
    """Find classes, splits and images; errors and images that are left out go into the report.

    Raises DatasetError if the folders are not classes.
    """
    source = _without_wrapper(files.source)
    tree = _Tree(source)
    splits = _find_splits(tree, report)
    repeated = [] if splits else _repeated_tops(tree, report)
    found = _Found(report, splits or dict.fromkeys(repeated, None), tree.kinds)
    if not splits and not repeated:
        found.inner_splits = _inner_splits(tree, report)
    for file in source.files:
        found.add_file(file)
    for folder in source.folders:
        if tree.holds_images(folder) or not folder_name(folder.rpartition("/")[2]).is_structure:
            found.add_folder(folder)
    if files.reading.format != NAME:  # chosen in the review; the report lists the files that are not read
        _refuse_annotated(files, report)
    if len(found.classes) < 2:
        refuse_known_family(files)
    _refuse_structure(found, files, report)
    found.report_ignored()
    classes = sorted(found.classes, key=natural_key)
    if not classes:
        report.error("too_few_classes", messages.NO_CLASS_FOLDERS())
    label_of = {name: label for label, name in enumerate(classes)}
    images = [
        SourceImage(file, "/".join(filter(None, ["images", split, class_name, inner])), split, label_of[class_name])
        for file, class_name, inner, split in found.images
    ]
    images.sort(key=lambda image: (image.kind or "", image.label, natural_key(image.stored_path)))
    _offer_several_labels(files, images)
    if files.reading.label_mode == "multi":
        return Layout(NAME, ["multi_labels"], classes, _with_several_labels(images, files))
    return Layout(NAME, ["labels"], classes, images)


def _offer_several_labels(files: Files, images: list[SourceImage]) -> None:
    """Offer several labels per image if files of the same name and size are in several class folders."""
    seen: dict[tuple[Kind | None, str, int], set[int]] = defaultdict(set)
    for image in images:
        seen[image.kind, image.file.path.rpartition("/")[2], image.file.size_bytes].add(image.label)
    shared = sorted(name for (_kind, name, _size), labels in seen.items() if len(labels) > 1)
    if shared or files.reading.label_mode == "multi":
        reason = SAME_IN_SEVERAL_CLASSES(count=len(shared), path=shared[0]) if shared else None
        offer_label_mode(files, "multi" if files.reading.label_mode == "multi" else "single", reason)


def _with_several_labels(images: list[SourceImage], files: Files) -> list[SourceImage]:
    """Merge images of the same split and content into one image with all their labels.

    Only files of equal size are compared, so that most images are not read here.
    """
    by_size: dict[tuple[Kind | None, int], list[SourceImage]] = defaultdict(list)
    for image in images:
        by_size[image.kind, image.file.size_bytes].append(image)
    merged: list[SourceImage] = []
    for alike in by_size.values():
        by_content: dict[str, list[SourceImage]] = defaultdict(list)
        for image in alike:
            files.beat()
            by_content[_digest(image.file) if len(alike) > 1 else ""].append(image)
        for same in by_content.values():
            merged.append(replace(same[0], label=-1, labels=tuple(sorted({image.label for image in same}))))
    return sorted(merged, key=lambda image: (image.kind or "", natural_key(image.stored_path)))


def _digest(file: SourceFile) -> str:
    """SHA-256 in hex. Raises DatasetError if the file is damaged."""
    digest = hashlib.sha256()
    with Path(os.devnull).open("wb") as nowhere:
        copy_limited(file, nowhere, digest.update)
    return digest.hexdigest()


# Folders


class _Tree:
    """The folders of a source that contain images, directly or in subfolders."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.direct = {file.path.rpartition("/")[0] for file in source.files if is_image_name(file.path)}
        self._with_images: set[str] = set()
        for folder in self.direct:
            while folder and folder not in self._with_images:
                self._with_images.add(folder)
                folder = folder.rpartition("/")[0]
        self._children: dict[str, list[str]] = defaultdict(list)
        for folder in sorted(source.folders):
            self._children[folder.rpartition("/")[0]].append(folder)
        self.kinds = kinds_of_folders(source.folders)

    def children(self, folder: str = "") -> list[str]:
        return self._children[folder]

    def holds_images(self, folder: str) -> bool:
        return folder in self._with_images

    def base(self, folder: str) -> str:
        """The folder, or its only subfolder if that names the same split, as in training_set/training_set."""
        inner = self.children(folder)
        if len(inner) == 1 and folder not in self.direct and self.kinds.get(inner[0]) == self.kinds.get(folder):
            return self.base(inner[0])
        return folder


def _without_wrapper(source: Source) -> Source:
    """The source without the single top folder in which many programs wrap everything.

    A wrapper contains folders and no images, which distinguishes it from a single class, and does not have the name of
    a split. Other files and folders without images may exist next to it.
    """
    tree = _Tree(source)
    tops = [top for top in tree.children() if tree.holds_images(top)]
    if len(tops) != 1 or tree.kinds.get(tops[0]) or tree.direct & {"", tops[0]}:
        return source
    prefix = f"{tops[0]}/"
    files = [
        SourceFile(file.path.removeprefix(prefix), file.size_bytes, file.open)
        for file in source.files
        if file.path.startswith(prefix)
    ]
    inner = {folder.removeprefix(prefix) for folder in source.folders if folder.startswith(prefix)}
    return _without_wrapper(Source(files, inner))


def _find_splits(tree: _Tree, report: Report) -> "dict[str, Kind | None]":
    """The split of each folder that contains class folders, by its path; empty if the top folders are classes.

    Unused test folders are left out.
    """
    tops = [top for top in tree.children() if tree.holds_images(top)]
    bases = {top: tree.base(top) for top in tops if tree.kinds.get(top)}
    named = {base: tree.kinds[top] for top, base in bases.items() if base not in tree.direct}
    if set(named.values()) == {"test"} and len(tops) == 1:
        return dict(named)
    if "train" not in named.values() and "val" not in named.values():
        return {}
    flat = {top: tree.kinds[top] for top, base in bases.items() if base in tree.direct}
    for top, kind in flat.items():
        if kind != "test":
            report.error("mixed_layout", messages.FLAT_SPLIT(path=top, split=kind), top)
    classes = {child.rpartition("/")[2] for base in named for child in tree.children(base)}
    others = [top for top in tops if top not in bases and not _is_unlabelled(tree, top, classes)]
    if others:
        report.error("mixed_layout", messages.MIXED_FOLDERS(folders=list(named), others=others[:MOST_NAMED]), others[0])
    for kind, folders in groupby(sorted(named, key=lambda base: named[base]), key=lambda base: named[base]):
        if len(same := list(folders)) > 1:
            report.error("mixed_layout", messages.SPLIT_TWICE(folders=same, split=kind), same[1])
    kinds = {*named.values(), *(kind for kind in flat.values() if kind != "test")}
    if "val" in kinds or "test" not in kinds:
        return {base: kind for base, kind in named.items() if kind != "test"}
    test = next(base for base, kind in named.items() if kind == "test")
    report.warn("test_as_val", messages.TEST_FOLDER_AS_VAL(path=test), test)
    return {base: "val" if kind == "test" else kind for base, kind in named.items()}


def _repeated_tops(tree: _Tree, report: Report) -> list[str]:
    """The top folders if most of them contain the same subfolders, such as versions of images or days of recording.

    The subfolders are the classes. In dog/poodle and cat/siamese they are not: these top folders share no subfolder.
    """
    tops = [top for top in tree.children() if tree.holds_images(top)]
    inner = [{child.rpartition("/")[2] for child in tree.children(top) if tree.holds_images(child)} for top in tops]
    names = set[str]().union(*inner)
    is_arranged = any(folder_name(name).is_structure for name in (*tops, *names)) or kinds_of_folders((*tops, *names))
    if len(tops) < 2 or len(names) < 2 or is_arranged or any(top in tree.direct for top in tops):
        return []
    if sum(map(len, inner)) < _MOSTLY * len(tops) * len(names):
        return []
    named = sorted(names, key=natural_key)[:MOST_NAMED]
    report.warn("mixed_layout", messages.SAME_INNER_FOLDERS(folders=tops[:MOST_NAMED], inner=named), tops[0])
    return tops


def _is_unlabelled(tree: _Tree, top: str, classes: set[str]) -> bool:
    """Whether the folder has no class folders but images for prediction or testing, which are left out."""
    folders = {part for folder in tree.direct if f"{folder}/".startswith(f"{top}/") for part in folder.split("/")}
    is_named = bool(_UNLABELLED.search(top)) or "test" in folder_name(top).kinds
    return is_named and not folders & classes and not any(map(kind_of_folder, folders))


def _inner_splits(tree: _Tree, report: Report) -> dict[Kind, Kind | None]:
    """The split used for each split folder below the classes (None: left out); empty if they are not splits."""
    classes = [top for top in tree.children() if tree.holds_images(top)]
    inner = [child for top in classes for child in tree.children(top) if tree.holds_images(child)]
    kinds = {tree.kinds.get(child) for child in inner}
    if "train" not in kinds or None in kinds or any(top in tree.direct for top in classes):
        return {}
    if "val" in kinds or "test" not in kinds:
        return {"train": "train", "val": "val", "test": None}
    test = next(child for child in inner if tree.kinds.get(child) == "test")
    report.warn("test_as_val", messages.TEST_FOLDER_AS_VAL(path=test), test)
    return {"train": "train", "test": "val"}


# Sources that are not classification datasets


def _refuse_annotated(files: Files, report: Report) -> None:
    """Refuse a source whose images have annotations that no format recognizes."""
    unclaimed = unclaimed_annotations(files)
    if family := known_family(files, only_certain=not unclaimed.files):
        report.error("unread_annotations", family[0], family[1].path)
    elif unclaimed.files:
        count, named = len(unclaimed.files), unclaimed.files[:MOST_NAMED]
        report.error("unread_annotations", messages.UNCLAIMED_FILES(count=count, paths=named), named[0])
    if unclaimed.masks:
        count, named = len(unclaimed.masks), unclaimed.masks[:MOST_NAMED]
        report.error("unread_annotations", messages.UNCLAIMED_MASKS(count=count, paths=named), named[0])
    if report.has_errors:
        files.offer(Offer("format", "", (NAME,)))
    report.raise_errors()


def _refuse_structure(found: "_Found", files: Files, report: Report) -> None:
    """Refuse folders that are named like splits, images, labels or masks instead of classes."""
    wrong = sorted(_structure_among(found.classes), key=natural_key)
    roles = {part for _file, _name, inner, _split in found.images for part in inner.split("/")[:-1]}
    masks = sorted(part for part in roles if folder_name(part).is_structure and "masks" in folder_name(part).roles)
    if wrong or masks:
        for file in files.ending(".yaml", ".yml"):
            if b"names" in files.peek(file):
                message = messages.YOLO_WITHOUT_LABELS(path=file.path)
                raise DatasetError.one("no_label_file", message, file.path)
        refuse_known_family(files)
        lone = mask_pairs(files)
        if lone.lone_masks and not lone.pairs:
            paths = [file.path for file in lone.lone_masks[:FILES_NAMED]]
            report.error("not_classes", messages.MASKS_NOT_PAIRED(masks=paths), paths[0])
            report.raise_errors()
    if wrong:
        named = wrong[:MOST_NAMED]
        report.error("not_classes", messages.FOLDERS_ARE_NO_CLASSES(count=len(wrong), folders=named), named[0])
    if masks:
        message = messages.FOLDERS_OF_MASKS(folders=masks[:MOST_NAMED])
        report.error("not_classes", message, masks[0])
    # A single folder called train or test can be a subclass; train next to another split divides the images.
    kinds = kinds_of_folders(roles)
    if "train" in kinds.values() and len(set(kinds.values())) > 1:
        report.error("mixed_layout", messages.FOLDERS_OF_SPLITS(folders=sorted(kinds)[:MOST_NAMED]), min(kinds))
    report.raise_errors()


def _structure_among(classes: set[str]) -> set[str]:
    """The names that describe the arrangement of files.

    A word such as train, valid or mask can be one class among others (train, bus and car); images and masks cannot, and
    neither can two splits, such as train and val, or street-train and street-val. If every name has such words and they
    differ, the folders are parts of a dataset (ISIC_Training_Data and ISIC_Training_GroundTruth), but "with mask" and
    "without mask" are classes.
    """
    names = {name: folder_name(name) for name in classes}
    structure = {name for name, about in names.items() if about.is_structure}
    if structure == classes:
        return structure
    collections = {name for name in structure if names[name].is_collection or (names[name].kinds and names[name].roles)}
    if collections:
        return collections
    splits = kinds_of_folders(classes)
    if len(set(splits.values())) > 1:
        return set(splits)
    marks = {(about.kinds, about.roles) for about in names.values()}
    if all(kinds or roles for kinds, roles in marks) and len(marks) > 1 and any(roles for _kinds, roles in marks):
        return classes
    return set()


class _Found:
    """Collects images and classes file by file."""

    def __init__(self, report: Report, splits: "dict[str, Kind | None]", kinds: dict[str, Kind]) -> None:
        self.report = report
        self.classes: set[str] = set()
        self.images: list[tuple[SourceFile, str, str, Kind | None]] = []
        """(file, class, path within the class, split)"""
        self.inner_splits: dict[Kind, Kind | None] = {}
        self._splits = splits
        self._kinds = kinds
        self._outside: list[str] = []
        self._left_out: Counter[str] = Counter()

    def add_file(self, file: SourceFile) -> None:
        # The split folder above the file, "" if there are no splits, None outside of split folders.
        base = next((base for base in self._splits if file.path.startswith(f"{base}/")), None) if self._splits else ""
        path = file.path if not base else file.path.removeprefix(f"{base}/")
        class_name, _, inner = path.partition("/")
        if not is_image_name(file.path):
            return
        if base is None and "/" in file.path:
            self._left_out[file.path.partition("/")[0]] += 1
        elif base is None or not inner:
            self._outside.append(file.path)
        elif self.inner_splits:
            folder, _, rest = inner.partition("/")
            given = self._kinds.get(f"{class_name}/{folder}")
            split = self.inner_splits.get(given) if given else None
            if split is None:
                self._left_out[f"{class_name}/{folder}"] += 1
            else:
                self.classes.add(class_name)
                self.images.append((file, class_name, rest, split))
        else:
            self.classes.add(class_name)
            split = self._splits.get(base)
            # Without splits, several folders can have an image of the same class and name.
            self.images.append((file, class_name, inner if split or not base else f"{base}/{inner}", split))

    def add_folder(self, folder: str) -> None:
        """Add a class folder, even an empty one, so that empty class folders are reported."""
        parent, _, name = folder.rpartition("/")
        if parent in self._splits if self._splits else not parent:
            self.classes.add(name)

    def report_ignored(self) -> None:
        if self._outside:
            count = len(self._outside)
            self.report.warn("outside_class", messages.OUTSIDE_CLASSES(count=count), self._outside[0], count=count)
        for top, count in self._left_out.items():
            self.report.warn("test_left_out", messages.FOLDER_LEFT_OUT(count=count, path=top), top, count=count)
