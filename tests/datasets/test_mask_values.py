"""The values of gray masks: classes, one class with soft edges, and the meaning of 255."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tests.helpers import annotated
from tests.helpers.sources import Tree, assert_refused, image
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.layout import Layout
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
SIZE = (60, 40)


def disc(seed: int) -> Image.Image:
    """A white disc with soft edges on black."""
    mask = Image.new("L", (SIZE[0] * 4, SIZE[1] * 4))
    left, top = 20 + 10 * seed, 10 + 5 * seed
    ImageDraw.Draw(mask).ellipse((left, top, left + 90, top + 80), fill=255)
    return mask.resize(SIZE, Image.Resampling.BICUBIC)


def content(mask: Image.Image, format_: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    mask.save(buffer, format_, quality=75)
    return buffer.getvalue()


def tree_of(masks: list[Image.Image], ending: str = "png", **files: bytes) -> dict[str, bytes]:
    tree = {f"images/p{number}.png": image(number, SIZE) for number in range(len(masks))}
    format_ = {"png": "PNG", "jpg": "JPEG"}[ending]
    tree |= {f"masks/p{number}.{ending}": content(mask, format_) for number, mask in enumerate(masks)}
    return tree | {name.replace("_", "."): text for name, text in files.items()}


def painted(*values: int) -> Image.Image:
    """Stripes of these values."""
    stripes = np.array(values, np.uint8)[np.arange(SIZE[0]) * len(values) // SIZE[0]]
    return Image.fromarray(np.tile(stripes, (SIZE[1], 1)))


def read(tree: dict[str, bytes], report: Report | None = None, **reading: object) -> Layout:
    source = annotated.source_of(dict(tree))
    return read_layout(source, report or Report(), reading=ReadingOptions.model_validate(reading))


def offered(layout: Layout, field: str) -> tuple[str, tuple[str, ...]] | None:
    return next(((offer.used, offer.choices) for offer in layout.offers if offer.field == field), None)


def codes_of(report: Report) -> list[str]:
    return [item["code"] for item in report.items()]


# Soft edges


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_masks_with_soft_edges_have_one_class(import_tree: ImportTree, ending: str) -> None:
    masks = [disc(number) for number in range(5)]
    dataset = import_tree(tree_of(masks, ending))
    assert (dataset.status, dataset.classes, dataset.tasks) == ("ready", ["foreground"], ["segmentation"])
    assert [item["code"] for item in dataset.report] == ["masks_thresholded"]
    for number, mask in enumerate(masks):
        found: NDArray[np.bool_] = annotated.imported_mask(dataset, f"p{number}") == 1
        drawn = np.asarray(mask) >= 128
        assert (found ^ drawn).mean() < (0.01 if ending == "jpg" else 1e-9)


def test_the_class_has_its_name_and_the_choice_is_offered() -> None:
    layout = read(tree_of([disc(0), disc(1)], classes_txt=b"background\nleaf\n"))
    assert layout.classes == ["leaf"]
    assert offered(layout, "mask_values") == ("threshold", ("threshold", "values"))


def test_every_value_is_a_class_if_chosen() -> None:
    report = Report()
    layout = read(tree_of([disc(0), disc(1)]), report, mask_values="values")
    assert len(layout.classes) > 8
    assert "masks_thresholded" not in codes_of(report)


def test_a_threshold_of_dark_masks_is_half_of_the_highest_value() -> None:
    layout = read(tree_of([painted(0, 1), painted(0, 1, 2)]), mask_values="threshold")
    assert layout.classes == ["foreground"]
    (coding,) = {id(found.mask.coding): found.mask.coding for found in layout.images if found.mask}.values()
    assert coding.meanings(np.array([[0, 1, 2]], np.int32)).tolist() == [[-1, 0, 0]]


@pytest.mark.parametrize(
    "values",
    [
        (0, 1, 2, 3, 30),
        (0, *range(1, 34)),
        (0, 1, 5, 20, 255),
        (0, *range(40, 200, 8)),
        (0, 255),
    ],
)
def test_classes_are_not_read_as_soft_edges(values: tuple[int, ...]) -> None:
    layout = read(tree_of([painted(*values), painted(*values)]))
    assert len(layout.classes) == len(set(values) - {0, 255}) + (values == (0, 255))
    assert offered(layout, "mask_values") is None


def test_indexed_masks_keep_their_classes() -> None:
    """Pascal VOC masks: class numbers with a palette."""
    indexed = [Image.frombytes("P", SIZE, disc(number).tobytes()) for number in range(2)]
    for mask in indexed:
        mask.putpalette([value for number in range(256) for value in (number, 255 - number, 0)])
    assert len(read(tree_of(indexed)).classes) > 8


def test_many_values_without_names_require_a_choice(import_tree: ImportTree, data_dir: Path) -> None:
    noise = [disc(number).filter(ImageFilter.GaussianBlur(9)) for number in range(3)]
    layout = read(tree_of(noise), report := Report())
    assert codes_of(report) == ["mask_values_unclear"]
    assert offered(layout, "mask_values") == ("values", ("threshold", "values"))
    assert_refused(import_tree(tree_of(noise)), data_dir, "mask_values_unclear", "different values", "classes.txt")
    assert len(read(tree_of(noise), mask_values="values").classes) > 50
    assert read(tree_of(noise), mask_values="threshold").classes == ["foreground"]


def test_jpeg_masks_of_several_classes_are_refused(import_tree: ImportTree, data_dir: Path) -> None:
    masks = [painted(0, 60, 120, 180)] * 2
    assert_refused(import_tree(tree_of(masks, "jpg")), data_dir, "mask_values_unclear", "masks/p0.jpg", "JPEGs")


def test_jpeg_masks_with_a_color_table_are_refused(import_tree: ImportTree, data_dir: Path) -> None:
    colours = b"name,r,g,b\nbackground,0,0,0\nleaf,255,255,255\n"
    tree = tree_of([painted(0, 255)] * 2, "jpg") | {"class_dict.csv": colours}
    assert_refused(import_tree(tree), data_dir, "mask_values_unclear", "masks/p0.jpg", "Save it as PNG")


def test_instance_masks_are_refused(import_tree: ImportTree, data_dir: Path) -> None:
    masks = [Image.fromarray(np.asarray(painted(0, 7, 26)).astype(np.uint16) * 1000 + 1) for _number in range(3)]
    assert_refused(import_tree(tree_of(masks)), data_dir, "unknown_class", "26001", "they number instances")


# 255


def test_255_next_to_classes_is_unknown_with_a_warning() -> None:
    layout = read(tree_of([painted(0, 1, 255)] * 2), report := Report())
    assert layout.classes == ["class 1"]
    assert offered(layout, "void_value") == ("void", ("void", "class"))
    assert codes_of(report) == ["void_assumed"]


def test_255_is_a_class_if_chosen() -> None:
    layout = read(tree_of([painted(0, 1, 255)] * 2), report := Report(), void_value="class")
    assert layout.classes == ["class 1", "class 255"]
    assert codes_of(report) == []


@pytest.mark.parametrize("values", [(0, 85, 170, 255), (0, 127, 255), (0, 128, 255), (0, 64, 128, 191, 255)])
def test_255_is_a_class_in_stretched_masks(values: tuple[int, ...]) -> None:
    layout = read(tree_of([painted(*values)] * 2))
    assert layout.classes == [f"class {value}" for value in values[1:]]
    assert offered(layout, "void_value") == ("class", ("void", "class"))
    assert read(tree_of([painted(*values)] * 2), void_value="void").classes == layout.classes[:-1]


# Names


@pytest.mark.parametrize(("photo", "mask"), [("img_{}", "mask_{}"), ("{}", "mask_{}"), ("image-{}", "{}_mask")])
def test_images_and_masks_are_paired_by_their_names(photo: str, mask: str) -> None:
    tree = {f"images/{photo.format(number)}.jpg": content(Image.new("RGB", SIZE), "JPEG") for number in range(3)}
    tree |= {f"masks/{mask.format(number)}.png": content(painted(0, number + 1)) for number in range(3)}
    pairs = {found.file.path: found.mask.file.path for found in read(tree).images if found.mask}
    assert pairs == {f"images/{photo.format(number)}.jpg": f"masks/{mask.format(number)}.png" for number in range(3)}
