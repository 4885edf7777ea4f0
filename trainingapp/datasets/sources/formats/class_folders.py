"""Datasets laid out as one folder for each class, with or without splits.

cat/*.jpg  dog/*.jpg                     no splits: a part of each class is set aside for validation
train/cat/*.jpg  val/cat/*.jpg ...       also training, valid, validation; test serves where there is no val
"""

from collections import Counter, defaultdict
from itertools import groupby

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, is_image_name, kind_of_folder, natural_key
from trainingapp.datasets.sources.layout import Kind, Layout, SourceImage
from trainingapp.datasets.sources.source import Source, SourceFile

NAME = "class_folders"


def recognise(files: Files) -> bool:
    """Class folders are the fallback: any source is accepted."""
    return True


def read(files: Files, report: Report) -> Layout:
    """Find classes, splits and images; errors and images that are left out go into the report."""
    source = _without_wrapper(files.source)
    splits = _find_splits(source, report)
    found = _Found(report)
    for file in source.files:
        found.add_file(file, splits)
    for folder in source.folders:
        found.add_folder(folder, splits)
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
    return Layout(NAME, ["labels"], classes, images)


def _without_wrapper(source: Source) -> Source:
    """The source as seen from the single top folder that many programs put around everything.

    Only a folder that holds folders and no images is such a wrapper, so that a single class is never mistaken for it;
    a folder with the name of a split is not one either. Files that are not images may lie beside it.
    """
    tops = {folder for folder in source.folders if "/" not in folder}
    top = min(tops, default="")
    if len(tops) != 1 or kind_of_folder(top) or top in _folders_with_images(source):
        return source
    if not any(folder.startswith(f"{top}/") for folder in source.folders):
        return source
    prefix = f"{top}/"
    files = [
        SourceFile(file.path.removeprefix(prefix), file.size_bytes, file.open)
        for file in source.files
        if file.path.startswith(prefix)
    ]
    inner = {folder.removeprefix(prefix) for folder in source.folders if folder.startswith(prefix)}
    return _without_wrapper(Source(files, inner))


def _folders_with_images(source: Source) -> set[str]:
    """Top folders that hold images themselves; "" when images lie beside them."""
    parents = (file.path.rpartition("/")[0] for file in source.files if is_image_name(file.path))
    return {parent for parent in parents if "/" not in parent}


def _find_splits(source: Source, report: Report) -> dict[str, Kind]:
    """The split of each top folder; empty where the top folders are classes."""
    tops = {folder for folder in source.folders if "/" not in folder}
    named = {top: kind for top in sorted(tops - _folders_with_images(source)) if (kind := kind_of_folder(top))}
    if "train" not in named.values() and "val" not in named.values():
        return {}
    others = sorted(tops - set(named))
    if others:
        report.error("mixed_layout", messages.MIXED_FOLDERS(folders=list(named), others=others[:5]), others[0])
    for kind, folders in groupby(sorted(named, key=lambda top: named[top]), key=lambda top: named[top]):
        if len(same := list(folders)) > 1:
            report.error("mixed_layout", messages.SPLIT_TWICE(folders=same, split=kind), same[1])
    kinds = set(named.values())
    if "train" not in kinds:
        report.error("no_train", messages.NO_TRAIN_FOLDER())
    if "val" in kinds or "test" not in kinds:
        return {top: kind for top, kind in named.items() if kind != "test"}
    test = next(top for top, kind in named.items() if kind == "test")
    report.warn("test_as_val", messages.TEST_FOLDER_AS_VAL(path=test), test)
    return {top: "val" if kind == "test" else kind for top, kind in named.items()}


class _Found:
    """Collects images and classes, one file after the other."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.classes: set[str] = set()
        self.images: list[tuple[SourceFile, str, str, Kind | None]] = []
        """(file, class, path within the class, split)"""
        self._ignored: dict[str, list[str]] = defaultdict(list)
        self._outside: list[str] = []
        self._left_out: Counter[str] = Counter()

    def add_file(self, file: SourceFile, splits: dict[str, Kind]) -> None:
        top, _, rest = file.path.partition("/")
        split, path = (splits.get(top), rest) if splits else (None, file.path)
        class_name, _, inner = path.partition("/")
        if not is_image_name(file.path):
            ending = file.path.rpartition("/")[2].rpartition(".")
            self._ignored[f".{ending[2].lower()}" if ending[1] else ""].append(file.path)
        elif splits and rest and top not in splits:
            self._left_out[top] += 1
        elif not inner:
            self._outside.append(file.path)
        else:
            self.classes.add(class_name)
            self.images.append((file, class_name, inner, split))

    def add_folder(self, folder: str, splits: dict[str, Kind]) -> None:
        """A class folder counts even when it is empty, so that empty ones are reported."""
        top, _, rest = folder.partition("/")
        if not splits and not rest:
            self.classes.add(top)
        elif top in splits and rest and "/" not in rest:
            self.classes.add(rest)

    def report_ignored(self) -> None:
        for suffix, paths in sorted(self._ignored.items()):
            count = len(paths)
            message = messages.IGNORED_WITHOUT_SUFFIX(count=count)
            if suffix:
                message = messages.IGNORED_SUFFIX(count=count, suffix=suffix)
            self.report.warn("ignored_file", message, paths[0], count=count)
        if self._outside:
            count = len(self._outside)
            self.report.warn("outside_class", messages.OUTSIDE_CLASSES(count=count), self._outside[0], count=count)
        for top, count in self._left_out.items():
            self.report.warn("test_left_out", messages.FOLDER_LEFT_OUT(count=count, path=top), top, count=count)
