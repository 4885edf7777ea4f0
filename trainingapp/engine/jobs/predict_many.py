"""Predict images on the server: params {"card", "weights", "dataset_dir", "split"} or {"card", "weights", "folder"}.

Writes FOLDER/predictions.jsonl, one prediction per line with its "path" (see `predictor.py`; boxes after suppression at
the card's thresholds). Where labels are known, the result has "values" (the metrics of a validation), "columns" and
"per_class"; otherwise "unmeasured" is the reason. A "notice" says what to consider about the metrics.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import DatasetIndex, Sample, read_index
from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.messages import Message, message_of
from trainingapp.contract.messages.engine_jobs import (
    CLASSES_UNKNOWN,
    CONVERSION_DIFFERS,
    IMAGES_UNREADABLE,
    LABELS_DIFFER,
    MASK_CLASSES_DIFFER,
    MEASURING,
    NO_ANNOTATIONS,
    NO_IMAGES,
    NO_LABELS,
    PREDICTING,
    TOO_MANY_IMAGES,
)
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import suppressed
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.data.images import UNREADABLE
from trainingapp.engine.device import available_threads
from trainingapp.engine.networks import load_network, load_plain_network
from trainingapp.engine.predictor import predicted
from trainingapp.engine.tasks.registry import make_task

LINES_FILE = "predictions.jsonl"
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
MOST_IMAGES = 20_000


def run(request: JobRequest) -> dict[str, object]:
    torch.set_num_threads(max(1, available_threads() // 2))  # beside runs that train
    card, params = request.params["card"], request.params
    weights = Path(params["weights"])
    why_not: Message | None = None
    result: dict[str, object] = {}
    if params.get("dataset_dir"):
        try:
            index = read_index(Path(params["dataset_dir"]))
        except ValueError as error:
            raise BadData(message_of(error)) from error
        chosen = [sample for sample in index.samples if params["split"] in ("all", sample.split)]
        root, paths = index.folder, [index.folder / sample.path for sample in chosen]
        measured, why_not = _measurable(replace(index, samples=chosen), card)
        conversion = Conversion.from_data(card.get("conversion"))
        if conversion and index.conversion and conversion != index.conversion:
            notice = CONVERSION_DIFFERS()
            result |= {"notice": str(notice), "notice_data": notice.as_data()}
    else:
        root = Path(params["folder"])
        found = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES)
        paths = [path for path in found if path.is_file() and not path.is_symlink()]
        if len(paths) > MOST_IMAGES:
            raise BadData(TOO_MANY_IMAGES(most=MOST_IMAGES))
        measured = _labelled(root, paths, card)
    if not paths:
        raise BadData(NO_IMAGES())
    total = len(paths) * (2 if measured else 1)
    problems = _write_lines(request, card, weights, root, paths, total)
    result |= {"images": len(paths) - problems, "problems": problems, "file": LINES_FILE}
    if measured is None:
        return {**result, **_unmeasured(why_not or NO_LABELS())}
    if problems:
        return {**result, **_unmeasured(IMAGES_UNREADABLE())}
    return {**result, **_measured(request, card, weights, measured, total)}


def _unmeasured(reason: Message) -> dict[str, object]:
    return {"unmeasured": str(reason), "unmeasured_data": reason.as_data()}


def _write_lines(request: JobRequest, card: Card, weights: Path, root: Path, paths: Sequence[Path], total: int) -> int:
    """Predict each image; returns how many could not be read."""
    network = load_plain_network(card, weights)
    problems = 0
    with (request.folder / LINES_FILE).open("w", encoding="utf-8") as file:
        for number, path in enumerate(paths):
            request.report(number, total, PREDICTING())
            try:
                values = predicted(network, card, path).values
            except UNREADABLE as error:
                problems += 1
                values = {"problem": str(error)}
            if "boxes" in values:
                sure = [row for row in values["boxes"] if row[1] >= card["confidence"]]
                values = {**values, "boxes": suppressed(sure, card["iou"], card["max_boxes"])}
            file.write(json.dumps({"path": str(path.relative_to(root)), **values}, ensure_ascii=False) + "\n")
    return problems


def _measurable(index: DatasetIndex, card: Card) -> tuple[DatasetIndex | None, Message | None]:
    """The dataset with the label numbers of the weights, or why the weights cannot be measured with its labels."""
    if card["task"] not in index.tasks:
        return None, NO_ANNOTATIONS(task=card["task"])
    if TASKS[card["task"]].annotation == "labels" and index.label_mode != card["config"].get("label_mode", "single"):
        return None, LABELS_DIFFER()
    unknown = [name for name in index.classes if name not in card["classes"]]
    if unknown:
        return None, CLASSES_UNKNOWN(names=unknown[:5])
    if TASKS[card["task"]].annotation == "masks" and index.classes != card["classes"]:
        return None, MASK_CLASSES_DIFFER()
    numbers = [card["classes"].index(name) for name in index.classes]
    samples = [
        replace(
            sample,
            label=numbers[sample.label] if sample.label >= 0 else -1,
            labels=None if sample.labels is None else tuple(sorted(numbers[label] for label in sample.labels)),
            boxes=tuple(replace(box, label=numbers[box.label]) for box in sample.boxes),
            split="val",
        )
        for sample in index.samples
    ]
    return replace(index, classes=list(card["classes"]), samples=samples), None


def _labelled(root: Path, paths: Sequence[Path], card: Card) -> DatasetIndex | None:
    """The dataset of a folder in which each image is in a folder with the name of its class; None for other folders."""
    names = {path.parent.name for path in paths}
    is_single = card["config"].get("label_mode", "single") == "single"
    if TASKS[card["task"]].annotation != "labels" or not is_single or not names <= set(card["classes"]):
        return None
    samples = [
        Sample(str(path.relative_to(root)), card["classes"].index(path.parent.name), "val", 1, 1) for path in paths
    ]
    return DatasetIndex(root, root.name, [card["task"]], list(card["classes"]), "", samples)


def _measured(request: JobRequest, card: Card, weights: Path, index: DatasetIndex, total: int) -> dict[str, object]:
    """The metrics that a validation of a run would give for these images."""
    config = parse_config({**card["config"], "num_workers": 0, "device": "cpu", "amp": "off"})
    twice = [replace(one, split="train") for one in (index.samples * 2)[: max(2, len(index.samples))]]
    conversion = Conversion.from_data(card.get("conversion"))
    whole = replace(index, samples=[*twice, *index.samples], conversion=conversion)
    task = make_task(
        RunSpec(request.folder, config, index.folder, request.folder, attempt=1), whole, torch.device("cpu")
    )
    network = load_network(card, weights)
    meter, done = task.validation_meter(), total - len(index.samples)
    for batch in task.val_batches():
        with torch.inference_mode():
            task.evaluate(network, batch, meter)
        done += len(batch.indices_N)
        request.report(done, total, MEASURING())
    found: Evaluation = task.evaluation(meter)
    columns = [vars(column) for column in found.columns]
    return {"values": found.values, "columns": columns, "per_class": found.per_class}
