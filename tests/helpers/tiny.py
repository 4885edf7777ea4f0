"""A tiny learnable dataset, and runs on it."""

import io
import random
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, write_index
from trainingapp.contract.run_directory import TENSORBOARD_DIR
from trainingapp.models import Dataset, TrainingRun
from trainingapp.runs import verbs as run_verbs

CLASSES = ["blue", "red"]


def write_dataset(folder: Path, images: int = 24) -> dict[str, dict[str, int]]:
    """Write `images` training images and half as many for validation, of noise in two tints. Returns the counts."""
    samples = []
    counts: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    drawn = iter(_images((images, images // 2)))
    for split, count in (("train", images), ("val", images // 2)):
        for index in range(count):
            label = index % 2
            name = CLASSES[label]
            path = Path("images") / split / name / f"{index:04}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(next(drawn))
            samples.append(Sample(path=str(path), label=label, split=split, width=32, height=32))
            counts[split][name] = counts[split].get(name, 0) + 1
    write_index(
        folder, name=folder.name, tasks=["classification"], classes=CLASSES, fingerprint="0" * 64, samples=samples
    )
    return counts


@cache
def _images(counts: tuple[int, ...]) -> list[bytes]:
    """PNG files of 32 x 32 pixels by split, with alternating labels; drawn once, since hundreds of tests write them."""
    rng = random.Random(0)
    found = []
    for index in (index for count in counts for index in range(count)):
        tint = (160, 60, 60) if index % 2 else (60, 60, 160)
        pixels = bytes(
            min(255, max(0, tint[channel] + rng.randint(-60, 60))) for _ in range(32 * 32) for channel in range(3)
        )
        file = io.BytesIO()
        Image.frombytes("RGB", (32, 32), pixels).save(file, "PNG")
        found.append(file.getvalue())
    return found


def make_dataset(owner: Any, name: str = "tints", images: int = 24) -> Dataset:
    """A ready dataset with its files."""
    dataset = Dataset.objects.create(name=name, owner=owner, source="/nowhere", classes=CLASSES, fingerprint="0" * 64)
    dataset.counts = write_dataset(dataset.folder, images)
    dataset.images = {split: sum(counts.values()) for split, counts in dataset.counts.items()}
    dataset.tasks = ["classification"]
    dataset.status = Dataset.Status.READY
    dataset.save()
    return dataset


def make_run(owner: Any, dataset: Dataset, name: str = "try", start: bool = False, **config: Any) -> TrainingRun:
    """A pending or queued run on the dataset."""
    run = run_verbs.create_run(owner=owner, name=name, dataset=dataset, config=parse_config(config))
    return run_verbs.start_run(run) if start else run


def board_of(run: TrainingRun, content: bytes = b"events") -> Path:
    """A TensorBoard file of the run with this content."""
    path = run.folder / TENSORBOARD_DIR / "events.out.tfevents.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
