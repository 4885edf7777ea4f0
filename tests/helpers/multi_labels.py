"""A dataset that is learned quickly: images with any of three colored squares, or none."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainingapp.contract.dataset_index import Sample, Split, write_index

CLASSES = ["red", "green", "blue"]
SIDE = 32


def draw(labels: tuple[int, ...], number: int) -> Image.Image:
    """Noise with a square in the color of each label in a separate cell."""
    generator = np.random.default_rng(number)
    pixels = generator.integers(60, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    cells = generator.permutation(9)[:3]
    for label, cell in zip(range(3), cells, strict=True):
        if label in labels:
            top, left = 11 * (int(cell) // 3), 11 * (int(cell) % 3)
            pixels[top : top + 9, left : left + 9] = 20
            pixels[top : top + 9, left : left + 9, label] = 235
    return Image.fromarray(pixels)


def make_multi_label_dataset(folder: Path, *, train: int, val: int) -> Path:
    """Create a dataset with red in half of the images, green in a third and blue in a fifth, independently."""
    samples = []
    generator = np.random.default_rng(5)
    counts: dict[Split, int] = {"train": train, "val": val}
    (folder / "images").mkdir(parents=True)
    for split, count in counts.items():
        for number in range(count):
            chances = generator.random(3) < (1 / 2, 1 / 3, 1 / 5)
            labels = tuple(np.flatnonzero(chances).tolist())
            path = f"images/{split}_{number}.png"
            draw(labels, number + (10_000 if split == "val" else 0)).save(folder / path)
            samples.append(Sample(path, -1, split, SIDE, SIDE, labels=labels))
    write_index(
        folder, name="squares", tasks=["classification"], classes=CLASSES, fingerprint="squares", samples=samples
    )
    return folder


def make_multi_label_row(owner: Any, *, train: int = 16, val: int = 8) -> Any:
    """Create the same as a ready dataset of the studio."""
    from trainingapp.models import Dataset

    dataset = Dataset.objects.create(
        name="squares", owner=owner, source="/nowhere", classes=CLASSES, fingerprint="squares", label_mode="multi"
    )
    make_multi_label_dataset(dataset.folder, train=train, val=val)
    dataset.images, dataset.tasks, dataset.status = (
        {"train": train, "val": val},
        ["classification"],
        Dataset.Status.READY,
    )
    dataset.save()
    return dataset
