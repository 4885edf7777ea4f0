"""Thumbnails and pages of images."""

import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.sources import Tree, image, two_classes
from trainingapp.datasets.previews import (
    UNKNOWN_COLOUR,
    can_filter_by_class,
    class_colour,
    image_page,
    mask_overlay,
    mask_shares,
    thumbnail,
)
from trainingapp.models import Dataset


@pytest.fixture
def dataset(import_tree: Callable[[Tree], Dataset]) -> Dataset:
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(buffer, "PNG")
    tree = {**two_classes(each=10), "cat/large.jpg": image(1, (900, 600), "JPEG"), "cat/clear.png": buffer.getvalue()}
    return import_tree({f"train/{path}": content for path, content in tree.items()} | two_classes(prefix="val/"))


def test_thumbnail_is_small_webp(dataset: Dataset) -> None:
    path = thumbnail(dataset, "images/train/cat/large.jpg", 160)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("WEBP", (160, 107))
    assert path.is_relative_to(dataset.folder / ".thumbs")


def test_thumbnail_is_made_once(dataset: Dataset) -> None:
    first = thumbnail(dataset, "images/train/cat/large.jpg").stat()
    assert thumbnail(dataset, "images/train/cat/large.jpg").stat() == first


def test_small_images_are_not_enlarged(dataset: Dataset) -> None:
    with Image.open(thumbnail(dataset, "images/train/cat/0.png")) as image:
        assert image.size == (12, 10)


def test_clear_parts_are_white(dataset: Dataset) -> None:
    with Image.open(thumbnail(dataset, "images/train/cat/clear.png")) as image:
        assert image.convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_only_a_few_sizes_are_allowed(dataset: Dataset) -> None:
    for size in range(1, 1500, 7):
        thumbnail(dataset, "images/train/cat/0.png", size)
    assert len(list((dataset.folder / ".thumbs").iterdir())) == 5


def test_concurrent_requests_get_a_complete_thumbnail(dataset: Dataset) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: thumbnail(dataset, "images/train/cat/large.jpg"), range(16)))
    assert [path.name for path in paths.pop().parent.iterdir()] == ["large.jpg.webp"]


