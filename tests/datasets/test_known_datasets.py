"""Layouts of well-known datasets and libraries, written here by hand, become the same objects and splits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from tests.helpers.annotated import (
    CLASSES,
    COLOURS,
    IMAGES,
    SIZE,
    Tree,
    expected_boxes,
    imported_boxes,
    imported_mask,
    mask_values,
    png,
    source_of,
)
from tests.helpers.sources import assert_refused, codes, image
from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.formats.registry import read_layout
from trainingapp.datasets.sources.formats.visdrone import CATEGORIES
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
ROOT = "VisDrone2019-DET-"


def visdrone_tree(lines: str = "") -> Tree:
    """The classes stand for pedestrian, people and bicycle; `lines` are added to the first image."""
    tree: Tree = {}
    for item in IMAGES:
        tree[f"{ROOT}{item.split}/images/{item.stem}.png"] = item.content()
        text = "".join(
            f"{left},{top},{right - left},{bottom - top},1,{CLASSES.index(name) + 1},0,0\n"
            for name, (left, top, right, bottom) in item.boxes
        )
        content = lines + text if item.stem == "p1" else text
        tree[f"{ROOT}{item.split}/annotations/{item.stem}.txt"] = content.encode()
    return tree


def test_visdrone_without_its_ignored_regions(import_tree: ImportTree) -> None:
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
    # The bad line stands behind what is looked at to recognise the format.
    tree[path] = (good * 20).encode() + line.encode()
    count = len(good.splitlines()) * 20 + 1
    assert_refused(import_tree(tree), data_dir, code, f"annotations/p1.txt line {count}: {text}")


def cityscapes_tree() -> Tree:
    """Cat, dog and owl are road, car and bicycle; the background is sky in the first row and ego vehicle (1) below."""
    tree: Tree = {}
    for number, item in enumerate(IMAGES):
        name = f"bonn_{number:06d}_000019"
        values_HW = mask_values(item)
        labels_HW = np.choose(values_HW, [1, 7, 26, 33]).astype(np.uint8)
        labels_HW[0] = 23
        folder = f"{item.split}/bonn/{name}"
        tree[f"set/leftImg8bit/{folder}_leftImg8bit.png"] = item.content()
        tree[f"set/gtFine/{folder}_gtFine_labelIds.png"] = png(Image.fromarray(labels_HW))
        tree[f"set/gtFine/{folder}_gtFine_color.png"] = png(Image.fromarray(np.array(COLOURS, np.uint8)[values_HW]))
        tree[f"set/gtFine/{folder}_gtFine_polygons.json"] = b'{"imgHeight": 40, "imgWidth": 60, "objects": []}'
    return tree


def test_cityscapes(import_tree: ImportTree) -> None:
    dataset = import_tree(cityscapes_tree())
    assert (dataset.format, dataset.tasks) == ("cityscapes", ["segmentation"])
    assert (dataset.status, dataset.report) == ("ready", [])
    assert dataset.classes == ["road", "sky", "car", "bicycle"]
    assert (dataset.count("train"), dataset.count("val")) == (4, 2)
    for number, item in enumerate(IMAGES):
        expected_HW = np.choose(mask_values(item), [IGNORED_PIXEL, 1, 3, 4]).astype(np.uint8)
        expected_HW[0] = 2
        assert (imported_mask(dataset, f"bonn_{number:06d}_000019_leftImg8bit") == expected_HW).all()


def test_cityscapes_names_the_image_without_a_mask(import_tree: ImportTree, data_dir: Path) -> None:
    tree = cityscapes_tree()
    del tree["set/gtFine/val/bonn/bonn_000004_000019_gtFine_labelIds.png"]
    assert_refused(import_tree(tree), data_dir, "missing_mask", "bonn_000004_000019_leftImg8bit.png")


def imagefolder_tree(*, as_list: bool) -> Tree:
    tree: Tree = {f"{item.split}/{item.stem}.png": item.content() for item in IMAGES}
    for split in ("train", "val"):
        lines = []
        for item in IMAGES:
            boxes = [[box[0], box[1], box[2] - box[0], box[3] - box[1]] for _name, box in item.boxes]
            names = [name for name, _box in item.boxes]
            objects: object = {"id": [1], "bbox": boxes, "categories": names}
            if as_list:
                objects = [{"bbox": box, "category": name} for box, name in zip(boxes, names, strict=True)]
            if item.split == split:
                lines.append(json.dumps({"file_name": f"{item.stem}.png", "objects": objects}))
        tree[f"{split}/metadata.jsonl"] = "\n".join(lines).encode()
    return tree


def datumaro_tree(kind: str) -> Tree:
    tree: Tree = {}
    labels = [{"name": name, "parent": "", "attributes": []} for name in CLASSES]
    for split in ("train", "val"):
        items = []
        for item in IMAGES:
            if item.split != split:
                continue
            tree[f"images/{split}/{item.stem}.png"] = item.content()
            entries = []
            for name, (left, top, right, bottom) in item.boxes:
                values_HW = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
                values_HW[top:bottom, left:right] = 1
                rle = coco_masks.encode(values_HW)
                shapes: dict[str, dict[str, object]] = {
                    "bbox": {"bbox": [left, top, right - left, bottom - top]},
                    "polygon": {"points": [left, top, right, top, right, bottom, left, bottom]},
                    "mask": {"rle": {"size": rle["size"], "counts": rle["counts"].decode()}},
                }
                entries.append({"type": kind, "label_id": CLASSES.index(name), "group": 0, **shapes[kind]})
            about = {"path": f"{item.stem}.png", "size": [SIZE[1], SIZE[0]]}
            items.append({"id": item.stem, "annotations": entries, "image": about})
        content = {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}
        tree[f"annotations/{split}.json"] = json.dumps(content).encode()
    return tree


@pytest.mark.parametrize(
    ("tree", "name", "tasks"),
    [
        (imagefolder_tree(as_list=False), "imagefolder", ["detection"]),
        (imagefolder_tree(as_list=True), "imagefolder", ["detection"]),
        (datumaro_tree("bbox"), "datumaro", ["detection"]),
        (datumaro_tree("polygon"), "datumaro", ["detection", "segmentation"]),
        (datumaro_tree("mask"), "datumaro", ["detection", "segmentation"]),
    ],
)
def test_objects_of_libraries(import_tree: ImportTree, tree: Tree, name: str, tasks: list[str]) -> None:
    dataset = import_tree(tree)
    assert (dataset.status, dataset.report) == ("ready", [])
    assert (dataset.format, dataset.tasks, dataset.classes) == (name, tasks, CLASSES)
    assert imported_boxes(dataset) == expected_boxes()


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


def test_classes_in_file_names_are_offered_and_read_where_chosen() -> None:
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
