"""Procedural scenes: a demo dataset, generated from a seed.

Each scene has one large object, which determines the class of the image, and up to two small objects of other classes,
with clutter, uneven light, occlusion, blur and noise. Boxes and masks of all objects are exact: they are computed from
the same coverage that the image is painted with.

Legend for array names: H, W image height and width; C = 3 color channels; N objects; xyxy = left, top, right,
bottom in pixels, left and top inclusive, right and bottom exclusive.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ["crescent", "cross", "disc", "gear", "ring", "square", "star", "triangle"]
"""Kinds of object, in the order of their labels."""

VAL_SHARE = 0.2
LEAST_IMAGES = 5 * len(CLASSES)
_OVERSAMPLING = 4

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """An image and its ground truth.

    image_HWC: uint8 RGB. label: class of the large object. labels: class of each object, the large one first.
    boxes_xyxy: (N, 4) integers. masks_NHW: bool, the visible pixels of each object; no two overlap.
    """

    image_HWC: NDArray[np.uint8]
    label: int
    labels: list[int]
    boxes_xyxy: NDArray[np.int64]
    masks_NHW: NDArray[np.bool_]


@dataclass(frozen=True)
class _Object:
    label: int
    coverage_HW: Floats
    """0 outside, 1 inside, between on the edge."""


def draw_demo(
    folder: Path, *, images: int, seed: int, size: int, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Write images/{train,val}/{class}/*.jpg, masks/ and annotations.json into `folder`.

    The classes are equally frequent; every fifth image is for validation. The pixels of a mask (PNG) are 0 for the
    background and i + 1 for object i of the image's `boxes_xyxy` and `labels`.
    """
    if images < LEAST_IMAGES:
        raise ValueError(f"at least {LEAST_IMAGES} images are needed, 5 of each class")
    records = []
    every = round(1 / VAL_SHARE)
    for index in range(images):
        label, number = index % len(CLASSES), index // len(CLASSES)
        split = "val" if number % every == every - 1 else "train"
        scene = draw_scene(np.random.default_rng([seed, index + 1]), label, size)
        records.append(_write_scene(folder, f"{split}/{CLASSES[label]}/{number:05d}", scene))
        if on_progress:
            on_progress(index + 1, images)
    content = {"format": 1, "classes": CLASSES, "seed": seed, "images": records}
    (folder / "annotations.json").write_text(json.dumps(content, indent=None, separators=(",", ":")))


def _write_scene(folder: Path, stem: str, scene: Scene) -> dict[str, object]:
    image, mask = folder / "images" / f"{stem}.jpg", folder / "masks" / f"{stem}.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image_HWC).save(image, quality=92)
    Image.fromarray(instance_map(scene.masks_NHW)).save(mask)
    return {
        "path": f"images/{stem}.jpg",
        "mask": f"masks/{stem}.png",
        "labels": scene.labels,
        "boxes_xyxy": scene.boxes_xyxy.tolist(),
    }