@pytest.mark.parametrize(
    "path",
    ["../x.png", "images/../../x.png", "/etc/passwd", "dataset.json", "images", "", "images/no.png", "images/\0"],
)
def test_only_images_of_the_dataset(dataset: Dataset, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        thumbnail(dataset, path)


def test_pages(dataset: Dataset) -> None:
    page = image_page(dataset, split="train", label=0, offset=8, limit=3)
    assert (page.total, page.offset) == (12, 8)
    assert [Path(image.path).name for image in page.images] == ["8.png", "9.png", "clear.png"]
    assert {(image.split, image.label) for image in page.images} == {("train", 0)}


def test_pages_of_everything(dataset: Dataset) -> None:
    assert image_page(dataset).total == 32
    assert image_page(dataset, split="val").total == 10
    assert image_page(dataset, label=1).total == 15
    assert image_page(dataset, label=7).total == 0
    assert image_page(dataset, offset=500).images == []


# Boxes, masks and several classes per image


@pytest.fixture
def annotated(dataset: Dataset) -> Dataset:
    """Three images: one with boxes of a cat and a dog, one with a dog, and one with only a mask."""
    sizes = {"split": "train", "width": 12, "height": 10}
    lines = [
        {"path": "images/train/cat/0.png", **sizes, "boxes": [[0, 0, 0, 4, 4], [1, 2, 2, 12, 10], [1, 5, 5, 6, 6, 1]]},
        {"path": "images/train/dog/0.png", **sizes, "split": "val", "boxes": [[1, 0, 0, 4, 4]]},
        {"path": "images/train/dog/1.png", **sizes, "mask": "masks/train/1.png"},
    ]
    return rewrite(dataset, lines)


def rewrite(dataset: Dataset, lines: list[dict[str, Any]]) -> Dataset:
    (dataset.folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mask = np.zeros((10, 12), dtype=np.uint8)
    mask[:, 4:8], mask[:, 8:] = 2, 255
    (dataset.folder / "masks/train").mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(dataset.folder / "masks/train/1.png")
    return dataset


def test_an_image_is_listed_once_under_each_of_its_classes(annotated: Dataset) -> None:
    assert image_page(annotated).total == 3
    assert [image.path for image in image_page(annotated, label=0).images] == ["images/train/cat/0.png"]
    assert [Path(p.path).parent.name for p in image_page(annotated, label=1).images] == ["cat", "dog"]
    assert image_page(annotated, split="val", label=1).total == 1
    assert image_page(annotated, split="val", label=0).total == 0


def test_boxes_and_masks_come_with_the_image(annotated: Dataset) -> None:
    first, _second, third = image_page(annotated).images
    assert [(box.label, box.crowd) for box in first.boxes] == [(0, False), (1, False), (1, True)]
    assert (third.label, third.mask) == (-1, "masks/train/1.png")


def test_masks_without_stored_classes_cannot_be_filtered_by_class(annotated: Dataset) -> None:
    assert can_filter_by_class(annotated)
    line = {"path": "images/train/dog/1.png", "split": "train", "width": 12, "height": 10, "mask": "masks/train/1.png"}
    annotated.fingerprint = "another"
    assert not can_filter_by_class(rewrite(annotated, [line]))


def test_a_mask_overlay_has_the_colors_of_its_classes(annotated: Dataset) -> None:
    with Image.open(mask_overlay(annotated, "masks/train/1.png")) as image:
        pixels = np.asarray(image.convert("RGBA"))
    assert pixels.shape == (10, 12, 4)
    assert pixels[0, 0, 3] == 0
    assert tuple(pixels[0, 5]) == (*bytes.fromhex(class_colour(1)[1:]), 255)
    assert tuple(pixels[0, 9]) == (*bytes.fromhex(UNKNOWN_COLOUR[1:]), 255)


@pytest.mark.parametrize(
    "path", ["images/train/cat/0.png", "masks/../images/train/cat/0.png", "/etc/passwd", "masks", "", "masks/no.png"]
)
def test_only_masks_have_an_overlay(annotated: Dataset, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        mask_overlay(annotated, path)


def test_classes_have_different_colors() -> None:
    colours = [class_colour(label) for label in range(254)]
    assert len(set(colours)) == 254
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_mask_shares_are_the_area_of_each_class(annotated: Dataset) -> None:
    assert mask_shares(annotated, "masks/train/1.png") == {1: pytest.approx(1 / 3), None: pytest.approx(1 / 3)}


def mask_of(*values: int) -> bytes:
    """A mask of the size of `image` with vertical stripes of these values."""
    pixels = np.zeros((10, 12), dtype=np.uint8)
    for place, value in enumerate(values):
        pixels[:, 4 * place : 4 * place + 4] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_import_stores_the_classes_in_masks(import_tree: Callable[[Tree], Dataset]) -> None:
    masks = [mask_of(1), mask_of(1, 2), mask_of(0, 2), mask_of(2, 255), mask_of(1, 2)]
    tree: dict[str, bytes | None] = {f"images/{number}.png": image(number) for number in range(5)}
    tree |= {f"masks/{number}.png": mask for number, mask in enumerate(masks)}
    dataset = import_tree(tree | {"classes.txt": b"background\nsky\nsea\n"})
    assert (dataset.status, dataset.classes) == ("ready", ["sky", "sea"])
    assert can_filter_by_class(dataset)
    assert image_page(dataset, label=0).total == 3
    sea = {Path(image.path).stem for image in image_page(dataset, label=1).images}
    assert sea == {"1", "2", "3", "4"}
    in_splits = sum(image_page(dataset, split=split, label=1).total for split in ("train", "val"))
    assert in_splits == 4
