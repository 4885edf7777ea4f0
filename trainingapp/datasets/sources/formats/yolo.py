"""YOLO: one text file per image, one line per object: class, then normalized box or polygon.

data.yaml  images/train/*.jpg  labels/train/*.txt        Ultralytics layout
data.yaml  train/images/*.jpg  train/labels/*.txt        Roboflow export
data.yaml  train.txt  ...                                lists of images
obj.data  obj.names  train.txt  valid.txt                Darknet layout
classes.txt  *.jpg  *.txt                                names without data.yaml

`names` is a list or a mapping by number. Without it, the names are the lines of classes.txt or obj.names, else numbers.

https://docs.ultralytics.com/datasets/detect/
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import get_args

import yaml

from trainingapp.contract.messages import Message, Param
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_FILE, SPLIT_FROM_LISTS
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import Files, best_match, class_name, stem, tidy_path
from trainingapp.datasets.sources.folder_names import folder_name
from trainingapp.datasets.sources.formats.collector import Collector, object_layout
from trainingapp.datasets.sources.formats.yolo_lines import Line, Meaning, meanings
from trainingapp.datasets.sources.layout import Kind, Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile
from trainingapp.datasets.sources.split_lists import (
    images_below,
    images_of_list,
    kinds_of_entries,
    list_file,
    listed_splits,
)

NAME = "yolo"
MOST_CLASSES = 100_000
MOST_YAML_BYTES = 2 * 1024**2
"""YAML takes about a hundred times the memory of its text once it is parsed."""
_NAME_FILES = ("classes.txt", ".names", "_darknet.labels", "names.txt", "predefined_classes.txt")
_NO_LABELS = {"train", "val", "valid", "test", "trainval", "readme", "notes", "license", *map(stem, _NAME_FILES)}
_MOST_PEEKED = 5
#: Exceptions of PyYAML's safe loader for broken input, as found by fuzzing.
_BROKEN_YAML = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def recognise(files: Files) -> bool:
    """Whether there is a YAML file with classes or splits, or text files of number lines that belong to images."""
    labels = _label_files(files)
    if not labels:
        return False
    if any(b"names" in content or b"train" in content for content in map(files.peek, files.ending(".yaml", ".yml"))):
        return True
    return any(_is_objects(files.peek(file)) for file in labels[:_MOST_PEEKED])


def _is_objects(content: bytes) -> bool:
    lines = [line for line in content[:4096].splitlines()[:-1] or content.splitlines() if line.strip()]
    try:
        return bool(lines) and all(len(line.split()) >= 5 and [float(part) for part in line.split()] for line in lines)
    except ValueError:
        return False


def _label_files(files: Files) -> list[SourceFile]:
    """Text files in a folder called labels, or with an image of the same stem in the same folder.

    A file without an image of that stem in any folder is excluded if its lines are not objects.
    """
    beside = {file.path.rpartition(".")[0] for file in files.images}
    return [
        file
        for file in files.ending(".txt")
        if stem(file.path).lower() not in _NO_LABELS
        and ("labels" in file.path.lower().split("/")[:-1] or file.path[:-4] in beside)
        and (files.with_stem(stem(file.path)) or not files.peek(file).strip() or _is_objects(files.peek(file)))
    ]


def read(files: Files, report: Report) -> Layout:
    """Read names, splits and the objects of every image. An image without a text file has no objects."""
    used: list[str] = []
    settings = _settings(files, report, used)
    names = _names(files, settings, report, used)
    kinds, origin = _kinds(files, settings, used, report)
    label_files = _label_files(files)
    labels_of = _pair(files, label_files, report)
    wanted = [file for file in files.images if kinds is None or file.path in kinds]
    if kinds is None and any(files.kind_of(path) for path in labels_of):
        # If there are split folders, an image without a label file is a background only in folders with labeled images.
        roots = {_root(path) for path in labels_of}
        wanted = [
            file
            for file in wanted
            if file.path in labels_of or (files.kind_of(file.path) and _root(file.path) in roots)
        ]
    parser = _Parser(names, report)
    for file in wanted:
        if file.path in labels_of:
            parser.add(files, labels_of[file.path])
    parser.decide(_keypoints(settings))
    collector = Collector(files, report)
    collector.leave_out_unlisted([file.path for file in files.images if kinds is not None and file.path not in kinds])
    for file in sorted(wanted, key=lambda file: file.path):
        label_file = labels_of.get(file.path)
        kind = files.kind_of(file.path) if kinds is None else kinds[file.path]
        shapes, unusable = parser.shapes(label_file.path) if label_file else ([], 0)
        where = Position(label_file.path if label_file else file.path)
        collector.add(file, where, kind=kind, shapes=shapes, unusable=unusable)
    parser.report_repeated()
    bare = [file.path for file in wanted if file.path not in labels_of]
    if bare:
        report.warn("no_label_file", messages.NO_LABEL_FILE(count=len(bare)), bare[0], count=len(bare))
    listed = [*used, *(file.path for file in label_files)]
    return object_layout(NAME, collector, parser.classes(), listed, report, split_origin=origin)


def _root(path: str) -> str:
    """The folder of an image, or the parent folder named for images, as in images/train/site_2."""
    parts = path.split("/")[:-1]
    named = [place for place, part in enumerate(parts, start=1) if "images" in folder_name(part).roles]
    return "/".join(parts[: named[-1]] if named else parts)


def _pair(files: Files, label_files: list[SourceFile], report: Report) -> dict[str, SourceFile]:
    """The text file of each image, by image path."""
    pairs: dict[str, SourceFile] = {}
    for file in label_files:
        image = _image_of(files, file)
        if image is None:
            report.fault("missing_image", messages.NO_IMAGE_FOR(path=file.path), file.path)
        elif image.path in pairs:
            message = messages.TWO_LABEL_FILES(path=file.path, other=pairs[image.path].path, image=image.path)
            report.fault("duplicate_name", message, file.path)
        else:
            pairs[image.path] = file
    return pairs


def _image_of(files: Files, label_file: SourceFile) -> SourceFile | None:
    folder, _, name = label_file.path[:-4].rpartition("/")
    parts = folder.split("/")
    swapped = ["images" if part.lower() == "labels" else part for part in parts]
    same = files.with_stem(name)
    for wanted in ("/".join(swapped), folder):
        if found := best_match([file for file in same if file.path.rpartition("/")[0] == wanted], wanted):
            return found
    return best_match(same, "/".join(swapped), files.kind_of(label_file.path))


def _settings(files: Files, report: Report, used: list[str]) -> dict[object, object]:
    """The content of the topmost data.yaml that names classes or splits; empty if there is none.

    A file with only `nc` can be a network definition: it is used only if no other file names classes or splits.
    """
    others: list[tuple[str, dict[object, object]]] = []
    for file in sorted(files.ending(".yaml", ".yml"), key=lambda file: (file.path.count("/"), file.path)):
        try:
            text = files.read_text(file, MOST_YAML_BYTES)
            # Scalars are kept as text, since YAML reads yes and no as booleans, 012 and 1:30 as numbers.
            content: object = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes text, lists and tables alone
        except DatasetError as error:
            report.faults(error.items)
        except _BROKEN_YAML as error:
            mark = getattr(error, "problem_mark", None)
            where = Position(file.path, mark.line + 1 if mark else 0).param()
            report.error("annotations_broken", messages.INVALID_YAML(where=where, reason=_reason(error)), file.path)
        else:
            keys = {key for key in content if isinstance(key, str)} if isinstance(content, dict) else set()
            if isinstance(content, dict) and {"names", *get_args(Kind)} & keys:
                used.append(file.path)
                return content
            if isinstance(content, dict) and "nc" in keys:
                others.append((file.path, content))
    for path, content in others:
        used.append(path)
        return content
    return _darknet_settings(files, report, used)


def _darknet_settings(files: Files, report: Report, used: list[str]) -> dict[object, object]:
    """The settings in Darknet's obj.data (lines of key = value) with the keys of data.yaml; empty if there is none."""
    for file in files.ending(".data"):
        try:
            pairs = (line.partition("=") for line in files.read_text(file, MOST_YAML_BYTES).splitlines())
            values = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}
        except DatasetError as error:
            report.faults(error.items)
            continue
        if {"train", "names"} & values.keys():
            used.append(file.path)
            keys = {"train": "train", "valid": "val", "val": "val", "test": "test", "classes": "nc"}
            return {keys[key]: value for key, value in values.items() if key in keys}
    return {}


