"""The results of prediction jobs, read from their files for the pages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pydantic import JsonValue

from trainingapp.contract.class_colours import class_colour
from trainingapp.contract.job_request import read_json
from trainingapp.contract.messages import MessageData
from trainingapp.contract.model_card import Card, with_task
from trainingapp.contract.old_names import deep_with_new_names
from trainingapp.contract.prediction import suppressed, thresholds_of
from trainingapp.contract.run_lengths import path_of
from trainingapp.contract.tasks.descriptor import BOXES_KINDS
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Job

PREDICTIONS_FILE = "predictions.json"
#: Boxes that the page draws before a script takes over.
BOXES_DRAWN = 60


class Guess(TypedDict):
    """A class with its probability. `threshold` is None where an image has exactly one class."""

    name: str
    share: float
    threshold: float | None
    is_reached: bool


class DrawnBox(TypedDict):
    """A box as the page draws it, in pixels of the image."""

    name: str
    colour: str
    score: float
    x: str
    y: str
    w: str
    h: str
    outline: str
    """The path around the mask of the object; empty without one."""


class Area(TypedDict):
    """The share of an image that a class covers."""

    name: str
    share: float
    colour: str


class PredictedImage(TypedDict, total=False):
    """An image of a prediction job: what the engine wrote (see `engine/jobs/predict.py`), and what pages draw of it."""

    name: str
    problem: str | MessageData
    number: int
    width: int
    height: int
    milliseconds: float
    #: [class number, probability]
    classes: list[tuple[int, float]]
    #: Class numbers that reach their threshold, where an image can have several labels
    labels: list[int]
    #: [class number, score, left, top, right, bottom]
    boxes: list[list[float]]
    #: The packed run lengths of the mask of each box; see `contract/run_lengths.py`
    masks: list[str]
    #: Class name -> share of the image
    shares: dict[str, float]
    guesses: list[Guess]
    drawn: list[DrawnBox]
    areas: list[Area]


class ScriptData(TypedDict):
    """What the script of the page draws from."""

    classes: list[str]
    colours: list[str]
    images: list[dict[str, JsonValue]]


@dataclass(frozen=True)
class Predictions:
    """The images of a job as the page shows them at first, at the thresholds of the model."""

    kind: str
    """A `PredictionKind`; empty for a task that is not installed."""

    classes: list[str]
    confidence: float
    iou: float
    images: list[PredictedImage]

    @property
    def has_boxes(self) -> bool:
        return self.kind in BOXES_KINDS


def read_predictions(job: Job) -> Predictions | None:
    """None where the files were removed."""
    found = read_json(job.folder / PREDICTIONS_FILE)
    if found is None:
        return None
    card: Card = job.params["card"]
    images = [_shown(one, card) for one in found["images"]]
    task = TASKS.get(card["task"])  # None for a task that is no longer installed: its images are shown without results
    kind = task.prediction if task else ""
    return Predictions(kind, card["classes"], card["confidence"], card["iou"], images)


def _shown(one: PredictedImage, card: Card) -> PredictedImage:
    """The image with what the page draws of it at the thresholds of the card."""
    classes: list[str] = card["classes"]
    shown: PredictedImage = {**one}
    if "classes" in one:
        thresholds = thresholds_of(with_task(card))
        reached = one.get("labels")
        shown["guesses"] = [
            {
                "name": classes[label],
                "share": share,
                "threshold": thresholds[label] if thresholds else None,
                "is_reached": reached is None or label in reached,
            }
            for label, share in one["classes"]
        ]
    if "boxes" in one:
        sure = [row for row in one["boxes"] if row[1] >= card["confidence"]]
        if "masks" in one:  # the network itself has chosen these
            paths = zip(sure[:BOXES_DRAWN], one["masks"], strict=False)
            shown["drawn"] = [_box(row, classes, path_of(mask, one["height"], one["width"])) for row, mask in paths]
        else:
            shown["drawn"] = [_box(row, classes) for row in suppressed(sure, card["iou"], BOXES_DRAWN)]
    if "shares" in one:
        shown["areas"] = [
            {"name": name, "share": share, "colour": class_colour(classes.index(name))}
            for name, share in one["shares"].items()
        ]
    return shown


def _box(row: list[float], classes: list[str], outline: str = "") -> DrawnBox:
    label, score, left, top, right, bottom = row
    return {
        "name": classes[int(label)],
        "colour": class_colour(int(label)),
        "score": score,
        "x": f"{left:.1f}",
        "y": f"{top:.1f}",
        "w": f"{right - left:.1f}",
        "h": f"{bottom - top:.1f}",
        "outline": outline,
    }


def script_data(job: Job) -> ScriptData:
    """The raw boxes, with the outlines of their objects, so that the sliders of the page need no worker."""
    found = deep_with_new_names(read_json(job.folder / PREDICTIONS_FILE) or {"images": []})
    card = job.params["card"]
    return {
        "classes": card["classes"],
        "colours": [class_colour(label) for label in range(len(card["classes"]))],
        "images": [
            {name: one[name] for name in ("number", "boxes", "width", "height") if name in one} | _outlines(one)
            for one in found["images"]
        ],
    }


def _outlines(one: dict[str, Any]) -> dict[str, JsonValue]:
    """The path around each object of an image, where it has masks."""
    if "masks" not in one:
        return {}
    return {"outlines": [path_of(mask, one["height"], one["width"]) for mask in one["masks"]]}


def prediction_lines(path: Path, limit: int) -> list[PredictedImage]:
    """The first lines of a file of many predictions."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _number in zip(file, range(limit), strict=False)]
