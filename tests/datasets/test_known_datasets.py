"""Handwritten layouts of well-known datasets and libraries give the same objects and splits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.annotated import (
    CLASSES,
    IMAGES,
    Tree,
    expected_boxes,
    imported_boxes,
    imported_mask,
    mask_values,
    source_of,
)
from tests.helpers.known_datasets import ROOT, cityscapes_tree, visdrone_tree
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.formats.visdrone import CATEGORIES
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


def test_ignored_regions_of_visdrone_are_left_out(import_tree: ImportTree) -> None:
    dataset = import_tree(visdrone_tree("5,5,9,9,0,0,0,0,\n1,1,8,8,0,11,-1,-1\n"))
    assert (dataset.format, dataset.tasks, dataset.classes) == ("visdrone", ["detection"], list(CATEGORIES[1:4]))
    assert codes(dataset, "warning") == ["ignored_object"]
    assert dataset.report[0]["message"].startswith(f"2 ignored regions were left out, first at {ROOT}train")
    names = dict(zip(CATEGORIES[1:4], CLASSES, strict=True))
    found = {
        name: (split, sorted((names[label], box) for label, box in boxes))
        for name, (split, boxes) in imported_boxes(dataset).items()
    }
    assert found == expected_boxes()


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("1,2,3,4,1,12,0,0\n", "unknown_class", "there is no class 12"),
        ("1,2,3,4,1\n", "bad_annotation", "1,2,3,4,1 is not a line of eight numbers"),
    ],
)
def test_bad_lines_of_visdrone(import_tree: ImportTree, data_dir: Path, line: str, code: str, text: str) -> None:
    tree = visdrone_tree()
    path = f"{ROOT}train/annotations/p1.txt"
    good = (tree[path] or b"").decode()
    # The bad line is after the part that is inspected to recognize the format.
    tree[path] = (good * 20).encode() + line.encode()
    count = len(good.splitlines()) * 20 + 1
    assert_refused(import_tree(tree), data_dir, code, f"annotations/p1.txt line {count}: {text}")


def test_cityscapes(import_tree: ImportTree) -> None:
    dataset = import_tree(cityscapes_tree())
    assert (dataset.format, dataset.tasks) == ("cityscapes", ["segmentation"])
    assert (dataset.status, dataset.report) == ("ready", [])
    assert dataset.classes == ["road", "sky", "car", "bicycle"]
    assert (dataset.count("train"), dataset.count("val")) == (4, 2)
    for item in IMAGES:
        expected_HW = np.choose(mask_values(item), [IGNORED_PIXEL, 1, 3, 4]).astype(np.uint8)
        expected_HW[0] = 2
        assert (imported_mask(dataset, f"bonn_{item.stem}_000019_leftImg8bit") == expected_HW).all()


def test_a_cityscapes_image_without_a_mask_is_reported(import_tree: ImportTree, data_dir: Path) -> None:
    tree = cityscapes_tree()
    del tree["set/gtFine/val/bonn/bonn_p5_000019_gtFine_labelIds.png"]
    assert_refused(import_tree(tree), data_dir, "missing_mask", "bonn_p5_000019_leftImg8bit.png")


def test_labels_in_the_metadata_of_an_imagefolder(import_tree: ImportTree) -> None:
    lines = [json.dumps({"file_name": f"{number}.png", "label": "cat" if number % 2 else "dog"}) for number in range(8)]
    tree: Tree = {f"train/{number}.png": image(number) for number in range(8)}
    dataset = import_tree({**tree, "train/metadata.jsonl": "\n".join(lines).encode()})
    assert (dataset.format, dataset.tasks, dataset.classes) == ("imagefolder", ["classification"], ["cat", "dog"])


@pytest.mark.parametrize(
    ("line", "code", "texts"),
    [
        ('{"file_name": "0.png", "text": "a cat"}', "bad_annotation", ["line 2", "file_name, text", "“label”"]),
        ('{"file_name": "9.png", "label": 1}', "missing_image", ["line 2", "9.png"]),
        ('{"file_name": "0.png", "label": 1', "annotations_broken", ["line 2"]),
        ('{"file_name": "0.png", "label": {"a": 1}}', "bad_annotation", ["line 2", "label"]),
        ('{"file_name": "0.png", "objects": {"bbox": [[1, 2]], "categories": [0]}}', "bad_annotation", ["bbox"]),
        (
            '{"file_name": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": []}}',
            "bad_annotation",
            ["objects"],
        ),
        ("[" * 100_000, "annotations_broken", ["line 2"]),
    ],
)
def test_bad_lines_of_an_imagefolder(
    import_tree: ImportTree, data_dir: Path, line: str, code: str, texts: list[str]
) -> None:
    tree: Tree = {f"train/{number}.png": image(number) for number in range(2)}
    first = '{"file_name": "1.png", "label": 0}\n'
    assert_refused(import_tree({**tree, "train/metadata.jsonl": (first + line).encode()}), data_dir, code, *texts)


def test_classes_in_file_names_are_offered_and_read_if_chosen() -> None:
    source = source_of({path: image(1) for path in ("a/cat.0.png", "a/cat.1.png", "b/dog.0.png", "b/dog.1.png")})
    layout = read_layout(source, Report())
    assert (layout.format, layout.classes) == ("class_folders", ["a", "b"])
    (offer,) = [offer for offer in layout.offers if offer.field == "class_from"]
    assert (offer.used, offer.choices) == ("folder", ("folder", "file_name"))
    back = ReadingOptions(format="file_name", class_from="folder")
    assert read_layout(source, Report(), reading=back).classes == ["a", "b"]
    for format_ in ("auto", "class_folders"):
        chosen = ReadingOptions(format=format_, class_from="file_name")
        layout = read_layout(source, Report(), reading=chosen)
        assert (layout.format, layout.classes) == ("file_name", ["cat", "dog"])
    assert sorted((item.file.path, item.label) for item in layout.images)[1] == ("a/cat.1.png", 0)
