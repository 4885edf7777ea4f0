"""Datasets laid out as one folder for each class, with or without splits.

cat/*.jpg  dog/*.jpg                     no splits: a part of each class is set aside for validation
train/cat/*.jpg  val/cat/*.jpg ...       also training, valid, validation; test serves where there is no val
"""

from collections import Counter, defaultdict
from itertools import groupby

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.archive import Source, SourceFile
from trainingapp.datasets.sources.files import Files, is_image_name, kind_of_folder, natural_key
from trainingapp.datasets.sources.layout import Kind, Layout, SourceImage

NAME = "class_folders"


def recognise(files: Files) -> bool:
    """Whatever is nothing else is taken for class folders."""
    return True


def read(files: Files, report: Report) -> Layout:
    """Find classes, splits and images; whatever is wrong or left out goes into the report."""
    source = _without_wrapper(files.source)
    splits = _find_splits(source, report)
    found = _Found(report)
    for file in source.files:
        found.take(file, splits)
    for folder in source.folders:
        found.take_folder(folder, splits)
    found.report_passed_over()
    classes = sorted(found.classes, key=natural_key)
    _check_there(classes, report)
    return Layout(NAME, ["labels"], classes, _placed(found.images, classes))


def _without_wrapper(source: Source) -> Source:
    """Without the one folder at the top that many programs put around everything.

    Only a folder that holds folders and no image is taken for one, so that a single class is never mistaken for it;
    nor is a folder named for a split. Files that are no images may lie beside it.
    """
    tops = {folder for folder in source.folders if "/" not in folder}
    top = min(tops, default="")
    if len(tops) != 1 or kind_of_folder(top) or top in _folders_with_images(source):
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


def _folders_with_images(source: Source) -> set[str]:
    """Top folders that hold images themselves; "" when images lie beside them."""
    parents = (file.path.rpartition("/")[0] for file in source.files if is_image_name(file.path))
    return {parent for parent in parents if "/" not in parent}


def _find_splits(source: Source, report: Report) -> dict[str, Kind]:
    """Split for each top folder that is one; empty where the top folders are classes."""
    tops = {folder for folder in source.folders if "/" not in folder}
    named = {top: kind for top in sorted(tops - _folders_with_images(source)) if (kind := kind_of_folder(top))}
    if "train" not in named.values() and "val" not in named.values():
        return {}
    others = sorted(tops - set(named))
    if others:
        names = ", ".join(others[:5])
        report.error("mixed_layout", f"Beside {', '.join(named)} there are other folders: {names}.", others[0])
    return _chosen_splits(named, report)


def _chosen_splits(named: dict[str, Kind], report: Report) -> dict[str, Kind]:
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
    """Collects images and classes while the files pass."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.classes: set[str] = set()
        self.images: list[tuple[SourceFile, str, str, Kind | None]] = []
        """(file, class, path within the class, split)"""
        self._ignored: dict[str, list[str]] = defaultdict(list)
        self._outside: list[str] = []
        self._left_out: Counter[str] = Counter()

    def take(self, file: SourceFile, splits: dict[str, Kind]) -> None:
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

    def take_folder(self, folder: str, splits: dict[str, Kind]) -> None:
        """A class folder counts even when it is empty: an empty one must be told of."""
        top, _, rest = folder.partition("/")
        if not splits and not rest:
            self.classes.add(top)
        elif top in splits and rest and "/" not in rest:
            self.classes.add(rest)

    def report_passed_over(self) -> None:
        for ending, paths in sorted(self._ignored.items()):
            kind = f"ending in {ending}" if ending else "without an ending"
            message = f"{_files(len(paths))} {kind} passed over, not being images."
            self.report.warn("ignored_file", message, paths[0], count=len(paths))
        if self._outside:
            count = len(self._outside)
            message = f"{_images(count)} outside of any class folder passed over."
            self.report.warn("outside_class", message, self._outside[0], count=count)
        for top, count in self._left_out.items():
            self.report.warn("test_left_out", f"{_images(count)} in {top} left out.", top, count=count)


def _placed(images: list[tuple[SourceFile, str, str, Kind | None]], classes: list[str]) -> list[SourceImage]:
    """Images with their labels and places, in the order of split, label and name."""
    label_of = {name: label for label, name in enumerate(classes)}
    placed = [
        SourceImage(file, "/".join(filter(None, ["images", split, class_name, inner])), split, label_of[class_name])
        for file, class_name, inner, split in images
    ]
    return sorted(placed, key=lambda image: (image.kind or "", image.label, natural_key(image.stored_path)))


def _check_there(classes: list[str], report: Report) -> None:
    if not classes:
        message = "There is no class folder: put the images of each class into a folder named for it."
        report.error("too_few_classes", message)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
