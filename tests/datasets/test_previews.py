"""Thumbnails and pages of pictures."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.datasets.sources import Tree, picture, two_classes
from trainingapp.datasets.previews import picture_page, thumbnail
from trainingapp.models import Dataset


@pytest.fixture
def dataset(import_tree: Callable[[Tree], Dataset]) -> Dataset:
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(buffer, "PNG")
    tree = {**two_classes(each=10), "cat/large.jpg": picture(1, (900, 600), "JPEG"), "cat/clear.png": buffer.getvalue()}
    return import_tree({f"train/{path}": content for path, content in tree.items()} | two_classes(prefix="val/"))


def test_thumbnail_is_small_webp(dataset: Dataset) -> None:
    path = thumbnail(dataset, "images/train/cat/large.jpg", 160)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("WEBP", (160, 107))
    assert path.is_relative_to(dataset.folder / ".thumbs")


def test_thumbnail_is_made_once(dataset: Dataset) -> None:
    first = thumbnail(dataset, "images/train/cat/large.jpg").stat()
    assert thumbnail(dataset, "images/train/cat/large.jpg").stat() == first


def test_small_pictures_are_not_enlarged(dataset: Dataset) -> None:
    with Image.open(thumbnail(dataset, "images/train/cat/0.png")) as image:
        assert image.size == (12, 10)


def test_clear_parts_are_white(dataset: Dataset) -> None:
    with Image.open(thumbnail(dataset, "images/train/cat/clear.png")) as image:
        assert image.convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_sizes_are_few(dataset: Dataset) -> None:
    for size in range(1, 900, 7):
        thumbnail(dataset, "images/train/cat/0.png", size)
    assert len(list((dataset.folder / ".thumbs").iterdir())) == 4


def test_many_at_once(dataset: Dataset) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: thumbnail(dataset, "images/train/cat/large.jpg"), range(16)))
    assert [path.name for path in paths.pop().parent.iterdir()] == ["large.jpg.webp"]


@pytest.mark.parametrize(
    "path",
    ["../x.png", "images/../../x.png", "/etc/passwd", "dataset.json", "images", "", "images/no.png", "images/\0"],
)
def test_only_pictures_of_the_dataset(dataset: Dataset, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        thumbnail(dataset, path)


def test_pages(dataset: Dataset) -> None:
    page = picture_page(dataset, split="train", label=0, offset=8, limit=3)
    assert (page.total, page.offset) == (12, 8)
    assert [Path(picture.path).name for picture in page.pictures] == ["8.png", "9.png", "clear.png"]
    assert {(picture.split, picture.label) for picture in page.pictures} == {("train", 0)}


def test_pages_of_everything(dataset: Dataset) -> None:
    assert picture_page(dataset).total == 32
    assert picture_page(dataset, split="val").total == 10
    assert picture_page(dataset, label=1).total == 15
    assert picture_page(dataset, label=7).total == 0
    assert picture_page(dataset, offset=500).pictures == []
