"""The files that describe a dataset folder, written by the import and read by the trainer (no torch).

dataset.json    {"format": 2, "tasks": [str, ...], "name": str, "classes": [str, ...], "fingerprint": SHA-256 in hex}
                tasks are those that the annotations suffice for, the most telling one first; "conversion" where images
                of more than 8 bits or of many bands were converted (see deep_images.py)
samples.jsonl   one line per image: {"path", "split", "width", "height"} and, where there are such annotations,
                "label": int, "labels": [int, ...], "boxes": [[label, left, top, right, bottom], ...], "mask": path
                "outlines": path
                and, where several images are the same file, "group": str, which these have in common

path, mask and outlines are relative to the folder, with forward slashes; width and height are the pixels of the upright
image. A label is an index into classes. Every image of a multi-label dataset has "labels", in ascending order: all
classes that it shows, none for an image without any. Boxes are in pixels of the upright image, within it, right and
bottom exclusive; a sixth element 1 marks a crowd: a region that evaluation leaves out and training passes over. A mask
is a PNG of one 8-bit channel, of the upright image's size: 0 where no class is, i + 1 where classes[i] is, 255 where
the class is unknown. The outlines are a file of `run_lengths.py` with the mask of each box, in the order of the boxes.

Format 1 had "recipe" instead of "tasks", and a label for every image. Versions before multi-label datasets wrote no
"labels", those before folds no "group", and those before instance segmentation no "outlines"; the format has kept its
number, because every older file is read as before.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from trainingapp.contract.messages import Message, MessageError
from trainingapp.contract.messages.dataset_files import (
    BOX_INVALID,
    BOX_OUTSIDE,
    BOXES_INVALID,
    FILE_MISSING,
    FORMAT_UNKNOWN,
    LABEL_INVALID,
    LABELS_INVALID,
    LINE_OF_FILE,
    NOT_A_NAME_LIST,
    NOT_A_STRING,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF8,
    PATH_INVALID,
    SIZE_INVALID,
    SPLIT_INVALID,
)
from trainingapp.contract.old_names import with_new_names

if TYPE_CHECKING:
    from trainingapp.contract.deep_images import Conversion

DATASET_FILE = "dataset.json"
SAMPLES_FILE = "samples.jsonl"
FORMAT = 2
IGNORED_PIXEL = 255
MOST_MASK_CLASSES = 254

Split = Literal["train", "val"]

LabelMode = Literal["single", "multi"]
"""Whether an image has exactly one class of its own, or any number of them."""

#: A file, or a file with a line.
Where = Message | str


class DatasetIndexError(MessageError, ValueError):
    """A file of a dataset folder is missing or not what the import writes."""


@dataclass(frozen=True, slots=True)
class Box:
    """An object: its class and its box in pixels, right and bottom exclusive."""

    label: int
    left: float
    top: float
    right: float
    bottom: float
    crowd: bool = False

    def values(self) -> list[float]:
        """A line of the file as JSON."""
        return [self.label, self.left, self.top, self.right, self.bottom, *([1] if self.crowd else [])]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with what is known of it; see the head of the module.

    `label` is -1 where it has none of its own. `labels` are all classes of an image of a multi-label dataset, in
    ascending order; None in other datasets. `group` is "" or common to images that must not be divided between training
    and validation.
    """

    path: str
    label: int
    split: Split
    width: int
    height: int
    boxes: Sequence[Box] = ()
    mask: str = ""
    labels: tuple[int, ...] | None = None
    group: str = ""
    outlines: str = ""

    def line(self) -> str:
        """The JSON line of the sample."""
        values: dict[str, object] = {
            "path": self.path,
            "split": self.split,
            "width": self.width,
            "height": self.height,
        }
        if self.label >= 0:
            values["label"] = self.label
        if self.labels is not None:
            values["labels"] = list(self.labels)
        if self.boxes:
            values["boxes"] = [box.values() for box in self.boxes]
        if self.mask:
            values["mask"] = self.mask
        if self.outlines:
            values["outlines"] = self.outlines
        if self.group:
            values["group"] = self.group
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class DatasetIndex:
    """What a dataset folder holds. `classes` are in the order of the label numbers."""

    folder: Path
    name: str
    tasks: list[str]
    classes: list[str]
    fingerprint: str
    samples: list[Sample] = field(repr=False)
    conversion: "Conversion | None" = None
    """How deep images are converted to 8 bits. The import stores them converted."""

    def split(self, name: Split) -> list[Sample]:
        """The samples of one split, in the order of the file."""
        return [sample for sample in self.samples if sample.split == name]

    @property
    def label_mode(self) -> LabelMode:
        """Multi where the images have lists of labels."""
        return "multi" if any(sample.labels is not None for sample in self.samples) else "single"


