"""YOLO: a text file for each image, a line for each object: class, then box or polygon in shares of the image.

data.yaml  images/train/*.jpg  labels/train/*.txt        as Ultralytics arranges it
data.yaml  train/images/*.jpg  train/labels/*.txt        as Roboflow exports it
data.yaml  train.txt  ...                                lists of images
classes.txt  *.jpg  *.txt                                names without data.yaml

`names` is a list or a table by number; without it the lines of classes.txt or obj.names count, then the numbers.

https://docs.ultralytics.com/datasets/detect/
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import get_args

import yaml

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_FILE
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError, Report, reason
from trainingapp.datasets.sources.files import Files, best_match, class_name, kind_of_path, stem, tidy_path
from trainingapp.datasets.sources.formats.collector import Collector, object_layout
from trainingapp.datasets.sources.layout import Kind, Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "yolo"
MOST_CLASSES = 100_000
MOST_YAML_BYTES = 2 * 1024**2
"""YAML takes about a hundred times the memory of its text once it is parsed."""
_NAME_FILES = ("classes.txt", "obj.names", "names.txt", "predefined_classes.txt")
_NO_LABELS = {"train", "val", "valid", "test", "trainval", "readme", "notes", "license", *map(stem, _NAME_FILES)}
_MOST_PEEKED = 5
#: What PyYAML's safe loader raises for broken input, as fuzzing shows.
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
    """Whether there is a YAML file that names classes or splits, or text files with lines of numbers for images."""
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
    """Text files in a folder called labels, or with an image of the same stem in their own folder."""
    beside = {file.path.rpartition(".")[0] for file in files.images}
    return [
        file
        for file in files.ending(".txt")
        if stem(file.path).lower() not in _NO_LABELS
        and ("labels" in file.path.lower().split("/")[:-1] or file.path[:-4] in beside)
    ]


def read(files: Files, report: Report) -> Layout:
    """Read names, splits and the objects of every image; an image without a text file shows no object."""
    used: list[str] = []
    settings = _settings(files, report, used)
    names = _names(files, settings, report, used)
    settings_path = used[0] if settings else ""
    kinds = _kinds(files, settings, used)
    label_files = _label_files(files)
    parser = _Parser(names, report)
    collector = Collector(files, report)
    labels_of = _pair(files, label_files, report)
    wanted = [file for file in files.images if not kinds or file.path in kinds]
    for file in sorted(wanted, key=lambda file: file.path):
        label_file = labels_of.get(file.path)
        kind = kinds.get(file.path) if kinds else kind_of_path(file.path)
        shapes = list(parser.shapes(files, label_file)) if label_file else []
        where = Position(label_file.path if label_file else file.path)
        collector.add(file, where, kind=kind, shapes=shapes)
    bare = [image.file.path for image in collector.images() if image.file.path not in labels_of]
    if bare:
        report.warn("no_label_file", messages.NO_LABEL_FILE(count=len(bare)), bare[0], count=len(bare))
    listed = [*used, *(file.path for file in label_files)]
    origin = SPLIT_FROM_FILE(path=settings_path) if kinds else None
    return object_layout(NAME, collector, parser.classes(), listed, report, split_origin=origin)


def _pair(files: Files, label_files: list[SourceFile], report: Report) -> dict[str, SourceFile]:
    """The text file of each image, by the image's path."""
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
    return best_match(same, "/".join(swapped), kind_of_path(label_file.path))


def _settings(files: Files, report: Report, used: list[str]) -> dict[object, object]:
    """The content of the data.yaml nearest to the top that names classes or splits; empty without one."""
    for file in sorted(files.ending(".yaml", ".yml"), key=lambda file: (file.path.count("/"), file.path)):
        try:
            content: object = yaml.safe_load(files.read_text(file, MOST_YAML_BYTES))
        except DatasetError as error:
            report.faults(error.items)
        except _BROKEN_YAML as error:
            mark = getattr(error, "problem_mark", None)
            where = Position(file.path, mark.line + 1 if mark else 0).param()
            report.error("annotations_broken", messages.INVALID_YAML(where=where, reason=_reason(error)), file.path)
        else:
            if isinstance(content, dict) and {"names", "nc", *get_args(Kind)} & {
                key for key in content if isinstance(key, str)
            }:
                used.append(file.path)
                return content
    return {}


def _reason(error: Exception) -> Param:
    problem = getattr(error, "problem", None)
    why = library_reason(problem) if problem else reason(error)
    return (why or type(error).__name__).splitlines()[0][:200] if isinstance(why, str) else why


