"""A small dataset with the masks of objects, for tests of the engine."""

from pathlib import Path

import numpy as np
from PIL import Image

from trainingapp.contract.dataset_index import Box, Sample, Split, write_index
from trainingapp.contract.run_lengths import encoded, write_outlines

WIDTH, HEIGHT = 80, 60
CLASSES = ["red", "green"]


def make_outlined(folder: Path, *, train: int = 11, val: int = 5) -> Path:
    """Dark noise with up to two ellipses, which fill their masks with the color of their class and may overlap.

    The first image of each split shows none; the second has a crowd as well.
    """
    rng = np.random.default_rng(0)
    counts: list[tuple[Split, int]] = [("train", train), ("val", val)]
    samples = [_sample(folder, split, number, rng) for split, count in counts for number in range(count)]
    about = {"tasks": ["instances"], "classes": CLASSES, "fingerprint": "0" * 64}
    write_index(folder, name="outlined", samples=samples, **about)
    return folder


def _sample(folder: Path, split: Split, number: int, rng: np.random.Generator) -> Sample:
    pixels = rng.integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    boxes, counts = [], []
    for side in rng.integers(14, 30, 1 + number % 2).tolist() if number else []:
        left, top, label = (int(rng.integers(most)) for most in (45, 30, 2))
        boxes.append(Box(label, left, top, left + side, top + side))
        inside_HW = ellipse(boxes[-1])
        pixels[inside_HW] = 0
        pixels[inside_HW, label] = 240
        counts.append(encoded(inside_HW, HEIGHT, WIDTH))
    if number == 1:
        boxes.append(Box(0, 60, 40, 80, 60, crowd=True))
        counts.append(encoded(np.ones((20, 20), dtype=np.bool_), HEIGHT, WIDTH, 60, 40))
    path, outlines = f"images/{split}/{number}.png", f"outlines/{split}/{number}.json"
    for name in (path, outlines):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / path)
    write_outlines(folder / outlines, HEIGHT, WIDTH, counts)
    return Sample(path, -1, split, WIDTH, HEIGHT, tuple(boxes), outlines=outlines if boxes else "")


def ellipse(box: Box) -> np.ndarray:
    """bool [HEIGHT, WIDTH]: the pixels whose center lies in the ellipse that fills the box."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    across = (2 * x - box.left - box.right) / (box.right - box.left)
    down = (2 * y - box.top - box.bottom) / (box.bottom - box.top)
    inside: np.ndarray = across**2 + down**2 <= 1
    return inside
