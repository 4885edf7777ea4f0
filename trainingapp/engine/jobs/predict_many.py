"""Predict images on the server: params {"card", "weights", "dataset_dir", "split"} or {"card", "weights", "folder"}.

"device" and "device_uuid" name the GPU that the studio assigned to the job; without them it computes on the CPU. Images
are predicted in batches, which become smaller where the memory of the device is too small.

Writes FOLDER/predictions.jsonl, one prediction per line with its "path" (see `predictor.py`; boxes after suppression at
the card's thresholds). Where labels are known, the result has "values" (the metrics of a validation), "columns" and
"per_class"; otherwise "unmeasured" is the reason. A "notice" says what to consider about the metrics.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.contract.dataset_index import DatasetIndex, Sample, read_index
from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.errors import BadData, is_out_of_memory
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.folds import folded
from trainingapp.contract.job_request import JobRequest, Params
from trainingapp.contract.messages import Message, message_of
from trainingapp.contract.messages.engine_jobs import (
    CLASSES_UNKNOWN,
    CONVERSION_DIFFERS,
    FOLD_SPLITS,
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
from trainingapp.contract.prediction import Prepared, suppressed
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.device import assigned_gpu, available_threads, device_name
from trainingapp.engine.machine import available_cores
from trainingapp.engine.memory import release
from trainingapp.engine.networks import load_network, load_plain_network
from trainingapp.engine.predictor import BatchPredictor, prepared_ahead
from trainingapp.engine.tasks.registry import make_task
from trainingapp.engine.tasks.task import Found

LINES_FILE = "predictions.jsonl"
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
MOST_IMAGES = 20_000
#: Threads that decode images.
MOST_THREADS = 12


def run(request: JobRequest) -> dict[str, object]:
    torch.set_num_threads(max(1, available_threads() // 2))  # beside runs that train
    card, params = request.params["card"], request.params
    weights = Path(params["weights"])
    device = _device(params)
    why_not: Message | None = None
    result: dict[str, object] = {}
    if params.get("dataset_dir"):
        try:
            index = read_index(Path(params["dataset_dir"]))
        except ValueError as error:
            raise BadData(message_of(error)) from error
        if folds := _folds_of(index, card):
            index, notice = folded(index, folds, card["config"]["fold"]), FOLD_SPLITS(fold=card["config"]["fold"])
            result |= {"notice": str(notice), "notice_data": notice.as_data()}
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
    problems = _write_lines(
        request, BatchPredictor(load_plain_network(card, weights), card, device), root, paths, total
    )
    result |= {"images": len(paths) - problems, "problems": problems, "file": LINES_FILE, "device": device_name(device)}
    if measured is None:
        return {**result, **_unmeasured(why_not or NO_LABELS())}
    if problems:
        return {**result, **_unmeasured(IMAGES_UNREADABLE())}
    return {**result, **_measured(request, card, weights, device, measured, total)}


def _folds_of(index: DatasetIndex, card: Card) -> int:
    """The folds of the run that trained the model, where this is its dataset: of the splits, it has seen both."""
    return int(card["config"].get("folds", 0)) if index.fingerprint == card.get("dataset_fingerprint") else 0


def _device(params: Params) -> torch.device:
    """The device of the job. Raises DeviceUnavailable."""
    name = str(params.get("device") or "cpu")
    return torch.device("cpu") if name == "cpu" else assigned_gpu(name, str(params.get("device_uuid", "")))


def _unmeasured(reason: Message) -> dict[str, object]:
    return {"unmeasured": str(reason), "unmeasured_data": reason.as_data()}


def _write_lines(request: JobRequest, predictor: BatchPredictor, root: Path, paths: Sequence[Path], total: int) -> int:
    """Predict each image; returns how many could not be read."""
    card, problems, done = request.params["card"], 0, 0
    threads = max(1, min(MOST_THREADS, available_cores() // 2))
    groups = prepared_ahead(paths, card, together=predictor.batch_size, threads=threads)
    request.report(0, total, PREDICTING())
    with (request.folder / LINES_FILE).open("w", encoding="utf-8") as file:
        for images in groups:
            found = iter(predictor.predict([image for image in images if isinstance(image, Prepared)]))
            for path, image in zip(paths[done : done + len(images)], images, strict=True):
                values = {"problem": str(image)} if isinstance(image, Exception) else _values(next(found), card)
                problems += "problem" in values
                file.write(json.dumps({"path": str(path.relative_to(root)), **values}, ensure_ascii=False) + "\n")
            done += len(images)
            request.report(done, total, PREDICTING())
    return problems


def _values(found: Found, card: Card) -> dict[str, object]:
    """What the file holds of a prediction: of boxes those that remain at the card's thresholds."""
    if found.boxes is None:
        return found.values
    if found.masks is not None:  # the network itself suppresses; boxes and masks belong together
        pairs = [pair for pair in zip(found.boxes, found.masks, strict=True) if pair[0][1] >= card["confidence"]]
        return {**found.values, "boxes": [box for box, _mask in pairs], "masks": [mask for _box, mask in pairs]}
    sure = [row for row in found.boxes if row[1] >= card["confidence"]]
    return {**found.values, "boxes": suppressed(sure, card["iou"], card["max_boxes"])}


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


def _measured(
    request: JobRequest, card: Card, weights: Path, device: torch.device, index: DatasetIndex, total: int
) -> dict[str, object]:
    """The metrics that a validation of a run would give for these images; in smaller batches where memory runs out."""
    config = parse_config({**card["config"], "num_workers": 0, "device": "cpu", "amp": "off"})
    twice = [replace(one, split="train") for one in (index.samples * 2)[: max(2, len(index.samples))]]
    conversion = Conversion.from_data(card.get("conversion"))
    whole = replace(index, samples=[*twice, *index.samples], conversion=conversion)
    network = load_network(card, weights).to(device)
    while True:
        try:
            found = _evaluated(request, config, device, network, whole, total)
            break
        except (RuntimeError, MemoryError) as error:
            if config.batch_size == 1 or not is_out_of_memory(error):
                raise
        config = config.model_copy(update={"batch_size": config.batch_size // 2})
        release(device)
    columns = [vars(column) for column in found.columns]
    return {"values": found.values, "columns": columns, "per_class": found.per_class}


def _evaluated(
    request: JobRequest, config: RunConfig, device: torch.device, network: nn.Module, whole: DatasetIndex, total: int
) -> Evaluation:
    task = make_task(RunSpec(request.folder, config, whole.folder, request.folder, attempt=1), whole, device)
    meter, done = task.validation_meter(), total - len(whole.split("val"))
    for batch in task.val_batches():
        with torch.inference_mode():
            task.evaluate(network, batch, meter)
        done += batch.image_count
        request.report(done, total, MEASURING())
    return task.evaluation(meter)
