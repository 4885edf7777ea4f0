"""The sets of images of `quality.py`, written for both sides.

Every image is a square of the size that both sides train with, so that neither changes it before it sees it.
Legend: H, W height and width; C = 3 channels; xyxy = left, top, right, bottom in pixels.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from trainingapp.contract.dataset_index import Box, Sample, Split, write_index
from trainingapp.datasets import scenes

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Where Debian's tuxpaint-stamps-default puts them."""

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "brick", "grass", "gravel")
"""Of scikit-image, those that it contains."""

STAMP_CLASSES = 12
EVERY = 5
"""One image in so many is for validation."""

Drawn = tuple[NDArray[np.uint8], list[int], list[list[float]]]
"""An image uint8 [H, W, C] with the labels and boxes xyxy of its objects."""


@dataclass(frozen=True)
class ImageSet:
    """`draw` gives the image with a number, the same at every call."""

    name: str
    about: str
    size: int
    images: int
    classes: Sequence[str]
    draw: Callable[[int], Drawn]


def scene_set(images: int) -> ImageSet:
    """The demo scenes of the studio: one large object and up to two small ones."""

    def draw(number: int) -> Drawn:
        rng = np.random.default_rng([0, number + 1])
        scene = scenes.draw_scene(rng, number % len(scenes.CLASSES), 96)
        return scene.image_HWC, scene.labels, scene.boxes_xyxy.tolist()

    return ImageSet("scenes", "demo scenes", 96, images, scenes.CLASSES, draw)


def crowd_set(images: int) -> ImageSet:
    """8 to 24 objects of 9 to 24 pixels, which overlap, drawn like those of the scenes."""
    return ImageSet(
        "crowd", "small and crowded objects", 128, images, scenes.CLASSES, lambda number: _crowd(number, 128)
    )


def _crowd(number: int, size: int) -> Drawn:
    rng = np.random.default_rng([1, number])
    canvas = scenes._background(rng, size)
    scenes._add_clutter(canvas, rng, size)
    labels, coverages = [], []
    middle = rng.uniform(0.25, 0.75, size=2) * size
    for _object in range(int(rng.integers(8, 25))):
        radius = rng.uniform(0.036, 0.095) * size
        near = rng.normal(middle, 0.2 * size) if rng.random() < 0.5 else rng.uniform(0, size, size=2)
        label = int(rng.integers(len(scenes.CLASSES)))
        center = np.clip(near, radius, size - radius)
        coverage_HW = scenes._shape_coverage(rng, scenes.CLASSES[label], center, radius, size)
        scenes._paint(canvas, rng, coverage_HW, scenes._bright_colour(rng))
        labels.append(label)
        coverages.append(coverage_HW)
    masks_NHW = scenes._visible_masks(coverages, np.zeros((size, size), dtype=np.float32))
    # What is hidden for the most part is no object of the image.
    shares = [mask.sum() / max(1.0, (whole >= 0.5).sum()) for mask, whole in zip(masks_NHW, coverages, strict=True)]
    seen = [share > 0.3 for share in shares]
    boxes = scenes.mask_boxes(masks_NHW[seen]).tolist()
    kept = [label for label, is_seen in zip(labels, seen, strict=True) if is_seen]
    return scenes._photograph(canvas, rng, size), kept, boxes


def stamp_set(images: int, folder: Path) -> ImageSet | None:
    """One to four cut-outs on a part of a photograph; None where `folder` has no stamps."""
    paths = sorted(folder.rglob("*.png"))
    if len(paths) < STAMP_CLASSES:
        return None
    chosen = np.random.default_rng(7).choice(len(paths), STAMP_CLASSES, replace=False)
    stamps = [_cut_out(paths[place]) for place in chosen]
    photographs = list(_photographs())
    names = [f"{number:02d}_{paths[place].stem}" for number, place in enumerate(chosen)]
    return ImageSet("stamps", "cut-outs on photographs", 128, images, names, lambda n: _stamped(n, stamps, photographs))


