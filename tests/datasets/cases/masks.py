"""Masks with the files and values that drawing programs write."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from tests.datasets.cases.kit import SIZE, Case, Ready, Refused, Tree, encoded, numbered, painted, photo

SEGMENTATION = "segmentation"
PALETTE = [part for value in range(256) for part in (value, 255 - value, (value * 37) % 256)]


def masked(
    draw: Callable[[int], Image.Image], *, name: str = "p{}.png", count: int = 6, images: str = "p{}.jpg"
) -> Tree:
    """Images with a mask drawn by `draw` for each number."""
    tree = numbered(f"images/{images}", count)
    return tree | {f"masks/{name.format(number)}": encoded(draw(number)) for number in range(count)}


def jpeg_mask() -> bytes:
    return encoded(painted(255), "JPEG", quality=80)


def jpeg_masks() -> Tree:
    return numbered("images/p{}.jpg", 8) | {f"masks/p{number}.jpg": jpeg_mask() for number in range(8)}


def some_jpeg_masks() -> Tree:
    tree = masked(lambda _number: painted(255))
    for number in (0, 2, 4):
        del tree[f"masks/p{number}.png"]
        tree[f"masks/p{number}.jpg"] = jpeg_mask()
    return tree


def soft_edges() -> Tree:
    tree: Tree = {}
    for number in range(8):
        soft = Image.new("L", (16, 16))
        ImageDraw.Draw(soft).ellipse((3, 3, 11 + number % 3, 12), fill=255)
        stem = f"ISIC_000{number}"
        tree[f"images/{stem}.jpg"] = photo(f"{stem}.jpg", (64, 64))
        tree[f"masks/{stem}_segmentation.png"] = encoded(soft.resize((64, 64), Image.Resampling.BICUBIC))
    return tree


def in_the_alpha_channel(_number: int) -> Image.Image:
    values_HWC = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    values_HWC[..., 3] = np.asarray(painted(255))
    return Image.fromarray(values_HWC)


def with_palette(_number: int) -> Image.Image:
    picture = Image.frombytes("P", SIZE, painted(1, 15, 255).tobytes())
    picture.putpalette(PALETTE)
    return picture


def one_colour(_number: int) -> Image.Image:
    picture = Image.new("RGB", SIZE)
    ImageDraw.Draw(picture).rectangle((5, 5, 25, 25), fill=(200, 30, 60))
    return picture


def ready(*classes: str, warnings: str = "", train: int = 5, val: int = 1) -> Ready:
    return Ready("masks", SEGMENTATION, list(classes), train, val, warnings)


CASES = [
    Case(
        "s01_jpeg_masks",
        jpeg_masks,
        ready("foreground", warnings="masks_thresholded", train=6, val=2),
    ),
    Case(
        "s21_antialiased_masks",
        soft_edges,
        ready("foreground", warnings="masks_thresholded", train=6, val=2),
    ),
    Case("o_mask_rgba", lambda: masked(lambda _number: painted(1, 2).convert("RGBA")), ready("class 1", "class 2")),
    Case(
        "o_mask_alpha_only",
        lambda: masked(in_the_alpha_channel),
        ready("foreground"),
    ),
    Case("o_mask_16bit", lambda: masked(lambda _number: painted(1, 2, dtype=np.uint16)), ready("class 1", "class 2")),
    Case("o_mask_1bit", lambda: masked(lambda _number: painted(255).convert("1")), ready("foreground")),
    Case("o_mask_palette_255", lambda: masked(with_palette), ready("class 1", "class 15")),
    Case(
        "o_mask_stretched",
        lambda: masked(lambda _number: painted(85, 170, 255)),
        ready("class 85", "class 170", "class 255"),
    ),
    Case(
        "o_mask_300_instances",
        lambda: masked(lambda _number: painted(7001, 26002, dtype=np.uint16)),
        Refused("unknown_class", ("they number instances", "26002")),
    ),
    Case(
        "o_mask_prefix",
        lambda: masked(lambda _number: painted(1), name="mask_{}.png", images="img_{}.jpg"),
        ready("class 1"),
    ),
    Case(
        "o_mask_colours_no_table",
        lambda: masked(one_colour),
        Refused("colours_unknown no_images", ("masks/p0.png is a color image", "class_dict.csv")),
    ),
    Case(
        "o_mask_other_size",
        lambda: masked(lambda number: painted(1, size=(24, 20)) if number == 2 else painted(1)),
        Refused("mask_size", ("24 x 20", "48 x 40"), ready("class 1", warnings="mask_size", train=4)),
    ),
    Case(
        "o_mask_jpeg_and_png_mixed",
        some_jpeg_masks,
        ready("foreground", warnings="masks_thresholded"),
    ),
    Case("o_mask_0_1_255", lambda: masked(lambda _number: painted(1, 255)), ready("class 1", warnings="void_assumed")),
]
