"""Runs with evaluation files as written by the trainer, for page tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.tiny import CLASSES
from tests.helpers.world import store_events
from trainingapp.contract.dataset_index import SAMPLES_FILE, Box, Sample, read_index, write_index
from trainingapp.contract.evaluation import Column, Curve, Evaluation, ImageScore, write_evaluation
from trainingapp.contract.folds import folded
from trainingapp.contract.image_results import ImageResults
from trainingapp.contract.run_lengths import encoded, write_outlines
from trainingapp.models import Dataset, TrainingRun

BOX_MASK = encoded(np.ones((25, 16)), 32, 32, 4, 5)
"""The packed run lengths of the object that `annotated` adds: it fills its box."""


def validation_paths(run: TrainingRun) -> list[str]:
    """Paths of the images that the run validates on, in order; invented paths if the dataset has no files."""
    dataset = run.dataset
    if not (dataset.folder / SAMPLES_FILE).exists():
        return [f"images/val/{CLASSES[index % 2]}/{index:04}.png" for index in range(12)]
    own = folded(read_index(dataset.folder), run.config["folds"], run.config["fold"])
    return [sample.path for sample in own.split("val")]


def found(epoch: int, **changes: Any) -> Evaluation:
    """Plausible validation results of the tiny classifier: worse for red, better with every epoch."""
    right = min(6, epoch + 2)
    values: dict[str, Any] = {
        "values": {"loss": 1 / epoch, "top1": (6 + right) / 12},
        "score": "loss",
        "score_higher_is_better": False,
        "columns": [Column("recall", "Accuracy (recall)"), Column("images", "Images", is_share=False)],
        "per_class": [
            {"class": "blue", "recall": 1.0, "images": 6},
            {"class": "red", "recall": right / 6, "images": 1234},
        ],
        "confusion_names": CLASSES,
        "confusion": [[6, 0], [6 - right, right]],
        "curves": [
            Curve("reliability", "Reliability", "Confidence", "Accuracy", [("Model", [(0.2, 0.1), (0.9, 0.8)])])
        ],
        "images": [ImageScore(index, 1.0 + index, (index % 2,)) for index in range(12)],
        "predictions": {index: {"classes": [[0, 0.75], [1, 0.25]]} for index in range(12)},
    }
    return Evaluation(**(values | changes))


def evaluated(run: TrainingRun, epoch: int, *, task: str = "classification", at_step: int = 0, **changes: Any) -> None:
    """Write the evaluation file of an epoch and its event; `at_step` is the step of a requested evaluation."""
    run.folder.mkdir(parents=True, exist_ok=True)
    result, paths, step = found(epoch, **changes), validation_paths(run), at_step or epoch * 6
    write_evaluation(run.folder, result, task=task, epoch=epoch, step=step, classes=CLASSES, paths=paths)
    data = {"split": "val", "values": result.values, "evaluation": f"evaluations/epoch_{epoch}.json"}
    data |= {"extra": True} if at_step else {}
    store_events(run, {"type": "metrics", "epoch": epoch, "step": step, "data": data})


def annotated(dataset: Dataset) -> None:
    """Add a box, its outline and a mask of its class to every image of a tiny dataset."""
    index = read_index(dataset.folder)
    samples = []
    for sample in index.samples:
        mask = sample.path.replace("images/", "masks/")
        (dataset.folder / mask).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), sample.label + 1).save(dataset.folder / mask)
        box = Box(sample.label, 4, 5, 20, 30)
        outlines = mask.replace(".png", ".json")
        write_outlines(dataset.folder / outlines, 32, 32, [BOX_MASK])
        samples.append(Sample(sample.path, sample.label, sample.split, 32, 32, (box,), mask, outlines=outlines))
    tasks = ["classification", "detection", "segmentation", "instances"]
    about = {"name": index.name, "classes": index.classes, "fingerprint": index.fingerprint}
    write_index(dataset.folder, tasks=tasks, samples=samples, **about)


def results(guesses: Sequence[int], truth: Sequence[int] = ()) -> ImageResults:
    """The results of a classifier for all images; by default, image classes alternate between 0 and 1."""
    truth_N = np.array(truth or [index % 2 for index in range(len(guesses))], dtype=np.int32)
    guess_N = np.array(guesses, dtype=np.int32)
    ones_N = np.ones(len(guesses), dtype=np.float32)
    arrays = {"truth_N": truth_N, "guess_N": guess_N, "in_top5_N": ones_N > 0, "loss_N": ones_N}
    return ImageResults("classes", (truth_N == guess_N).astype(np.float32), arrays)