def instance_map(masks_NHW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(H, W) uint8: 0 for the background, i + 1 where object i is visible."""
    numbers = np.arange(1, len(masks_NHW) + 1, dtype=np.uint8)
    numbered: NDArray[np.uint8] = (masks_NHW * numbers[:, None, None]).sum(axis=0, dtype=np.uint8)
    return numbered


def draw_scene(rng: Generator, label: int, size: int) -> Scene:
    """Draw one scene of `size` x `size` pixels whose large object is of class `label`."""
    canvas = _background(rng, size)
    _add_clutter(canvas, rng, size)
    objects = _objects(rng, label, size)
    for item in objects:
        _paint(canvas, rng, item.coverage_HW, _bright_colour(rng))
    bar = _occluder(rng, size)
    _paint(canvas, rng, bar, _dull_colour(rng), shadow=False)
    masks_NHW = _visible_masks([item.coverage_HW for item in objects], bar)
    seen = [bool(mask_HW.any()) for mask_HW in masks_NHW]
    return Scene(
        image_HWC=_photograph(canvas, rng, size),
        label=label,
        labels=[item.label for item, is_seen in zip(objects, seen, strict=True) if is_seen],
        boxes_xyxy=mask_boxes(masks_NHW[seen]),
        masks_NHW=masks_NHW[seen],
    )


def mask_boxes(masks_NHW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 4) bounding boxes of the masks, none of which may be empty."""
    boxes = np.zeros((len(masks_NHW), 4), dtype=np.int64)
    for index, mask_HW in enumerate(masks_NHW):
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _visible_masks(coverages: list[Floats], occluder_HW: Floats) -> NDArray[np.bool_]:
    """(N, H, W) pixels that an object covers by at least half and that no later object covers by half."""
    hidden_HW = occluder_HW >= 0.5
    masks = []
    for coverage_HW in reversed(coverages):
        solid_HW = coverage_HW >= 0.5
        masks.append(solid_HW & ~hidden_HW)
        hidden_HW = hidden_HW | solid_HW
    return np.stack(masks[::-1])


# Objects


def _objects(rng: Generator, label: int, size: int) -> list[_Object]:
    """The large object of class `label`, and up to two small ones of other classes."""
    radius = rng.uniform(0.26, 0.40) * size
    low, high = 0.9 * radius, size - 0.9 * radius  # up to a twentieth of its width is outside the image
    center = rng.uniform(low, high, size=2)
    objects = [_Object(label, _shape_coverage(rng, CLASSES[label], center, radius, size))]
    others = [other for other in range(len(CLASSES)) if other != label]
    for _ in range(rng.integers(0, 3)):
        other = int(rng.choice(others))
        radius, center = rng.uniform(0.09, 0.13) * size, rng.uniform(0, size, size=2)
        objects.append(_Object(other, _shape_coverage(rng, CLASSES[other], center, radius, size)))
    return objects


def _shape_coverage(rng: Generator, name: str, center: Points, radius: float, size: int) -> Floats:
    """(H, W) coverage of a shape, rotated by a random angle and slightly compressed."""
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.82, 1.0)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) * radius
    image = Image.new("L", (size * _OVERSAMPLING, size * _OVERSAMPLING))
    draw = ImageDraw.Draw(image)
    for points, fill in _outlines(rng, name):
        placed = (points * [1, squeeze]) @ turn.T + center
        draw.polygon([(float(x), float(y)) for x, y in placed * _OVERSAMPLING], fill=fill)
    return _coverage(image)


def _outlines(rng: Generator, name: str) -> list[tuple[Points, int]]:
    """Polygons within the unit circle, painted in order: 255 adds, 0 removes."""
    match name:
        case "disc":
            return [(_polygon(64), 255)]
        case "ring":
            return [(_polygon(64), 255), (_polygon(64, rng.uniform(0.5, 0.66)), 0)]
        case "square":
            return [(_polygon(4), 255)]
        case "triangle":
            return [(_polygon(3), 255)]
        case "star":
            spikes = _polygon(10)
            spikes[1::2] *= rng.uniform(0.38, 0.46)
            return [(spikes, 255)]
        case "cross":
            w = rng.uniform(0.26, 0.36)  # half the width of an arm
            half = np.array([(1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w)], dtype=np.float64)
            return [(np.concatenate([half, -half]), 255)]
        case "crescent":
            return [(_polygon(64), 255), (_polygon(64, 0.85) + np.array([rng.uniform(0.45, 0.6), 0]), 0)]
        case "gear":
            teeth = _polygon(4 * int(rng.integers(7, 10)))
            teeth[2::4] *= 0.74
            teeth[3::4] *= 0.74
            return [(teeth, 255), (_polygon(32, rng.uniform(0.25, 0.35)), 0)]
    raise AssertionError(name)


def _polygon(corners: int, radius: float = 1.0) -> Points:
    angles = np.arange(corners) * 2 * math.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


def _occluder(rng: Generator, size: int) -> Floats:
    """(H, W) coverage of a bar across the image; empty in three out of four scenes."""
    if rng.random() > 0.25:
        return np.zeros((size, size), dtype=np.float32)
    image = Image.new("L", (size * _OVERSAMPLING, size * _OVERSAMPLING))
    width = rng.uniform(0.03, 0.06) * size * _OVERSAMPLING
    ImageDraw.Draw(image).line(_long_line(rng, size * _OVERSAMPLING), fill=255, width=round(width))
    return _coverage(image)


def _coverage(oversampled: Image.Image) -> Floats:
    return np.asarray(oversampled.reduce(_OVERSAMPLING), dtype=np.float32) / np.float32(255)


def _long_line(rng: Generator, size: int) -> list[tuple[float, float]]:
    """The endpoints, far outside the image, of a line through a point in its middle part."""
    angle, (x, y) = rng.uniform(0, math.pi), rng.uniform(0.2, 0.8, size=2) * size
    dx, dy = 2 * size * math.cos(angle), 2 * size * math.sin(angle)
    return [(x - dx, y - dy), (x + dx, y + dy)]