def write_index(
    folder: Path,
    *,
    name: str,
    tasks: list[str],
    classes: list[str],
    fingerprint: str,
    samples: Iterable[Sample],
    conversion: "Conversion | None" = None,
) -> None:
    """Write both files into `folder`. Raises DatasetIndexError for a sample that `read_index` would refuse."""
    about: dict[str, object] = {"format": FORMAT, "tasks": tasks, "name": name, "classes": classes}
    about["fingerprint"] = fingerprint
    if conversion:
        about["conversion"] = conversion.as_data()
    with (folder / SAMPLES_FILE).open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples, start=1):
            line = sample.line()
            parse_sample(json.loads(line), len(classes), LINE_OF_FILE(path=SAMPLES_FILE, line=number))
            file.write(line + "\n")
    (folder / DATASET_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> DatasetIndex:
    """Read a dataset folder. Raises DatasetIndexError, which names the file and line that is missing or wrong."""
    about = _about(folder / DATASET_FILE)
    return DatasetIndex(
        folder=folder,
        name=about["name"],
        tasks=about["tasks"],
        classes=about["classes"],
        fingerprint=about["fingerprint"],
        samples=_samples(folder / SAMPLES_FILE, len(about["classes"])),
        conversion=_conversion(about),
    )


def _conversion(about: dict[str, Any]) -> "Conversion | None":
    if not about.get("conversion"):
        return None
    from trainingapp.contract.deep_images import Conversion  # it needs numpy, which takes long to load

    return Conversion.from_data(about["conversion"])


def _about(path: Path) -> dict[str, Any]:
    values = with_new_names(_json_object(_text(path), str(path)))
    if values.get("format") not in (1, FORMAT):
        raise DatasetIndexError(FORMAT_UNKNOWN(path=str(path), given=repr(values.get("format")), newest=FORMAT))
    if values["format"] == 1:
        values["tasks"] = [values.get("task")]
    for key in ("name", "fingerprint"):
        if not isinstance(values.get(key), str):
            raise DatasetIndexError(NOT_A_STRING(path=str(path), key=repr(key)))
    for key in ("classes", "tasks"):
        names = values.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DatasetIndexError(NOT_A_NAME_LIST(path=str(path), key=repr(key)))
    return values


def _samples(path: Path, class_count: int) -> list[Sample]:
    samples, file = [], str(path)
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line:
            where = LINE_OF_FILE(path=file, line=number)
            samples.append(parse_sample(_json_object(line, where), class_count, where))
    return samples


def parse_sample(values: Mapping[str, object], class_count: int, where: Where) -> Sample:
    """Check one line and build its sample. Raises DatasetIndexError that begins with `where`.

    A path that leads out of the dataset folder is refused: the file may come from anywhere.
    """
    if values.get("split") not in get_args(Split):
        raise DatasetIndexError(SPLIT_INVALID(where=where, given=repr(values.get("split"))))
    boxes = values.get("boxes", [])
    if not isinstance(boxes, list):
        raise DatasetIndexError(BOXES_INVALID(where=where))
    size = (_side(values.get("width"), "width", where), _side(values.get("height"), "height", where))
    return Sample(
        path=_inner_path(values.get("path"), "path", where),
        label=_label(values["label"], class_count, where) if values.get("label") is not None else -1,
        split=cast(Split, values["split"]),
        width=size[0],
        height=size[1],
        boxes=tuple(_box(box, class_count, size, where) for box in boxes),
        mask=_inner_path(values["mask"], "mask", where) if values.get("mask") else "",
        labels=_labels(values["labels"], class_count, where) if values.get("labels") is not None else None,
        group=str(values.get("group") or ""),
        outlines=_inner_path(values["outlines"], "outlines", where) if values.get("outlines") else "",
    )


def _side(pixels: object, key: str, where: Where) -> int:
    if type(pixels) is not int or pixels < 1:
        raise DatasetIndexError(SIZE_INVALID(where=where, key=repr(key), given=repr(pixels)))
    return pixels


def _inner_path(path: object, key: str, where: Where) -> str:
    if not isinstance(path, str) or not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise DatasetIndexError(PATH_INVALID(where=where, key=repr(key), given=repr(path)))
    return path


def _label(label: object, class_count: int, where: Where) -> int:
    if type(label) is not int or not 0 <= label < class_count:
        raise DatasetIndexError(LABEL_INVALID(where=where, most=class_count - 1, given=repr(label)))
    return label


def _labels(labels: object, class_count: int, where: Where) -> tuple[int, ...]:
    if not isinstance(labels, list):
        raise DatasetIndexError(LABELS_INVALID(where=where, given=repr(labels)))
    found = [_label(label, class_count, where) for label in labels]
    if found != sorted(set(found)):
        raise DatasetIndexError(LABELS_INVALID(where=where, given=repr(labels)))
    return tuple(found)


def _box(values: object, class_count: int, size: tuple[int, int], where: Where) -> Box:
    if not isinstance(values, list) or len(values) not in (5, 6) or not all(type(v) in (int, float) for v in values):
        raise DatasetIndexError(BOX_INVALID(where=where, given=repr(values)))
    left, top, right, bottom = values[1:5]
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise DatasetIndexError(BOX_OUTSIDE(where=where, box=repr(values[1:5]), width=size[0], height=size[1]))
    return Box(_label(values[0], class_count, where), left, top, right, bottom, crowd=bool(values[5:] and values[5]))


def _json_object(text: str, where: Where) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DatasetIndexError(NOT_JSON(where=where, error=str(error))) from None
    if not isinstance(values, dict):
        raise DatasetIndexError(NOT_AN_OBJECT(where=where))
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetIndexError(FILE_MISSING(path=str(path))) from None
    except UnicodeDecodeError as error:
        raise DatasetIndexError(NOT_UTF8(path=str(path), error=str(error))) from None