def _cut_out(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGBA")
    image.thumbnail((160, 160))
    box = image.getchannel("A").point([0] * 128 + [255] * 128).getbbox()
    return image.crop(box)


def _photographs() -> Iterator[Image.Image]:
    """Those of scikit-learn, and of scikit-image where it is installed."""
    from sklearn.datasets import load_sample_images

    for pixels_HWC in load_sample_images().images:
        yield Image.fromarray(pixels_HWC)
    if not importlib.util.find_spec("skimage"):
        return
    data = importlib.import_module("skimage.data")
    for name in PHOTOGRAPHS:
        pixels = np.asarray(getattr(data, name)())
        yield Image.fromarray(pixels).convert("RGB")


def _stamped(number: int, stamps: list[Image.Image], photographs: list[Image.Image], size: int = 128) -> Drawn:
    rng = np.random.default_rng([2, number])
    photograph = photographs[int(rng.integers(len(photographs)))]
    side = int(rng.integers(size, min(photograph.size) + 1)) if min(photograph.size) > size else min(photograph.size)
    left, top = (int(rng.integers(0, whole - side + 1)) for whole in photograph.size)
    image = photograph.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.5, 1.2)))
    labels: list[int] = []
    covers: list[NDArray[np.float32]] = []
    for _object in range(int(rng.integers(1, 5))):
        label = int(rng.integers(len(stamps)))
        stamp = _turned(stamps[label], rng, float(rng.uniform(0.18, 0.5)) * size)
        place = [int(rng.uniform(-0.1, 1.1) * size - side / 2) for side in stamp.size]
        image.paste(stamp, (place[0], place[1]), stamp)
        cover = Image.new("L", (size, size))
        cover.paste(stamp.getchannel("A"), (place[0], place[1]))
        covers.append(np.asarray(cover, dtype=np.float32) / np.float32(255))
        labels.append(label)
    masks_NHW = scenes._visible_masks(covers, np.zeros((size, size), dtype=np.float32))
    seen = [int(mask.sum()) > 60 for mask in masks_NHW]
    kept = [label for label, is_seen in zip(labels, seen, strict=True) if is_seen]
    boxes = scenes.mask_boxes(masks_NHW[seen]).tolist() if any(seen) else []
    return np.asarray(image), kept, boxes


def _turned(stamp: Image.Image, rng: np.random.Generator, side: float) -> Image.Image:
    """Mirrored, scaled to `side`, turned and changed in brightness."""
    if rng.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = side / max(stamp.size)
    stamp = stamp.resize((max(3, round(stamp.width * scale)), max(3, round(stamp.height * scale))))
    stamp = ImageEnhance.Brightness(stamp).enhance(float(rng.uniform(0.7, 1.3)))
    return stamp.rotate(float(rng.uniform(-25, 25)), Image.Resampling.BILINEAR, expand=True)


def write_set(folder: Path, content: ImageSet) -> None:
    """The images, with the files of a dataset of the studio and, for Ultralytics, `labels/` and `data.yaml`."""
    samples = []
    for number in range(content.images):
        image_HWC, labels, boxes = content.draw(number)
        split: Split = "val" if (number // len(content.classes)) % EVERY == EVERY - 1 else "train"
        image, text = folder / f"images/{split}/{number:05d}.png", folder / f"labels/{split}/{number:05d}.txt"
        image.parent.mkdir(parents=True, exist_ok=True)
        text.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_HWC).save(image)
        text.write_text("".join(_line(*one, content.size) for one in zip(labels, boxes, strict=True)))
        objects = tuple(Box(label, *box) for label, box in zip(labels, boxes, strict=True))
        samples.append(Sample(f"images/{split}/{number:05d}.png", -1, split, content.size, content.size, objects))
    classes = list(content.classes)
    write_index(folder, name=content.name, tasks=["detection"], classes=classes, fingerprint="0" * 64, samples=samples)
    # JSON is YAML too.
    about = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(classes))}
    (folder / "data.yaml").write_text(json.dumps(about))


def _line(label: int, box_xyxy: list[float], size: int) -> str:
    left, top, right, bottom = (side / size for side in box_xyxy)
    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return f"{label} " + " ".join(f"{value:.6f}" for value in values) + "\n"