# Painting: canvases are (H, W, C) float32, 0 to 255


def _dull_colour(rng: Generator) -> Floats:
    """A color for backgrounds and clutter."""
    return rng.uniform(10, 125, size=3).astype(np.float32)


def _bright_colour(rng: Generator) -> Floats:
    """A color for objects: any hue, brighter than most backgrounds under the same light."""
    hue, saturation = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.75)
    wheel = 0.5 + 0.5 * np.cos(hue - np.array([0, 2, 4]) * math.pi / 3)
    return (rng.uniform(190, 255) * (1 - saturation * (1 - wheel))).astype(np.float32)


def _ramp(rng: Generator, size: int) -> Floats:
    """(H, W) gradient from about 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across = math.cos(angle) * line[None, :] + math.sin(angle) * line[:, None]
    return np.asarray(across / math.sqrt(2) + 0.5, dtype=np.float32)


def _soft_noise(rng: Generator, size: int, cells: int) -> Floats:
    """(H, W) smooth noise from -1 to 1 with about `cells` maxima along a side."""
    grid = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / np.float32(127.5) - 1


def _background(rng: Generator, size: int) -> Floats:
    ramp = _ramp(rng, size)[..., None]
    canvas = ramp * _dull_colour(rng) + (1 - ramp) * _dull_colour(rng)
    for cells in (4, 11, 29):
        canvas += _soft_noise(rng, size, cells)[..., None] * rng.uniform(0, 14, size=3).astype(np.float32)
    if rng.random() < 0.25:
        waves = np.sin(_ramp(rng, size) * np.float32(rng.uniform(20, 90)))
        canvas += waves[..., None] * rng.uniform(0, 12, size=3).astype(np.float32)
    return np.asarray(canvas, dtype=np.float32)


def _add_clutter(canvas: Floats, rng: Generator, size: int) -> None:
    """Paint lines, ellipses and small polygons that belong to no class."""
    layer = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(layer)
    for _ in range(rng.integers(0, 3)):
        draw.line(_long_line(rng, size), fill=_pillow_colour(rng), width=int(rng.integers(1, max(2, size // 32) + 1)))
    for _ in range(rng.integers(0, 3)):
        (x, y), (rx, ry) = rng.uniform(0, size, size=2), rng.uniform(0.02, 0.05, size=2) * size
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=_pillow_colour(rng))
    for _ in range(rng.integers(2, 9)):
        corners = rng.uniform(0, size, size=2) + rng.uniform(-0.03, 0.03, size=(3, 2)) * size
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=_pillow_colour(rng))
    canvas[:] = np.asarray(layer, dtype=np.float32)


def _pillow_colour(rng: Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in _dull_colour(rng))
    return red, green, blue


def _paint(canvas: Floats, rng: Generator, coverage_HW: Floats, colour: Floats, *, shadow: bool = True) -> None:
    """Paint an object and its soft shadow in place."""
    size = len(canvas)
    if shadow:
        blurred = Image.fromarray((coverage_HW * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(size / 48))
        down, right = (int(shift) for shift in rng.integers(-size // 20, size // 20 + 1, size=2))
        shifted_HW = np.roll(np.asarray(blurred, dtype=np.float32), (down, right), axis=(0, 1))
        canvas *= 1 - (shifted_HW * np.float32(rng.uniform(0, 0.5) / 255))[..., None]
    body = colour + (_ramp(rng, size)[..., None] - 0.5) * rng.uniform(-40, 40, size=3)
    body = body + _soft_noise(rng, size, 17)[..., None] * np.float32(rng.uniform(0, 12))
    alpha = coverage_HW[..., None]
    canvas[:] = canvas * (1 - alpha) + body * alpha


def _photograph(canvas: Floats, rng: Generator, size: int) -> NDArray[np.uint8]:
    """(H, W, C) uint8 with uneven light, blur and sensor noise."""
    light = np.float32(rng.uniform(0.6, 0.9)) + _ramp(rng, size) * np.float32(rng.uniform(0.1, 0.4))
    lit = np.clip(canvas * light[..., None], 0, 255).astype(np.uint8)
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9) * size / 96))
    noise = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(rng.uniform(2, 10))
    return np.clip(np.asarray(blurred, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
