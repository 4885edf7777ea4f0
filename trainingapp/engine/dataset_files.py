"""The two files that describe a dataset folder, written by the import and read by the trainer (no torch).

dataset.json    {"format": 1, "recipe": str, "name": str, "classes": [str, ...], "fingerprint": SHA-256 in hex}
samples.jsonl   one line per picture: {"path", "label", "split", "width", "height"}; path is relative to the folder,
                with forward slashes, label is an index into classes, width and height are pixels
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast, get_args

DATASET_FILE = "dataset.json"
SAMPLES_FILE = "samples.jsonl"
FORMAT = 1

Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its label; `path` is relative to the dataset folder, sizes are pixels."""

    path: str
    label: int
    split: Split
    width: int
    height: int


@dataclass(frozen=True)
class DatasetIndex:
    """What a dataset folder holds. `classes` are in the order of the label numbers."""

    folder: Path
    name: str
    recipe: str
    classes: list[str]
    fingerprint: str
    samples: list[Sample] = field(repr=False)

    def split(self, name: Split) -> list[Sample]:
        """The samples of one split, in the order of the file."""
        return [sample for sample in self.samples if sample.split == name]


def write_index(
    folder: Path, *, name: str, recipe: str, classes: list[str], fingerprint: str, samples: Iterable[Sample]
) -> None:
    """Write both files into `folder`. Raises ValueError for a sample that `read_index` would refuse."""
    about = {"format": FORMAT, "recipe": recipe, "name": name, "classes": classes, "fingerprint": fingerprint}
    with (folder / SAMPLES_FILE).open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples, start=1):
            values = asdict(sample)
            _sample(values, len(classes), f"{SAMPLES_FILE} line {number}")
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
    (folder / DATASET_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> DatasetIndex:
    """Read a dataset folder. Raises ValueError, naming file and line, where something is missing or wrong."""
    about = _about(folder / DATASET_FILE)
    return DatasetIndex(
        folder=folder,
        name=about["name"],
        recipe=about["recipe"],
        classes=about["classes"],
        fingerprint=about["fingerprint"],
        samples=_samples(folder / SAMPLES_FILE, len(about["classes"])),
    )


def _about(path: Path) -> dict[str, Any]:
    values = _json_object(_text(path), str(path))
    if values.get("format") != FORMAT:
        raise ValueError(f"{path}: format is {values.get('format')!r}; this version reads format {FORMAT}.")
    for key in ("name", "recipe", "fingerprint"):
        if not isinstance(values.get(key), str):
            raise ValueError(f"{path}: {key!r} must be a text.")
    classes = values.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{path}: 'classes' must be a list of names with at least one entry.")
    return values


def _samples(path: Path, class_count: int) -> list[Sample]:
    samples = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line:
            where = f"{path} line {number}"
            samples.append(_sample(_json_object(line, where), class_count, where))
    return samples


def _sample(values: dict[str, Any], class_count: int, where: str) -> Sample:
    """Check one line. A path that leads out of the dataset folder is refused: the file may come from anywhere."""
    path, label, split = values.get("path"), values.get("label"), values.get("split")
    if not isinstance(path, str) or not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{where}: 'path' must be a relative path within the dataset, not {path!r}.")
    if type(label) is not int or not 0 <= label < class_count:
        raise ValueError(f"{where}: 'label' must be a whole number from 0 to {class_count - 1}, not {label!r}.")
    if split not in get_args(Split):
        raise ValueError(f"{where}: 'split' must be 'train' or 'val', not {split!r}.")
    for key in ("width", "height"):
        if type(values.get(key)) is not int or values[key] < 1:
            raise ValueError(f"{where}: {key!r} must be a whole number of pixels, not {values.get(key)!r}.")
    return Sample(path, label, cast(Split, split), values["width"], values["height"])


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must be a JSON object.")
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}).") from None
