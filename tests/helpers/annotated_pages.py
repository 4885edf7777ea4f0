"""Ready and proposed datasets with boxes and masks, created as rows and files."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainingapp.contract.dataset_index import Box, Sample, write_index
from trainingapp.datasets.scenes import CLASSES, Scene, draw_scene
from trainingapp.models import Dataset

FINGERPRINT = "5c" * 32


def make_scenes(owner: Any, name: str = "scenes", images: int = 16, size: int = 96) -> Dataset:
    """A ready dataset of drawn scenes with exact boxes and masks; every fourth image is for validation."""
    dataset = Dataset.objects.create(name=name, owner=owner, source="/nowhere", classes=CLASSES, format="scenes")
    samples = [_write(dataset.folder, index, size) for index in range(images)]
    tasks = ["detection", "segmentation"]
    write_index(dataset.folder, name=name, tasks=tasks, classes=CLASSES, fingerprint=FINGERPRINT, samples=samples)
    dataset.tasks, dataset.status, dataset.fingerprint = tasks, Dataset.Status.READY, FINGERPRINT
    dataset.size_bytes = sum(path.stat().st_size for path in dataset.folder.rglob("*") if path.is_file())
    dataset.images = dict(Counter(sample.split for sample in samples))
    dataset.counts = {split: _counts(samples, split, once=True) for split in ("train", "val")}
    dataset.statistics = _statistics(samples, dataset)
    dataset.save()
    return dataset


def _write(folder: Path, index: int, size: int) -> Sample:
    scene = draw_scene(np.random.default_rng([7, index]), index % len(CLASSES), size)
    split = "val" if index % 4 == 3 else "train"
    path, mask = f"images/{split}/{index:04}.jpg", f"masks/{split}/{index:04}.png"
    for name, pixels in ((path, scene.image_HWC), (mask, _class_mask(scene))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    corners = ((float(left), float(top), float(right), float(bottom)) for left, top, right, bottom in scene.boxes_xyxy)
    boxes = tuple(Box(label, *box) for label, box in zip(scene.labels, corners, strict=True))
    return Sample(path, -1, "val" if split == "val" else "train", size, size, boxes, mask)


def _class_mask(scene: Scene) -> Any:
    mask_HW = np.zeros(scene.image_HWC.shape[:2], dtype=np.uint8)
    for label, seen_HW in zip(scene.labels, scene.masks_NHW, strict=True):
        mask_HW[seen_HW] = label + 1
    return mask_HW


def _counts(samples: list[Sample], split: str, *, once: bool) -> dict[str, int]:
    """The number of images (`once`) or objects of each class."""
    of_split = [[box.label for box in sample.boxes] for sample in samples if sample.split == split]
    found = Counter(label for labels in of_split for label in (set(labels) if once else labels))
    return {name: found[label] for label, name in enumerate(CLASSES)}


def _statistics(samples: list[Sample], dataset: Dataset) -> dict[str, Any]:
    objects = {split: _counts(samples, split, once=False) for split in ("train", "val")}
    areas = [
        (box.right - box.left) * (box.bottom - box.top) / sample.width / sample.height
        for sample in samples
        for box in sample.boxes
    ]
    values: dict[str, list[Any]] = {"objects_per_image": [len(sample.boxes) for sample in samples], "box_area": areas}
    values["width"] = [sample.width for sample in samples]
    return {
        "images": dataset.images,
        "objects": {split: sum(counts.values()) for split, counts in objects.items()},
        "classes": [
            {
                "name": name,
                "images": {split: dataset.counts[split][name] for split in objects},
                "objects": {split: counts[name] for split, counts in objects.items()},
                "pixels": {"train": 0.02, "val": 0.01},
            }
            for name in CLASSES
        ],
        "histograms": {name: _histogram(numbers) for name, numbers in values.items()},
    }


def _histogram(numbers: list[Any]) -> dict[str, list[Any]]:
    counts, edges = np.histogram(numbers, bins=12)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def proposal(**changes: Any) -> dict[str, Any]:
    """The result of an inspection of a COCO file with three classes."""
    names = (("cat", 40, 61), ("kitten", 8, 12), ("dog", 30, 33))
    return {
        "format": "coco",
        "tasks": ["detection", "segmentation"],
        "classes": [{"name": name, "images": images, "objects": objects} for name, images, objects in names],
        "images": {"train": 60, "val": 15, "none": 0},
        "has_splits": True,
        "files": ["annotations/instances_train.json", "annotations/instances_val.json"],
        "report": [
            {"level": "warning", "code": "box_outside", "file": "annotations/instances_train.json", "message": message}
            for message in ("annotations[12] leaves the image by 3 pixels and is cut to it.",) * 2
        ],
        **changes,
    }


def make_proposed(owner: Any, name: str = "pets to import", **changes: Any) -> Dataset:
    """A dataset that awaits confirmation."""
    found = proposal(**changes)
    return Dataset.objects.create(
        name=name, owner=owner, source="/nowhere", status="proposed", proposal=found, format=found["format"]
    )
