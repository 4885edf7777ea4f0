"""What a validation found out, as a file that pages read: RUN_DIR/evaluations/epoch_{n}.json (no torch).

{"format": 1, "recipe": str, "epoch": int, "step": int, "classes": [str, ...], "values": {metric: float},
 "score": what the pictures' scores are, such as "loss"; "score_higher_is_better": bool,
 "columns": [{"name": str, "label": str, "is_share": bool}, ...],
 "per_class": [{"class": str, column name: number or null, ...}, ...],
 "confusion": {"names": [str, ...], "counts": [[int, ...], ...]} or null   rows: the truth, columns: the model's word
 "curves": [{"name", "title", "x", "y", "series": [{"label": str, "points": [[x, y], ...]}, ...]}, ...],
 "best_confidence": float or null,
 "pictures": [{"index": int, "path": str, "score": float, "labels": [int, ...]}, ...]   the worst and the best of each
                                                                                        class, the worst first
 "fixed": [index, ...]                                        the same pictures at every validation
 "paths": {index as text: path}                               of those and of `pictures`
 "predictions": {index as text: prediction}}                  of those, and of `pictures` where a recipe keeps them

An index counts the pictures of the validation split. A prediction is one of
    {"classes": [[label, probability], ...]}                  the likeliest first
    {"boxes": [[label, confidence, left, top, right, bottom], ...]}   in pixels of the upright picture
    {"mask": "epoch_{n}/{index}.png"}                          beside this file; pixels as in a dataset's masks, at the
                                                              size that the model saw, without the padding
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVALUATIONS_DIR = "evaluations"
FORMAT = 1
FIXED_PICTURES = 12
SHOWN_PER_CLASS = 8
LARGEST_CONFUSION = 200
"""Classes up to which the confusion matrix is kept: beyond, nobody reads it and the file would be megabytes."""


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
class PictureScore:
    """How well a validation picture was done; `labels` are the classes that it shows."""

    index: int
    score: float
    labels: tuple[int, ...]


@dataclass
class Evaluation:
    """What a recipe's validation meter knows in the end. `values` are the metrics, "loss" among them."""

    values: dict[str, float]
    score: str
    score_higher_is_better: bool
    columns: list[Column] = field(default_factory=list)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    confusion_names: list[str] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    curves: list[Curve] = field(default_factory=list)
    best_confidence: float | None = None
    pictures: list[PictureScore] = field(default_factory=list)
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    mask_pngs: dict[int, bytes] = field(default_factory=dict)
    """Predicted masks as files; those of the pictures shown become predictions."""


def _lines(curve: Curve) -> dict[str, Any]:
    return {**vars(curve), "series": [{"label": label, "points": points} for label, points in curve.series]}


def fixed_indices(count: int) -> list[int]:
    """At most FIXED_PICTURES indices spread evenly over `count` validation pictures: the same at every call."""
    wanted = min(count, FIXED_PICTURES)
    return [number * count // wanted for number in range(wanted)] if wanted else []


def telling_pictures(found: Evaluation, class_count: int) -> list[PictureScore]:
    """The SHOWN_PER_CLASS worst and best pictures of each class, each once, the worst of all first."""
    worst_first = sorted(found.pictures, key=lambda one: one.score, reverse=not found.score_higher_is_better)
    kept: dict[int, PictureScore] = {}
    for label in range(class_count):
        of_class = [one for one in worst_first if label in one.labels]
        kept |= {one.index: one for one in [*of_class[:SHOWN_PER_CLASS], *of_class[-SHOWN_PER_CLASS:]]}
    return [one for one in worst_first if one.index in kept]


def evaluation_path(run_dir: Path, epoch: int) -> Path:
    return run_dir / EVALUATIONS_DIR / f"epoch_{epoch}.json"


def write_evaluation(
    run_dir: Path, found: Evaluation, *, recipe: str, epoch: int, step: int, classes: list[str], paths: list[str]
) -> None:
    """Write the file, whole or not at all. `paths` are those of the validation split. Raises OSError."""
    pictures = telling_pictures(found, len(classes))
    fixed = fixed_indices(len(paths))
    shown = {one.index for one in pictures} | set(fixed)
    predictions = found.predictions | _write_masks(evaluation_path(run_dir, epoch), found.mask_pngs, shown)
    content = {
        "format": FORMAT,
        "recipe": recipe,
        "epoch": epoch,
        "step": step,
        "classes": classes,
        "values": found.values,
        "score": found.score,
        "score_higher_is_better": found.score_higher_is_better,
        "columns": [vars(column) for column in found.columns],
        "per_class": found.per_class,
        "confusion": {"names": found.confusion_names, "counts": found.confusion} if found.confusion else None,
        "curves": [_lines(curve) for curve in found.curves],
        "best_confidence": found.best_confidence,
        "pictures": [
            {"index": one.index, "path": paths[one.index], "score": one.score, "labels": list(one.labels)}
            for one in pictures
        ],
        "fixed": fixed,
        "paths": {str(index): paths[index] for index in sorted(shown)},
        "predictions": {str(index): made for index, made in sorted(predictions.items()) if index in shown},
    }
    path = evaluation_path(run_dir, epoch)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def _write_masks(path: Path, mask_pngs: dict[int, bytes], shown: set[int]) -> dict[int, dict[str, Any]]:
    """Write the masks of the pictures in `shown` into a folder beside the file `path`: their predictions."""
    folder = path.with_suffix("")
    chosen = {index: png for index, png in mask_pngs.items() if index in shown}
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
    for index, png in chosen.items():
        (folder / f"{index}.png").write_bytes(png)
    return {index: {"mask": f"{folder.name}/{index}.png"} for index in chosen}


def read_evaluation(run_dir: Path, epoch: int) -> dict[str, Any] | None:
    """The content of the file; None where there is none, or none that can be read."""
    try:
        content: dict[str, Any] = json.loads(evaluation_path(run_dir, epoch).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if content.get("format") == FORMAT else None


def evaluated_epochs(run_dir: Path) -> list[int]:
    """The epochs that have a file, in order."""
    numbers = (path.stem.removeprefix("epoch_") for path in (run_dir / EVALUATIONS_DIR).glob("epoch_*.json"))
    return sorted(int(number) for number in numbers if number.isdecimal())