def _names(files: Files, settings: dict[object, object], report: Report, used: list[str]) -> dict[int, str]:
    """Class name by number; empty when the source names none."""
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        return _checked_names(names, used[-1], report)
    for file in files.ending(*_NAME_FILES):
        try:
            lines = [line for line in files.read_text(file).splitlines() if line.strip()]
        except DatasetError as error:
            report.faults(error.items)
            continue
        used.append(file.path)
        return _checked_names(dict(enumerate(lines)), file.path, report)
    count = settings.get("nc")
    if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= MOST_CLASSES:
        return {number: str(number) for number in range(count)}
    return {}


def _value(value: object) -> Param:
    """A value as a parameter of a message. Of a list only the type: YAML's aliases can make its text endless."""
    if isinstance(value, str | int | float):
        return repr(str(value)[:60])
    return messages.VALUE_OF_TYPE(type=type(value).__name__)


def _checked_names(names: dict[object, object], path: str, report: Report) -> dict[int, str]:
    found: dict[int, str] = {}
    for key, value in names.items():
        number = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 7 else key
        name = class_name(value) if isinstance(value, str | int | float) else ""
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_CLASSES or not name:
            report.fault("bad_annotation", messages.NOT_A_CLASS_NAME(path=path, text=_value(value)), path)
        else:
            found[number] = name
    return found


def _kinds(files: Files, settings: dict[object, object], used: list[str]) -> dict[str, Kind | None]:
    """The split of each image according to data.yaml; empty where it names none that exists.

    An image that is both for training and for validation belongs to no split: the choice was left open.
    """
    found: dict[str, Kind | None] = {}
    for kind in ("train", "val", "test"):
        value = settings.get(kind, settings.get("valid") if kind == "val" else None)
        for entry in value if isinstance(value, list) else [value]:
            for path in _listed(files, entry, used) if isinstance(entry, str) else ():
                found[path] = kind if found.get(path, kind) == kind else None
    return found


def _listed(files: Files, entry: str, used: list[str]) -> Iterator[str]:
    """Paths of the images that an entry of data.yaml refers to: a folder, or a text file that lists them."""
    wanted = tidy_path(entry)
    if wanted.endswith(".txt"):
        lists = [file for file in files.source.files if f"/{file.path}".endswith(f"/{wanted}")]
        if file := best_match(lists, ""):
            used.append(file.path)
            folder = file.path.rpartition("/")[0]
            found = (files.find_image(line, folder) for line in files.read_text(file).splitlines() if line.strip())
            yield from (image.path for image in found if image)
        return
    for file in files.images:
        if not wanted or f"/{wanted}/" in f"/{file.path}":
            yield file.path


class _Parser:
    """Reads lines of objects; collects the class numbers where classes have no names."""

    def __init__(self, names: dict[int, str], report: Report) -> None:
        self.report = report
        self._names = names
        self._order = list(dict.fromkeys(names[number] for number in sorted(names)))
        self._label_of = {number: self._order.index(name) for number, name in names.items()}
        self._numbers: Counter[int] = Counter()

    def classes(self) -> list[str]:
        if self._names:
            return self._order
        return [str(number) for number in range(max(self._numbers, default=-1) + 1)]

    def shapes(self, files: Files, file: SourceFile) -> Iterator[Shape]:
        try:
            text = files.read_text(file)
        except DatasetError as error:
            self.report.faults(error.items)
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                shape = self._shape(line.split(), Position(file.path, number))
                if shape:
                    yield shape

    def _shape(self, parts: list[str], where: Position) -> Shape | None:
        values = _floats(parts)
        if values is None or not (len(values) == 5 or (len(values) >= 7 and len(values) % 2)):
            message = messages.YOLO_LINE_INVALID(where=where.param(), count=len(parts))
            self.report.fault("bad_annotation", message, where.path)
            return None
        label = self._label(values[0])
        if label is None:
            message = messages.NO_CLASS(where=where.param(), text=parts[0][:40])
            self.report.fault("unknown_class", message, where.path)
            return None
        if len(values) > 5:
            return Shape(label, where, polygons=(array("f", values[1:]),), relative=True)
        x, y, width, height = values[1:]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return Shape(label, where, box, relative=True)

    def _label(self, value: float) -> int | None:
        if not value.is_integer() or not 0 <= value < (MOST_CLASSES if self._names else 1000):
            return None
        if self._names:
            return self._label_of.get(int(value))
        self._numbers[int(value)] += 1
        return int(value)


def _floats(parts: list[str]) -> list[float] | None:
    """The parts as numbers that can be shares of an image; None when one is not."""
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return None
    return values if all(math.isfinite(value) and abs(value) < 1e6 for value in values) else None
