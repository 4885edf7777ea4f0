"""Common variants of masks: their location and their channels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.helpers.annotated import imported_mask, png
from tests.helpers.sources import Tree, assert_refused, codes, image, write_tree
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.folders import read_folder, within_the_folder
from trainingapp.datasets.sources.formats import masks
from trainingapp.datasets.sources.formats.mask_pairs import mask_pairs
from trainingapp.datasets.sources.source import Source
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
SIZE = (60, 40)
COUNT = 5
SHAPE = (12, 8, 40, 32)
"""Left, top, right and bottom of the disc in every mask; masks differ in the number of their first rows."""


def disc(number: int, value: int = 255) -> Image.Image:
    drawn = Image.new("L", SIZE)
    ImageDraw.Draw(drawn).ellipse((SHAPE[0] + number, *SHAPE[1:]), fill=value)
    return drawn


def stripes(*values: int, dtype: type[np.generic] = np.uint8) -> Image.Image:
    """A mask with a vertical stripe of 10 pixels per value on 0."""
    values_HW = np.zeros((SIZE[1], SIZE[0]), dtype)
    for number, value in enumerate(values):
        values_HW[5:35, 10 * number + 5 : 10 * number + 15] = value
    return Image.fromarray(values_HW)


def tree_of(
    content: Callable[[int], bytes], *, image_path: str = "images/p{}.jpg", mask_path: str = "masks/p{}.png"
) -> Tree:
    tree: Tree = {}
    for number in range(COUNT):
        tree[image_path.format(number)] = image(number, SIZE, "JPEG")
        tree[mask_path.format(number)] = content(number)
    return tree


def stored(dataset: Dataset, stem: str) -> NDArray[np.uint8]:
    return np.asarray(imported_mask(dataset, stem))


def files_of(folder: Path, tree: Tree, **reading: object) -> Files:
    found, folders = read_folder(write_tree(folder, tree), within_the_folder, Report())
    return Files(Source(found, folders), reading=ReadingOptions.model_validate(reading))


# Channels


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "LA", "RGB"])
def test_masks_of_other_types_keep_their_values(import_tree: ImportTree, mode: str) -> None:
    plain = stripes(1, 2)
    mask = stripes(1, 2, dtype=np.uint16) if mode == "I;16" else plain.convert(mode)
    dataset = import_tree(tree_of(lambda _number: png(mask)))
    assert (dataset.status, dataset.classes) == ("ready", ["class 1", "class 2"])
    assert (stored(dataset, "p0") == np.asarray(plain)).all()


@pytest.mark.parametrize("paint", [(0, 0, 0), (255, 255, 255)])
def test_masks_in_the_alpha_channel(import_tree: ImportTree, paint: tuple[int, int, int]) -> None:
    def painted(number: int) -> bytes:
        mask = Image.new("RGB", SIZE, paint)
        mask.putalpha(disc(number))
        return png(mask)

    dataset = import_tree(tree_of(painted))
    assert (dataset.status, dataset.classes) == ("ready", ["foreground"])
    assert (stored(dataset, "p1") == (np.asarray(disc(1)) > 0)).all()


def test_colors_need_a_table(import_tree: ImportTree, data_dir: Path) -> None:
    tree = tree_of(lambda _number: png(Image.merge("RGB", [stripes(200), stripes(10), stripes(10)])))
    assert_refused(import_tree(tree), data_dir, "colours_unknown", "label_colors.txt")


# Location of masks


@pytest.mark.parametrize(
    ("image_path", "mask_path"),
    [
        ("train/p{}.jpg", "train_masks/p{}_mask.png"),
        ("images/img_{}.jpg", "masks/mask_{}.png"),
        ("ISIC_Training_Data/I{}.jpg", "ISIC_Training_GroundTruth/I{}_segmentation.png"),
        ("set/train/p{}.jpg", "set/trainannot/p{}.png"),
        ("brain/a{}.jpg", "brain/a{}_mask.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("photos/p{}.jpg", "annotations/trimaps/p{}.png"),
    ],
)
def test_masks_are_found_by_folder_and_name(import_tree: ImportTree, image_path: str, mask_path: str) -> None:
    dataset = import_tree(tree_of(lambda number: png(disc(number)), image_path=image_path, mask_path=mask_path))
    assert (dataset.status, dataset.format, dataset.classes) == ("ready", "masks", ["foreground"])
    assert dataset.count("train") + dataset.count("val") == COUNT


@pytest.mark.parametrize(
    "folders",
    [
        ("mask", "no_mask"),
        ("with_mask", "without_mask"),
        ("images/mask", "images/no_mask"),
        ("train/mask", "train/face"),
        ("images/mask", "images/bus"),
    ],
)
def test_classes_with_the_word_mask_are_not_masks(tmp_path: Path, folders: tuple[str, str]) -> None:
    tree: Tree = {f"{folder}/{n}.jpg": image(n, SIZE, "JPEG") for folder in folders for n in range(4)}
    assert not mask_pairs(files_of(tmp_path / "source", tree)).are_likely


def test_masks_next_to_images_of_several_classes_require_a_choice(tmp_path: Path) -> None:
    tree = tree_of(lambda number: png(disc(number)), image_path="benign/a{}.jpg", mask_path="benign/a{}_mask.png")
    tree |= tree_of(lambda number: png(disc(number)), image_path="tumor/b{}.jpg", mask_path="tumor/b{}_mask.png")
    files = files_of(tmp_path / "source", tree)
    assert not masks.recognise(files)
    layout = masks.read(files, Report())
    assert (layout.classes, len(layout.images)) == (["foreground"], 2 * COUNT)


def test_masks_beside_another_dataset_keep_their_images(tmp_path: Path) -> None:
    """The other images have the same names, in a folder that is named after images."""
    tree: Tree = {f"other/images/p{number}.jpg": image(50 + number, SIZE, "JPEG") for number in range(COUNT)}
    for number in range(COUNT):
        split = "val" if number < 2 else "train"
        tree[f"set/{split}/p{number}.jpg"] = image(number, SIZE, "JPEG")
        tree[f"set/{split}annot/p{number}.png"] = png(disc(number))
    found = mask_pairs(files_of(tmp_path / "source", tree))
    assert len(found.pairs) == COUNT
    assert all(mask.path == photo.path.replace("/p", "annot/p").replace("jpg", "png") for photo, mask in found.pairs)


def test_masks_in_folders_of_splits_give_images_their_split(import_tree: ImportTree) -> None:
    tree: Tree = {f"images/p{number}.jpg": image(number, SIZE, "JPEG") for number in range(COUNT)}
    tree |= {f"{'val' if n < 2 else 'train'}annot/p{n}.png": png(disc(n)) for n in range(COUNT)}
    dataset = import_tree(tree)
    assert (dataset.count("val"), dataset.count("train")) == (2, COUNT - 2)


def test_test_images_without_masks_are_left_out(import_tree: ImportTree) -> None:
    paths = {"image_path": "{}.jpg", "mask_path": "{}.png"}
    tree: Tree = {}
    for split, folder in (("train", "train/{}/p"), ("val", "val/{}/p")):
        both = {"image_path": folder.format("images") + split + paths["image_path"]}
        tree |= tree_of(
            lambda number: png(disc(number)),
            **both,
            mask_path=folder.format("masks") + split + paths["mask_path"],
        )
    tree |= {f"test/images/t{n}.jpg": image(50 + n, SIZE, "JPEG") for n in range(3)}
    dataset = import_tree(tree)
    assert dataset.status == "ready"
    assert "not_annotated" in codes(dataset, "warning")


def test_black_and_white_of_16_bits_is_one_class(import_tree: ImportTree) -> None:
    dataset = import_tree(tree_of(lambda _number: png(stripes(0, 65535, dtype=np.uint16))))
    assert (dataset.status, dataset.classes, dataset.report) == ("ready", ["foreground"], [])


def test_names_in_the_table_of_roboflow(import_tree: ImportTree) -> None:
    names = b"Pixel Value, Class\n0, background\n1, road\n2, car\n"
    dataset = import_tree(tree_of(lambda _number: png(stripes(0, 1, 2))) | {"masks/_classes.csv": names})
    assert (dataset.status, dataset.classes, dataset.report) == ("ready", ["road", "car"], [])
