"""What prediction jobs found, read from their files for the pages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.job_order import read_json
from trainingapp.contract.old_names import deep_with_new_names
from trainingapp.contract.prediction import suppressed
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Job

PREDICTIONS_FILE = "predictions.json"
#: Boxes that the page draws before a script takes over.
BOXES_DRAWN = 60


@dataclass(frozen=True)
class Predictions:
    """The images of a job as the page shows them at first, at the thresholds of the weights."""

    kind: str
    """"classes", "boxes" or "mask"."""

    classes: list[str]
    confidence: float
    iou: float
    images: list[dict[str, Any]]


def read_predictions(job: Job) -> Predictions | None:
    """None where the files are gone."""
    found = read_json(job.folder / PREDICTIONS_FILE)
    if found is None:
        return None
    card = job.params["card"]
    images = [_shown(one, card) for one in found["images"]]
    return Predictions(TASKS[card["task"]].prediction, card["classes"], card["confidence"], card["iou"], images)


def _shown(one: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    classes: list[str] = card["classes"]
    shown = dict(one)
    if "classes" in one:
        shown["guesses"] = [{"name": classes[label], "share": share} for label, share in one["classes"]]
    if "boxes" in one:
        sure = [row for row in one["boxes"] if row[1] >= card["confidence"]]
        shown["drawn"] = [_box(row, classes) for row in suppressed(sure, card["iou"], BOXES_DRAWN)]
    if "shares" in one:
        shown["areas"] = [
            {"name": name, "share": share, "colour": class_colour(classes.index(name))}
            for name, share in one["shares"].items()
        ]
    return shown


def _box(row: list[float], classes: list[str]) -> dict[str, Any]:
    label, score, left, top, right, bottom = row
    return {
        "name": classes[int(label)],
        "colour": class_colour(int(label)),
        "score": score,
        "x": f"{left:.1f}",
        "y": f"{top:.1f}",
        "w": f"{right - left:.1f}",
        "h": f"{bottom - top:.1f}",
    }


def script_data(job: Job) -> dict[str, Any]:
    """What the page's script is given: the raw boxes, so that its sliders need no worker."""
    found = deep_with_new_names(read_json(job.folder / PREDICTIONS_FILE) or {"images": []})
    card = job.params["card"]
    return {
        "classes": card["classes"],
        "colours": [class_colour(label) for label in range(len(card["classes"]))],
        "images": [
            {name: one[name] for name in ("number", "boxes", "width", "height") if name in one}
            for one in found["images"]
        ],
    }


def prediction_lines(path: Path, limit: int) -> list[dict[str, Any]]:
    """The first lines of a file of many predictions."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _number in zip(file, range(limit), strict=False)]
