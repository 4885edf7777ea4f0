"""The result of a validation, as a file that pages read: RUN_DIR/evaluations/epoch_{n}.json (no torch).

{"format": 1, "task": str, "epoch": int, "step": int, "classes": [str, ...], "values": {metric: float},
 "score": what the images' scores are, such as "loss"; "score_higher_is_better": bool,
 "columns": [{"name": str, "label": str, "is_share": bool}, ...],
 "per_class": [{"class": str, column name: number or null, ...}, ...],
 "confusion": {"names": [str, ...], "counts": [[int, ...], ...]} or null   rows: true class, columns: predicted
 "curves": [{"name", "title", "x", "y", "series": [{"label": str, "points": [[x, y], ...]}, ...]}, ...],
 "best_confidence": float or null,
 "thresholds": [float, ...] or null                           of each class, where an image can have several
 "images": [{"index": int, "path": str, "score": float, "labels": [int, ...]}, ...]   the worst and the best of each
                                                                                        class, the worst first
 "fixed": [index, ...]                                        the same images at every validation
 "paths": {index as text: path}                               of those and of `images`
 "predictions": {index as text: prediction}}                  of those, and of `images` where a task keeps them

An index counts the images of the validation split. A prediction is one of
    {"classes": [[label, probability], ...], "labels": [label, ...]}   the most likely first; labels are those that
                                                              reach their threshold, where an image can have several
    {"boxes": [[label, confidence, left, top, right, bottom], ...]}   in pixels of the upright image; with "masks", the
                                                              packed run lengths of each (see `run_lengths.py`)
    {"mask": "epoch_{n}/{index}.png"}                          beside this file; pixels as in a dataset's masks, at the
                                                              size that the model saw, without the padding
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from trainingapp.contract.old_names import OLD_KEYS, deep_with_new_names, with_new_names

if TYPE_CHECKING:
    from trainingapp.contract.image_results import ImageResults

EVALUATIONS_DIR = "evaluations"
FORMAT = 1
FIXED_IMAGES = 12
SHOWN_PER_CLASS = 8
LARGEST_CONFUSION = 200
"""Classes up to which the confusion matrix is kept: beyond, it is unreadable and the file would take megabytes."""


ClassRow = dict[str, str | float | None]
"""A row of the table by class: "class" and a value for each column, None where it is not defined."""


class StoredPrediction(TypedDict, total=False):
    """One of the three forms of a prediction in the file."""

    classes: list[list[float]]
    labels: list[int]
    boxes: list[list[float]]
    masks: list[str]
    mask: str


@dataclass(frozen=True)
class Column:
    """A column of the table by class."""

    name: str
    label: str
    is_share: bool = True


@dataclass(frozen=True)
class Curve:
    """Lines over a common axis; `series` is [(label, [(x, y), ...]), ...]."""

    name: str
    title: str
    x: str
    y: str
    series: list[tuple[str, list[tuple[float, float]]]]


@dataclass(frozen=True)
class ImageScore:
    """The score of a validation image; `labels` are the classes that it shows."""

    index: int
    score: float
    labels: tuple[int, ...]


@dataclass
class Evaluation:
    """The result of a task's validation. `values` are the metrics by name."""

    values: dict[str, float]
    score: str
    score_higher_is_better: bool
    columns: list[Column] = field(default_factory=list)
    per_class: list[ClassRow] = field(default_factory=list)
    confusion_names: list[str] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    curves: list[Curve] = field(default_factory=list)
    best_confidence: float | None = None
    thresholds: list[float] | None = None
    images: list[ImageScore] = field(default_factory=list)
    predictions: dict[int, StoredPrediction] = field(default_factory=dict)
    mask_pngs: dict[int, bytes] = field(default_factory=dict)
    """Predicted masks as files; those of the images shown become predictions."""

    image_results: "ImageResults | None" = None
    """The result of every image, for comparisons; see `contract/image_results.py`."""


