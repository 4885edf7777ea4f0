"""COCO JSON variants that programs write in deviation from its specification."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from tests.helpers import annotated
from tests.helpers.annotated import IMAGES, SIZE, Tree, expected_boxes, imported_boxes, imported_mask
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Change = Callable[[Any], object]
EXPECTED = {stem: sorted(boxes) for stem, (_split, boxes) in expected_boxes().items()}


def one_file(change: Change, *, outlined: bool = False) -> Tree:
    """All images in one annotations.json without splits, after `change`."""
    content: Any = {"images": [], "annotations": [], "categories": []}
    for split in ("train", "val"):
        part: Any = annotated.coco(split, outlined=outlined)
        first = len(content["images"])
        content["images"] += [{**entry, "id": entry["id"] + first} for entry in part["images"]]
        content["annotations"] += [{**one, "image_id": one["image_id"] + first} for one in part["annotations"]]
        content["categories"] = part["categories"]
    change(content)
    tree: Tree = {f"images/{item.stem}.png": item.content() for item in IMAGES}
    return tree | {"annotations.json": json.dumps(content, indent=1).encode()}


def each(key: str, **changes: Callable[[Any], Any]) -> Change:
    def change(content: Any) -> None:
        for entry in content[key]:
            entry.update({name: new(entry.get(name)) for name, new in changes.items()})

    return change


def both(*changes: Change) -> Change:
    return lambda content: [change(content) for change in changes]


def boxes_of(dataset: Dataset) -> dict[str, list[Any]]:
    return {stem: boxes for stem, (_split, boxes) in imported_boxes(dataset).items()}


@pytest.mark.parametrize(
    "change",
    [
        each("annotations", image_id=str),
        each("annotations", image_id=float, category_id=str),
        both(each("images", id=float), each("annotations", image_id=float)),
        both(each("images", id=lambda one: f"{one}.0"), each("annotations", image_id=lambda one: f" {one} ")),
        both(each("images", id=lambda one: f"img-{one}"), each("annotations", image_id=lambda one: f"img-{one}")),
        both(each("categories", id=lambda one: one - 10), each("annotations", category_id=lambda one: one - 10)),
        each("annotations", bbox=lambda box: [str(value) for value in box]),
        each("annotations", segmentation=lambda _old: None, area=lambda _old: None, iscrowd=lambda _old: None),
        each("images", width=lambda _old: None, height=lambda _old: None),
        each("images", width=str, height=str),
        each("images", file_name=lambda name: f"https://h.org/a/{name}?X-Amz-Date=2026&sig=a%2Fb"),
        each("images", file_name=lambda name: f"C:\\data\\{name}"),
        both(each("images", path=lambda _old: None), lambda content: content.pop("info", None)),
        lambda content: content["images"].append(dict(content["images"][0])),
    ],
)
def test_the_same_boxes(import_tree: ImportTree, change: Change) -> None:
    dataset = import_tree(one_file(change))
    assert (dataset.status, dataset.report, dataset.classes) == ("ready", [], annotated.CLASSES)
    assert boxes_of(dataset) == EXPECTED


def test_names_as_urls(import_tree: ImportTree) -> None:
    tree = one_file(each("images", file_name=lambda name: f"https://h.org/x/my%20{name}?d=1"))
    tree = {path.replace("images/", "images/my "): content for path, content in tree.items()}
    assert {stem.removeprefix("my "): boxes for stem, boxes in boxes_of(import_tree(tree)).items()} == EXPECTED


@pytest.mark.parametrize(
    "new",
    [
        lambda old: old[0],
        lambda old: [str(value) for value in old[0]],
        lambda old: list(zip(old[0][::2], old[0][1::2], strict=True)),
        lambda old: [list(zip(old[0][::2], old[0][1::2], strict=True))],
        lambda old: [old[0], []],
        lambda old: [old[0], None],
    ],
)
def test_outlines_in_other_forms(import_tree: ImportTree, new: Callable[[Any], Any]) -> None:
    dataset = import_tree(one_file(each("annotations", segmentation=new), outlined=True))
    assert dataset.tasks == ["detection", "segmentation", "instances"]
    assert boxes_of(dataset) == EXPECTED
    assert (imported_mask(dataset, "p1") == annotated.mask_values(IMAGES[0])).all()


def test_one_image_under_two_ids_has_the_objects_of_both(import_tree: ImportTree) -> None:
    def change(content: Any) -> None:
        content["images"].append({"id": 99, "file_name": "p3.png", "width": SIZE[0], "height": SIZE[1]})
        entry = content["annotations"][0]
        content["annotations"].append({**entry, "image_id": 99, "bbox": [1, 2, 3, 4]})
        content["images"].append({"id": 100, "file_name": "p1.png"})
        content["annotations"].append({**entry, "image_id": 100})  # the same object again
        content["annotations"].append({**entry, "image_id": 100, "bbox": [2, 2, 2, 2]})

    dataset = import_tree(one_file(change))
    more = {"p3": [("cat", (1.0, 2.0, 4.0, 6.0))], "p1": sorted([*EXPECTED["p1"], ("cat", (2, 2, 4, 4))])}
    assert boxes_of(dataset) == EXPECTED | more
    assert codes(dataset, "warning") == ["duplicate_name"]


def test_key_points_are_reported_and_ignored(import_tree: ImportTree) -> None:
    dataset = import_tree(one_file(each("annotations", keypoints=lambda _old: [5, 5, 2], num_keypoints=lambda _old: 1)))
    assert boxes_of(dataset) == EXPECTED
    assert [item["message"] for item in dataset.report] == [
        "8 objects in annotations.json have key points, which were ignored; their boxes were imported."
    ]


def test_a_test_file_without_annotations_is_left_out(import_tree: ImportTree) -> None:
    about: Any = annotated.coco("val")
    content = {"images": [{"id": 1, "file_name": "t1.png"}], "categories": about["categories"]}
    more: Tree = {"test/t1.png": image(1, SIZE), "test/_annotations.coco.test.json": json.dumps(content).encode()}
    dataset = import_tree(annotated.coco_tree() | more)
    assert imported_boxes(dataset) == expected_boxes()
    assert "test_left_out" in codes(dataset, "warning")


def test_captions_of_the_same_images_are_not_read(import_tree: ImportTree) -> None:
    tree = annotated.coco_tree()
    captions: Any = annotated.coco("train")
    content = {"images": captions["images"], "annotations": [{"id": 1, "image_id": 1, "caption": "A cat."}]}
    dataset = import_tree(tree | {"train/captions.json": json.dumps(content).encode()})
    assert imported_boxes(dataset) == expected_boxes()


def test_an_annotation_without_box_and_outline_is_reported(import_tree: ImportTree, data_dir: Path) -> None:
    tree = one_file(lambda content: content["annotations"][0].update(bbox=None, segmentation=[]))
    assert_refused(import_tree(tree), data_dir, "bad_annotation", "annotations.json line", "needs a bbox or")


@pytest.mark.parametrize(
    ("box", "text"),
    [
        (lambda box: [value / 100 for value in box], "between 0 and 1"),
        (lambda box: [30, 20, 58, 39], "would fit as left, top, right and bottom"),
    ],
)
def test_boxes_in_another_form_are_refused(
    import_tree: ImportTree, data_dir: Path, box: Callable[[Any], Any], text: str
) -> None:
    assert_refused(import_tree(one_file(each("annotations", bbox=box))), data_dir, "bad_annotation", text)


def test_packed_run_lengths_that_python_wrote_as_bytes(import_tree: ImportTree) -> None:
    packed = coco_masks.encode(np.asfortranarray(np.ones((SIZE[1], SIZE[0]), np.uint8)))["counts"]
    outline = {"size": [SIZE[1], SIZE[0]], "counts": str(packed)}
    dataset = import_tree(one_file(each("annotations", segmentation=lambda _old: outline)))
    assert (dataset.status, dataset.tasks) == ("ready", ["detection", "segmentation", "instances"])
