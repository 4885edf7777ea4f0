"""Small drawn datasets: shapes on noise, with labels, boxes, masks and outlines, in the format of the index."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from trainingapp.contract.dataset_index import Box, Sample, Split, write_index
from trainingapp.contract.run_lengths import encoded, write_outlines
from trainingapp.contract.tasks.registry import TASKS

CLASSES = ("disk", "square", "triangle")
SHAPES = 3
"""Objects of an image."""


def draw_scenes(folder: Path, *, train: int, val: int, width: int, height: int, files: int, suffix: str) -> None:
    """Write a dataset for all tasks. `files` images are drawn; the samples name them in turn.

    The label of an image is the class of its first object.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    drawn = [_drawn(folder, number, random, width, height, suffix) for number in range(min(files, train + val))]
    counts: list[tuple[Split, int]] = [("train", train), ("val", val)]
    samples = [
        Sample(name, boxes[0].label, split, width, height, boxes=boxes, mask=mask, outlines=outlines)
        for split, count in counts
        for name, mask, outlines, boxes in (drawn[number % len(drawn)] for number in range(count))
    ]
    write_index(folder, name="scenes", tasks=list(TASKS), classes=list(CLASSES), fingerprint="0" * 64, samples=samples)


def _drawn(
    folder: Path, number: int, random: np.random.Generator, width: int, height: int, suffix: str
) -> tuple[str, str, str, list[Box]]:
    """Write one image, its mask and the masks of its objects; returns the three names and the boxes."""
    noise = random.integers(60, 196, (height // 4, width // 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.new("L", (width, height))
    boxes, outlines = [], []
    for place in range(SHAPES):
        label = (number + place) % len(CLASSES)
        side = int(random.integers(min(width, height) // 4, min(width, height) // 2))
        left, top = int(random.integers(0, width - side)), int(random.integers(0, height - side))
        color = tuple(map(int, random.integers(0, 256, 3)))
        _draw_shape(ImageDraw.Draw(image), label, left, top, side, color)
        _draw_shape(ImageDraw.Draw(mask), label, left, top, side, 1 + label)
        boxes.append(Box(label, left, top, left + side, top + side))
        alone = Image.new("L", (width, height))
        _draw_shape(ImageDraw.Draw(alone), label, left, top, side, 1)
        outlines.append(encoded(np.asarray(alone), height, width))
    image.save(folder / f"{number}{suffix}")
    mask.save(folder / f"{number}_mask.png")
    write_outlines(folder / f"{number}_outlines.json", height, width, outlines)
    return f"{number}{suffix}", f"{number}_mask.png", f"{number}_outlines.json", boxes


def _draw_shape(
    draw: ImageDraw.ImageDraw, label: int, left: int, top: int, side: int, fill: int | tuple[int, ...]
) -> None:
    right, bottom = left + side - 1, top + side - 1
    match CLASSES[label]:
        case "disk":
            draw.ellipse((left, top, right, bottom), fill=fill)
        case "square":
            draw.rectangle((left, top, right, bottom), fill=fill)
        case _:
            draw.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=fill)
