"""Recognition of sources: folder names become classes only if there is no evidence against it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import annotated
from tests.helpers.annotated import png
from tests.helpers.sources import Tree, assert_refused, codes, image
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.folder_names import folder_name, kind_of_folder, kinds_of_folders
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


def images(*paths: str, first: int = 0) -> dict[str, bytes | None]:
    """A different image at each path; * is replaced by the numbers 0 to 3."""
    every = [path.replace("*", str(number)) for path in paths for number in (range(4) if "*" in path else [0])]
    return {path: image(first + number, format_="JPEG") for number, path in enumerate(every)}


def white_square() -> bytes:
    values_HW = np.zeros((10, 12), np.uint8)
    values_HW[2:6, 2:6] = 255
    return png(Image.fromarray(values_HW))


@pytest.mark.parametrize(
    ("name", "kind", "is_structure"),
    [
        ("train", "train", True),
        ("train2017", "train", True),
        ("obj_valid_data", "val", True),
        ("test-images", "test", True),
        ("trainA", "train", True),
        ("测试集", "test", True),
        ("train_masks", "train", True),
        ("leftImg8bit", None, True),
        ("Ground Truth", None, True),
        ("SegmentationClass", None, True),
        ("crash test", None, False),
        ("invalid", None, False),
        ("no_mask", None, False),
        ("cat", None, False),
        ("7", None, False),
    ],
)
def test_meaning_of_folder_names(name: str, kind: str | None, is_structure: bool) -> None:
    assert (kind_of_folder(name), folder_name(name).is_structure) == (kind, is_structure)


def test_names_with_other_words_are_splits_only_in_pairs() -> None:
    folders = ["street-train", "street-val/images", "street-val", "crash test"]
    assert kinds_of_folders(folders) == {"street-train": "train", "street-val": "val"}


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (images("images/*.jpg"), "images"),
        (images("train/*.jpg", "valid/*.jpg"), "train, valid"),
        (images("train/*.jpg", "train_masks/*_m.jpg"), "train, train_masks"),
        (images("leftImg8bit/train/aachen/*.jpg", "gtFine/train/aachen/*c.jpg"), "gtFine, leftImg8bit"),
        (images("train/*.jpg", "train_labels/*_L2.jpg", "val/*_v.jpg", "val_labels/*_x.jpg"), "train_labels, val"),
        (images("ISIC_Training_Data/a*.jpg", "ISIC_Training_GroundTruth/b*.jpg"), "ISIC_Training_GroundTruth"),
        (images("train/images/*.jpg", "val/images/*.jpg", "train/labels/*_x.jpg"), "images, labels"),
        (images("cat/*.jpg", "dog/*.jpg", "masks/*.jpg"), "masks"),
    ],
)
def test_splits_images_and_masks_are_not_classes(
    import_tree: ImportTree, data_dir: Path, tree: Tree, named: str
) -> None:
    assert_refused(import_tree(tree), data_dir, "not_classes", named, "not like")


@pytest.mark.parametrize(
    "classes",
    [
        ["bus", "car", "train"],
        ["invalid", "valid"],
        ["mask", "no_mask"],
        ["with masks", "without masks"],
        ["crash test", "road"],
        ["drawing", "photo"],
        ["labelled", "test"],
    ],
)
def test_classes_named_with_such_words_remain_classes(import_tree: ImportTree, classes: list[str]) -> None:
    dataset = import_tree(images(*(f"{name}/*.jpg" for name in classes)))
    assert (dataset.status, dataset.classes) == ("ready", classes)
    assert dataset.count("train") + dataset.count("val") == 4 * len(classes)


LABEL = json.dumps({"objects": [{"class": "cat", "box": [1, 1, 4, 4]}]}).encode()


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({f"{day}/{number}.json": LABEL for day in ("day1", "day2") for number in range(4)}, "8 files"),
        ({f"notes/{number}.txt": b"a cat" for number in range(4)}, "4 files"),
        ({"export.json": b'[{"photo": "/upload/day1/0.jpg"}, {"photo": "/upload/day1/2.jpg"}]'}, "export.json"),
        ({"list.txt": b"day1/0.jpg 0\nday1/1.jpg 1\n"}, "list.txt"),
        ({"export.xml": '<a name="0.jpg"/><a name="1.jpg"/>'.encode("utf-16")}, "export.xml"),
    ],
)
def test_annotations_that_no_format_recognizes_refuse_the_source(
    import_tree: ImportTree, data_dir: Path, files: Tree, named: str
) -> None:
    dataset = import_tree({**images("day1/*.jpg", "day2/*.jpg"), **files})
    assert_refused(dataset, data_dir, "unread_annotations", named, "Export the annotations as COCO JSON")


def test_masks_among_the_images_refuse_the_source(import_tree: ImportTree, data_dir: Path) -> None:
    tree = images("benign/*.jpg", "malignant/*.jpg")
    marked = {path.replace(".jpg", "_mask.png"): white_square() for path in tree}
    assert_refused(import_tree({**tree, **marked}), data_dir, "unread_annotations", "benign/0_mask.png")
    beside = {path.replace(".jpg", ".png"): white_square() for path in tree}
    assert_refused(import_tree({**tree, **beside}), data_dir, "unread_annotations", "benign/0.png")


@pytest.mark.parametrize(
    "files",
    [
        {"README.txt": b"day1/0.jpg and day1/1.jpg are the best", "LICENSE.txt": b"MIT"},
        {"classes.txt": b"day1\nday2\n", "class_indices.json": b'{"0": "day1", "1": "day2"}'},
        {"table.csv": b"number,name\n0,day1\n1,day2\n"},
        {"sample_submission.csv": b"id,label\n0.jpg,0\n1.jpg,0\n"},
    ],
)
def test_other_files_next_to_class_folders_are_ignored(import_tree: ImportTree, files: Tree) -> None:
    dataset = import_tree({**images("day1/*.jpg", "day2/*.jpg"), **files})
    assert (dataset.status, dataset.classes) == ("ready", ["day1", "day2"])


def test_a_flat_test_folder_is_left_out(import_tree: ImportTree) -> None:
    dataset = import_tree(images("train/cat/*.jpg", "train/dog/*.jpg", "test/*.jpg"))
    assert (dataset.status, dataset.classes) == ("ready", ["cat", "dog"])
    assert dataset.count("train") + dataset.count("val") == 8
    assert codes(dataset, "warning") == ["test_left_out", "val_set_aside"]


def test_a_flat_val_folder_is_refused(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(images("train/cat/*.jpg", "train/dog/*.jpg", "val/*.jpg"))
    assert_refused(dataset, data_dir, "mixed_layout", "The images in val", "not in class folders")


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("training_set/training_set/{}", "test_set/test_set/{}"),
        ("seg_train/seg_train/{}", "seg_test/seg_test/{}"),
        ("fruit-train/{}", "fruit-val/{}"),
        ("{}/train", "{}/val"),
        ("{}/train", "{}/test"),
        ("训练集/{}", "验证集/{}"),
    ],
)
def test_splits_in_other_places_are_kept(import_tree: ImportTree, train: str, val: str) -> None:
    paths = [f"{place.format(name)}/{place[0]}*.jpg" for place in (train, val) for name in ("cat", "dog")]
    tree = images(*[path.replace("{", "x") for path in paths])
    dataset = import_tree(tree)
    assert (dataset.status, dataset.classes) == ("ready", ["cat", "dog"])
    assert dataset.counts == {"train": {"cat": 4, "dog": 4}, "val": {"cat": 4, "dog": 4}}


def test_inner_test_folders_are_left_out(import_tree: ImportTree) -> None:
    paths = [f"{name}/{part}/*.jpg" for name in ("cat", "dog") for part in ("train", "val", "test")]
    dataset = import_tree(images(*paths))
    assert (dataset.count("train"), dataset.count("val")) == (8, 8)
    assert codes(dataset, "warning") == ["test_left_out", "test_left_out"]


def test_a_test_folder_alone_has_classes(import_tree: ImportTree, data_dir: Path) -> None:
    """Its images are held out: they are imported only if the user chooses to draw new splits."""
    tree = images("test/cat/*.jpg", "test/dog/*.jpg")
    assert_refused(import_tree(tree), data_dir, "no_train", "No training image was found")
    layout = read_layout(annotated.source_of(tree), Report(), reading=ReadingOptions(splits="none"))
    assert (layout.classes, {image.kind for image in layout.images}) == (["cat", "dog"], {None})


def test_missing_images_give_a_single_message(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree({f"labels/p{number}.txt": b"0 .5 .5 .1 .1\n" for number in range(6)} | {"images": None})
    assert_refused(dataset, data_dir, "no_images", "6 files of other kinds (.txt)", "include images")
    assert len(dataset.report) == 1


@pytest.mark.parametrize("tops", [("color", "grayscale", "segmented"), ("day1", "day2")])
def test_repeated_subfolders_are_the_classes(import_tree: ImportTree, tops: tuple[str, ...]) -> None:
    dataset = import_tree(images(*(f"{top}/{name}/*.jpg" for top in tops for name in ("apple", "corn"))))
    assert (dataset.status, dataset.classes, codes(dataset, "warning")) == (
        "ready",
        ["apple", "corn"],
        ["mixed_layout"],
    )
    assert dataset.count("train") + dataset.count("val") == 8 * len(tops)


def test_differing_subfolders_are_not_classes(import_tree: ImportTree) -> None:
    dataset = import_tree(images("dog/poodle/*.jpg", "dog/boxer/*.jpg", "cat/siamese/*.jpg"))
    assert (dataset.status, dataset.classes) == ("ready", ["cat", "dog"])


@pytest.mark.parametrize("other", ["seg_pred/seg_pred/*.jpg", "test-several/*.jpg", "unlabeled/*.jpg"])
def test_images_for_prediction_next_to_splits_are_left_out(import_tree: ImportTree, other: str) -> None:
    paths = [f"{split}/{name}/{split}*.jpg" for split in ("seg_train", "seg_test") for name in ("sea", "street")]
    dataset = import_tree(images(*paths) | images(other, first=100))
    assert (dataset.status, dataset.classes) == ("ready", ["sea", "street"])
    assert (dataset.count("train"), dataset.count("val")) == (8, 8)
    assert "test_left_out" in codes(dataset, "warning")