def _reason(error: Exception) -> Param:
    problem = getattr(error, "problem", None)
    why = library_reason(problem) if problem else reason(error)
    return (why or type(error).__name__).splitlines()[0][:200] if isinstance(why, str) else why


def _names(files: Files, settings: dict[object, object], report: Report, used: list[str]) -> dict[int, str]:
    """Class name by number; empty if the source names none."""
    names = settings.get("names")
    if isinstance(names, str) and names:
        names = names.split(",")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        return _checked_names(names, used[-1], report)
    # Files next to the settings come first, since others can belong to another set.
    folder = used[0].rpartition("/")[0] if used else ""
    near = f"{folder}/" if folder else ""
    for file in sorted(files.ending(*_NAME_FILES), key=lambda file: not file.path.startswith(near)):
        try:
            lines = [line for line in files.read_text(file).splitlines() if line.strip()]
        except DatasetError as error:
            report.faults(error.items)
            continue
        used.append(file.path)
        return _checked_names(dict(enumerate(lines)), file.path, report)
    count = _whole_number(settings.get("nc"))
    return {number: str(number) for number in range(count)} if 0 < count <= MOST_CLASSES else {}


def _whole_number(value: object) -> int:
    """The text as an integer; 0 if it is not one."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 7 else 0


def _keypoints(settings: dict[object, object]) -> tuple[int, int] | None:
    """`kpt_shape`: the number of key points per object and of values per key point (2 or 3); None if missing."""
    shape = settings.get("kpt_shape")
    if not isinstance(shape, list) or len(shape) != 2:
        return None
    count, values = map(_whole_number, shape)
    return (count, values) if count and values in (2, 3) else None


def _checked_names(names: dict[object, object], path: str, report: Report) -> dict[int, str]:
    found: dict[int, str] = {}
    for key, value in names.items():
        number = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 7 else key
        name = class_name(value) if isinstance(value, str | int | float) else ""
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_CLASSES or not name:
            # Only the type of a list is shown, since YAML aliases can make its text unbounded.
            text: Param = messages.VALUE_OF_TYPE(type=type(value).__name__)
            if isinstance(value, str | int | float):
                text = repr(str(value)[:60])
            report.fault("bad_annotation", messages.NOT_A_CLASS_NAME(path=path, text=text), path)
        else:
            found[number] = name
    return found


def _kinds(
    files: Files, settings: dict[object, object], used: list[str], report: Report
) -> tuple[dict[str, Kind | None] | None, Message | None]:
    """(split of each image that belongs to the set, origin of the splits).

    Taken from data.yaml, else from lists such as train.txt. None if neither names splits: folder names are used then.
    """
    entries, missing = _entries(files, settings, used, report)
    train, val = entries.get("train", []), entries.get("val", [])
    if train and set(train) == set(val) and not missing:  # the same images: no split is defined
        return dict.fromkeys(train, None), None
    for kind, entry in missing.items():
        # Many exports name folders of another machine; the folder names of the source are used then.
        if not any(files.kind_of(file.path) == kind for file in files.images):
            message = messages.SPLIT_NOT_FOUND(path=used[0], entry=entry[:100], split=kind)
            report.fault("split_not_found", message, used[0])
        elif entries:
            entries[kind] = [file.path for file in files.images if files.kind_of(file.path) == kind]
    if entries:
        given: dict[str, Kind | None] = dict(kinds_of_entries(entries, report))
        return given, SPLIT_FROM_FILE(path=used[0])
    if missing or files.reading.splits not in ("auto", "lists"):
        return None, None
    listed = listed_splits(files, files.images, report)
    if not listed.kinds:
        return None, None
    used += listed.paths
    return dict(listed.kinds), SPLIT_FROM_LISTS(paths=listed.paths)


def _entries(
    files: Files, settings: dict[object, object], used: list[str], report: Report
) -> tuple[dict[Kind, list[str]], dict[Kind, str]]:
    """(image paths of each split, entries of train and val without images)."""
    found: dict[Kind, list[str]] = {}
    missing: dict[Kind, str] = {}
    texts: dict[Kind, list[str]] = {}
    kinds: tuple[Kind, ...] = ("train", "val", "test")
    for kind in kinds:
        value = settings.get(kind, settings.get("valid") if kind == "val" else None)
        texts[kind] = [
            text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text
        ]
        paths = dict.fromkeys(path for entry in texts[kind] for path in _listed(files, entry, kind, used, report))
        if paths:
            found[kind] = list(paths)
        elif texts[kind] and kind != "test":
            missing[kind] = texts[kind][0]
    if not texts["val"] or texts["train"] == texts["val"]:
        missing = {}  # no split is given
    if found.get("train") == found.get("val") and found.get("train") and texts["train"] != texts["val"]:
        # Both matched only the last part of their paths, such as images: neither path exists in the source.
        missing = {"train": texts["train"][0], "val": texts["val"][0]}
        found = {}
    return found, missing


def _listed(files: Files, entry: str, kind: Kind, used: list[str], report: Report) -> Iterable[str]:
    """Paths of the images that an entry of data.yaml refers to, which is a folder or a text file that lists images."""
    wanted = tidy_path(entry)
    if not wanted.lower().endswith(".txt"):
        return images_below(files, wanted, used[0].rpartition("/")[0])
    file = list_file(files, wanted)
    if file is None:
        return []
    used.append(file.path)
    return images_of_list(files, file, kind, report)


class _Parser:
    """Reads lines of objects; collects class numbers if the classes have no names."""

    def __init__(self, names: dict[int, str], report: Report) -> None:
        self.report = report
        self._names = names
        self._order = list(dict.fromkeys(names[number] for number in sorted(names)))
        self._label_of = {number: self._order.index(name) for number, name in names.items()}
        self._numbers: Counter[int] = Counter()
        self._lines: dict[str, list[Line]] = {}
        self._unusable: Counter[str] = Counter()
        self._meanings: dict[int, Meaning] = {}
        self._repeated: list[Position] = []

    def classes(self) -> list[str]:
        if self._names:
            return self._order
        return [str(number) for number in range(max(self._numbers, default=-1) + 1)]

    def add(self, files: Files, file: SourceFile) -> None:
        """Read the numbers of a label file."""
        lines = self._lines[file.path] = []
        try:
            text = files.read_text(file)
        except DatasetError as error:
            self.report.faults(error.items)
            self._unusable[file.path] += 1
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                parts = line.split()
                where = Position(file.path, number)
                values = _floats(parts)
                if values is not None and len(values) < 5:
                    self._refuse(where, len(parts))
                elif values is None:
                    self._unusable[file.path] += 1
                    message = messages.YOLO_NOT_NUMBERS(where=where.param(), text=repr(line.strip()[:60]))
                    self.report.fault("bad_annotation", message, file.path)
                else:
                    lines.append((where, values))

    def decide(self, keypoints: tuple[int, int] | None) -> None:
        """Determine the meaning of the columns from all added lines."""
        lines = [line for lines in self._lines.values() for line in lines]
        self._meanings = meanings(lines, keypoints, self.report)

    def shapes(self, path: str) -> tuple[list[Shape], int]:
        """(objects of a label file, number of unusable objects)"""
        found: list[Shape] = []
        seen: set[bytes] = set()
        for where, values in self._lines.pop(path, ()):
            if (key := values.tobytes()) in seen:
                self._repeated.append(where)
            elif shape := self._shape(values, where):
                found.append(shape)
            seen.add(key)
        return found, self._unusable[path]

    def report_repeated(self) -> None:
        """Warn about lines that a file repeats; they are read as one object."""
        if self._repeated:
            count, first = len(self._repeated), self._repeated[0]
            message = messages.YOLO_REPEATED(count=count, where=first.param())
            self.report.warn("ignored_object", message, first.path, count=count)

    def _refuse(self, where: Position, count: int) -> None:
        self._unusable[where.path] += 1
        self.report.fault("bad_annotation", messages.YOLO_LINE_INVALID(where=where.param(), count=count), where.path)

    def _shape(self, values: "array[float]", where: Position) -> Shape | None:
        meaning = self._meanings.get(len(values))
        if meaning is None:
            self._refuse(where, len(values))
            return None
        label = self._label(values[0])
        if label is None:
            self._unusable[where.path] += 1
            message = messages.NO_CLASS(where=where.param(), text=f"{values[0]:g}")
            if self._names:
                message = messages.YOLO_NO_CLASS(where=where.param(), text=f"{values[0]:g}", last=max(self._names))
            self.report.fault("unknown_class", message, where.path)
            return None
        if meaning == "outline":
            return Shape(label, where, polygons=(array("f", values[1:]),), relative=True)
        x, y, width, height = values[1:5]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return Shape(label, where, box, relative=True)

    def _label(self, value: float) -> int | None:
        if not value.is_integer() or not 0 <= value < (MOST_CLASSES if self._names else 1000):
            return None
        if self._names:
            return self._label_of.get(int(value))
        self._numbers[int(value)] += 1
        return int(value)


def _floats(parts: list[str]) -> "array[float] | None":
    """The parts as numbers that can be normalized coordinates; None if one cannot."""
    try:
        values = array("d", map(float, parts))
    except ValueError:
        return None
    return values if all(math.isfinite(value) and abs(value) < 1e6 for value in values) else None