def fixed_indices(count: int) -> list[int]:
    """At most FIXED_IMAGES indices spread evenly over `count` validation images: the same at every call."""
    chosen = min(count, FIXED_IMAGES)
    return [number * count // chosen for number in range(chosen)] if chosen else []


def notable_images(found: Evaluation, class_count: int) -> list[ImageScore]:
    """The SHOWN_PER_CLASS worst and best images of each class and of those without a class, each once, the worst of all
    first."""
    worst_first = sorted(found.images, key=lambda one: one.score, reverse=not found.score_higher_is_better)
    kept: dict[int, ImageScore] = {}
    groups = [[one for one in worst_first if label in one.labels] for label in range(class_count)]
    for of_class in [*groups, [one for one in worst_first if not one.labels]]:
        kept |= {one.index: one for one in [*of_class[:SHOWN_PER_CLASS], *of_class[-SHOWN_PER_CLASS:]]}
    return [one for one in worst_first if one.index in kept]


def evaluation_path(run_dir: Path, epoch: int) -> Path:
    return run_dir / EVALUATIONS_DIR / f"epoch_{epoch}.json"


def image_results_path(run_dir: Path, epoch: int) -> Path:
    return evaluation_path(run_dir, epoch).with_suffix(".npz")


def write_evaluation(
    run_dir: Path, found: Evaluation, *, task: str, epoch: int, step: int, classes: list[str], paths: list[str]
) -> None:
    """Write the file, and that of the results of all images, each atomically.

    `paths` are those of the validation split. Raises OSError.
    """
    images = notable_images(found, len(classes))
    fixed = fixed_indices(len(paths))
    shown = {one.index for one in images} | set(fixed)
    predictions = found.predictions | _write_masks(evaluation_path(run_dir, epoch), found.mask_pngs, shown)
    content = {
        "format": FORMAT,
        "task": task,
        "epoch": epoch,
        "step": step,
        "classes": classes,
        "values": found.values,
        "score": found.score,
        "score_higher_is_better": found.score_higher_is_better,
        "columns": [vars(column) for column in found.columns],
        "per_class": found.per_class,
        "confusion": {"names": found.confusion_names, "counts": found.confusion} if found.confusion else None,
        "curves": [
            {**vars(curve), "series": [{"label": label, "points": points} for label, points in curve.series]}
            for curve in found.curves
        ],
        "best_confidence": found.best_confidence,
        "thresholds": found.thresholds,
        "images": [
            {"index": one.index, "path": paths[one.index], "score": one.score, "labels": list(one.labels)}
            for one in images
        ],
        "fixed": fixed,
        "paths": {str(index): paths[index] for index in sorted(shown)},
        "predictions": {str(index): made for index, made in sorted(predictions.items()) if index in shown},
    }
    from trainingapp.contract.image_results import write_image_results  # it needs numpy, which takes long to load

    path = evaluation_path(run_dir, epoch)
    path.parent.mkdir(exist_ok=True)
    write_image_results(image_results_path(run_dir, epoch), found.image_results, step=step, paths=paths)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def _write_masks(path: Path, mask_pngs: dict[int, bytes], shown: set[int]) -> dict[int, StoredPrediction]:
    """Write the masks of the images in `shown` into a folder beside the file `path`: their predictions."""
    folder = path.with_suffix("")
    chosen = {index: png for index, png in mask_pngs.items() if index in shown}
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
    for index, png in chosen.items():
        (folder / f"{index}.png").write_bytes(png)
    return {index: {"mask": f"{folder.name}/{index}.png"} for index in chosen}


def read_evaluation(run_dir: Path, epoch: int) -> dict[str, Any] | None:
    """The content of the file; None where there is no file or it cannot be read."""
    try:
        content: dict[str, Any] = with_new_names(
            json.loads(evaluation_path(run_dir, epoch).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError):
        return None
    for rows in ("columns", "per_class"):  # of version 0.1, which counted "pictures"
        content[rows] = deep_with_new_names(content.get(rows, []))
    for column in content["columns"]:
        if column["name"] in OLD_KEYS:
            column.update(name=OLD_KEYS[column["name"]], label="Images")
    return content if content.get("format") == FORMAT else None


def evaluated_epochs(run_dir: Path) -> list[int]:
    """The epochs that have a file, in order."""
    numbers = (path.stem.removeprefix("epoch_") for path in (run_dir / EVALUATIONS_DIR).glob("epoch_*.json"))
    return sorted(int(number) for number in numbers if number.isdecimal())
