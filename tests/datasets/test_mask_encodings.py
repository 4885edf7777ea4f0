"""Mask encodings of annotation programs: run lengths, brushes and small images give the same boxes and masks."""

import base64
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from tests.helpers import mask_encodings as encodings
from tests.helpers.annotated import (
    CLASSES,
    IMAGES,
    SIZE,
    Tree,
    expected_boxes,
    imported_boxes,
    imported_mask,
    mask_values,
)
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.datasets.sources.formats.run_lengths import brush_alpha, counts_of_pairs, crop_of_png, of_crop
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Corners = tuple[int, int, int, int]
WIDTH, HEIGHT = SIZE


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (encodings.kaggle_tree("class"), "csv_runs"),
        (encodings.kaggle_tree("joined"), "csv_runs"),
        (encodings.kaggle_tree("rows"), "csv_runs"),
        (encodings.cvat_tree(), "cvat"),
        (encodings.label_studio_tree(), "label_studio"),
        (encodings.labelme_tree(), "labelme"),
        (encodings.supervisely_tree(), "supervisely"),
    ],
)
def test_masks_of_every_program(import_tree: ImportTree, tree: Tree, name: str) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == (
        name,
        ["detection", "segmentation", "instances"],
        CLASSES,
    )
    assert imported_boxes(dataset) == expected_boxes()
    for item in IMAGES:
        assert (imported_mask(dataset, item.stem) == mask_values(item)).all()


def test_masks_without_a_class_are_one_class(import_tree: ImportTree) -> None:
    rows = ["id,rle_mask", *(f"p{number},{encodings.columns((1, 1, 9, 9)) if number else ''}" for number in range(5))]
    pictures = {f"images/p{number}.png": image(number, SIZE) for number in range(5)}
    dataset = import_tree({**pictures, "masks.csv": "\n".join(rows).encode()})
    assert (dataset.status, dataset.format, dataset.classes) == ("ready", "csv_runs", ["object"])
    assert codes(dataset, "warning") == ["one_class"]
    assert sorted(map(len, (boxes for _split, boxes in imported_boxes(dataset).values()))) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("runs", "text"),
    [("5 3 x", "line 2"), ("0 4", "encodedpixels"), ("5 3 6 2", "without overlap"), ("2390 40", "run lengths")],
)
def test_invalid_run_lengths_are_reported(import_tree: ImportTree, data_dir: Path, runs: str, text: str) -> None:
    rows = ["ImageId,EncodedPixels", f"p0.png,{runs}", *(f"p{number}.png,5 3" for number in range(1, 4))]
    pictures = {f"train/p{number}.png": image(number, SIZE) for number in range(4)}
    assert_refused(import_tree({**pictures, "a.csv": "\n".join(rows).encode()}), data_dir, "bad_annotation", text)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (7, 3), (-2, -1), (25, 18)])
def test_a_crop_has_the_run_lengths_of_pycocotools(left: int, top: int) -> None:
    random = np.random.default_rng(abs(left + 10 * top))
    crop_HW = random.random((5, 6)) < 0.5
    whole_HW = np.zeros((40, 50), bool)
    whole_HW[10 + top : 15 + top, 10 + left : 16 + left] = crop_HW
    visible_HW = whole_HW[10:30, 10:38]
    rle = of_crop(crop_HW, left, top, (28, 20))
    assert rle is not None
    packed = coco_masks.frPyObjects([{"size": [20, 28], "counts": list(rle.counts)}], 20, 28)
    assert (coco_masks.decode(packed)[..., 0] == visible_HW).all()


def test_a_crop_outside_the_image_is_not_a_mask() -> None:
    assert of_crop(np.ones((3, 3), bool), 30, 0, (28, 20)) is None
    assert of_crop(np.zeros((3, 3), bool), 3, 3, (28, 20)) is None


@pytest.mark.parametrize(
    "found",
    [
        brush_alpha(encodings.packed_brush([0] * 40), 3, 3),
        brush_alpha(encodings.packed_brush([0] * 36)[:-3], 3, 3),
        brush_alpha([300, 1], 3, 3),
        crop_of_png("no base64"),
        crop_of_png(base64.b64encode(b"\x89PNG no image").decode()),
        crop_of_png(base64.b64encode(zlib.compress(b"a" * 100)).decode()),
        counts_of_pairs(""),
        counts_of_pairs("1"),
    ],
)
def test_broken_masks_are_decoded_to_none(found: object) -> None:
    assert found is None
