"""The columns of YOLO label files: boxes, outlines, poses, oriented boxes, predictions and tracks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.annotated import IMAGES, Tree, imported_boxes
from tests.helpers.sources import assert_refused, codes
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
BOX = ("cat", (18.0, 12.0, 42.0, 28.0))
"""0.5 0.5 0.4 0.4 in an image of 60 x 40 pixels."""


def labelled(line: str | dict[str, str], about: str = "") -> Tree:
    """Every image has this line, or the line for its stem."""
    tree: Tree = {"data.yaml": f"names: [cat, dog]\n{about}".encode()}
    for item in IMAGES:
        tree[f"images/{item.stem}.png"] = item.content()
        own = line if isinstance(line, str) else line.get(item.stem, "0 .5 .5 .4 .4")
        tree[f"labels/{item.stem}.txt"] = own.encode()
    return tree


@pytest.mark.parametrize(
    ("line", "about", "code"),
    [
        ("0 .5 .5 .4 .4 .35 .35 2 .65 .35 1 .65 .65 2 .35 .65 0", "kpt_shape: [4, 3]", "columns_ignored"),
        ("0 .5 .5 .4 .4 .35 .35 .65 .35 .65 .65", "kpt_shape: [3, 2]", "columns_ignored"),
        ("0 .5 .5 .4 .4 .35 .35 2 .65 .35 1 .65 .65 2 .35 .65 0", "", "columns_ignored"),
        ("0 .5 .5 .4 .4" + " .5 .6 2" * 17, "", "columns_ignored"),
        ("0 .5 .5 .4 .4" + " .6 .45 .55 .6 0 0", "", "columns_ignored"),
        ("0 .5 .5 .4 .4 0.93", "", "columns_ignored"),
        ("0 .5 .5 .4 .4 17", "", "columns_ignored"),
        ("0 .5 .5 .4 .4 0.93 3", "", "columns_ignored"),
    ],
)
def test_boxes_are_read_and_other_columns_reported(import_tree: ImportTree, line: str, about: str, code: str) -> None:
    dataset = import_tree(labelled(line, about))
    assert (dataset.status, dataset.tasks) == ("ready", ["detection"])
    assert {tuple(boxes) for _split, boxes in imported_boxes(dataset).values()} == {(BOX,)}
    assert code in codes(dataset, "warning")
    message = next(item["message"] for item in dataset.report if item["code"] == code)
    assert "labels/p1.txt line 1" in message


def test_four_corners_are_oriented_boxes_and_outlines(import_tree: ImportTree) -> None:
    dataset = import_tree(labelled("0 .5 .2 .8 .5 .5 .8 .2 .5"))
    assert dataset.tasks == ["detection", "segmentation", "instances"]
    assert imported_boxes(dataset)["p1"][1] == [("cat", (12.0, 8.0, 48.0, 32.0))]
    assert "oriented_boxes" in codes(dataset, "warning")


def test_outlines_of_several_lengths_are_outlines(import_tree: ImportTree) -> None:
    lines = {f"p{number}": "0 .2 .2 .8 .2 .8 .8" + " .2 .7" * number for number in range(1, 7)}
    dataset = import_tree(labelled(lines))
    assert dataset.tasks == ["detection", "segmentation", "instances"]
    assert codes(dataset, "warning") == ["empty_class"]


def test_outlines_of_one_length_are_outlines(import_tree: ImportTree) -> None:
    dataset = import_tree(labelled("0 .7 .2 .8 .4 .7 .6 .5 .7 .3 .5 .5 .3"))
    assert dataset.tasks == ["detection", "segmentation", "instances"]
    assert imported_boxes(dataset)["p1"][1] == [("cat", (18.0, 8.0, 48.0, 28.0))]


def test_ambiguous_columns_are_refused(import_tree: ImportTree, data_dir: Path) -> None:
    line = "0 .5 .5 .6 .55 .4 .5 .7 .6 .3 .45"
    assert_refused(import_tree(labelled(line)), data_dir, "bad_annotation", "lines of 11 values", "kpt_shape")


@pytest.mark.parametrize("line", ["0 24 20 18 16", "0 12 8 48 8 48 32 12 32", "1 300 200 100 50 0.9"])
def test_pixels_are_refused(import_tree: ImportTree, data_dir: Path, line: str) -> None:
    dataset = import_tree(labelled(line))
    assert_refused(dataset, data_dir, "bad_annotation", "labels/p1.txt line 1", "not a share of the image", "6 lines")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [yes, no]", ["yes", "no"]),
        ("names:\n  0: on\n  1: off", ["on", "off"]),
        ("names: [null, 2024-01-01]", ["null", "2024-01-01"]),
        ("names: [1.0, 007]", ["1.0", "007"]),
        ("nc: 2", ["0", "1"]),
        ("names: {'1': b, '0': a}", ["a", "b"]),
    ],
)
def test_names_are_kept_as_text(import_tree: ImportTree, names: str, expected: list[str]) -> None:
    tree = labelled({"p1": "1 .5 .5 .4 .4"}) | {"data.yaml": names.encode()}
    assert import_tree(tree).classes == expected


def test_lines_of_another_length_are_reported(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(labelled({"p2": "0 .1 .1 .2 .1 .2 .2 .1"}))
    assert_refused(dataset, data_dir, "bad_annotation", "labels/p2.txt line 1", "not 8 values")


def test_a_repeated_line_is_one_object(import_tree: ImportTree) -> None:
    dataset = import_tree(labelled("0 0.5 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.4"))
    assert (dataset.status, codes(dataset, "warning")) == ("ready", ["ignored_object", "empty_class"])
    assert all(len(boxes) == 1 for _split, boxes in imported_boxes(dataset).values())


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0,0.5,0.5,0.4,0.4", "separated by spaces"),
        ("car 0.5 0.5 0.4 0.4", "'car 0.5 0.5 0.4 0.4' is not a line of YOLO"),
        ("0 0,5 0,5 0,4 0,4", "with decimal points"),
    ],
)
def test_lines_that_are_not_numbers_are_quoted(import_tree: ImportTree, data_dir: Path, line: str, text: str) -> None:
    assert_refused(import_tree(labelled(line)), data_dir, "bad_annotation", "line 1", text)


def test_the_error_for_a_class_number_beyond_the_last_names_the_last(import_tree: ImportTree, data_dir: Path) -> None:
    dataset = import_tree(labelled("2 0.5 0.5 0.4 0.4"))
    assert_refused(dataset, data_dir, "unknown_class", "no class 2; the classes are numbered from 0 to 1")


def test_a_network_definition_does_not_name_the_classes(import_tree: ImportTree) -> None:
    tree = labelled("1 0.5 0.5 0.4 0.4") | {"a_network.yaml": b"nc: 80\nbackbone: []\n"}
    assert import_tree(tree).classes == ["cat", "dog"]
